// Memory that direct I/O accepts.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace pcache {

// Move-only; a buffer moved from is empty.
class AlignedBuffer {
 public:
  // `size` bytes, uninitialised, at a multiple of `alignment` (a power of two). Throws std::bad_alloc.
  explicit AlignedBuffer(std::size_t size, std::size_t alignment = 4096)
      : data_(size == 0 ? nullptr : static_cast<std::byte*>(::operator new(size, std::align_val_t(alignment))),
              Free{std::align_val_t(alignment)}),
        size_(size) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    size_ = std::exchange(other.size_, 0);
    data_ = std::move(other.data_);
    return *this;
  }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() { return {data_.get(), size_}; }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(std::byte* memory) const { ::operator delete(memory, alignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_;
};

}  // namespace pcache
