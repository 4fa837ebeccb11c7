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
  explicit HugeArray(std::size_t count) : HugeArray(count, count) {}
  // Of `count` that there may be one day, only the first `used` can be used for now: the others are addresses, of which
  // no account is taken anywhere.
  HugeArray(std::size_t count, std::size_t used) : count_(count) {
    void* memory = mmap(nullptr, bytes(count), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
    try {
      use(used);
    } catch (...) {
      munmap(data_, bytes(count_));
      throw;
    }
  }
  HugeArray(const HugeArray&) = delete;
  HugeArray& operator=(const HugeArray&) = delete;
  ~HugeArray() { munmap(data_, bytes(count_)); }

  // The first `used` can be used from now on, or more, if that was so already.
  void use(std::size_t used) {
    if (used <= used_ && used_ != 0) return;
    if (mprotect(data_, bytes(used), PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    // Random access: each page less is a miss less. Without them it works too.
    madvise(data_, bytes(used), MADV_HUGEPAGE);
    used_ = used;
  }

  std::size_t size() const { return count_; }
  std::size_t used() const { return used_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  static std::size_t bytes(std::size_t count) { return count == 0 ? 1 : count * sizeof(T); }

  std::size_t count_;
  std::size_t used_ = 0;
  T* data_;
};

}  // namespace pcache
