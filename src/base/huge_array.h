// A large zero-initialised array whose memory is only taken page by page as it is touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace pcache {

// For types that are valid when all their bytes are zero and need no destruction.
template <typename T>
class HugeArray {
 public:
  explicit HugeArray(std::size_t count) : count_(count) {
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, bytes(), MADV_HUGEPAGE);  // random access: each page less is a miss less; without them it works too
    data_ = static_cast<T*>(memory);
  }
  HugeArray(const HugeArray&) = delete;
  HugeArray& operator=(const HugeArray&) = delete;
  ~HugeArray() { munmap(data_, bytes()); }

  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  std::size_t bytes() const { return count_ == 0 ? 1 : count_ * sizeof(T); }

  std::size_t count_;
  T* data_;
};

}  // namespace pcache
