// Aligned memory of a large size is kept when it is given back, and given out again.
//
// A cached device takes 8 MiB for writeback. Under the address sanitizer each run of a target would map that anew, with
// its shadow, which took more time than all that is to be tested. Memory that is kept is poisoned until it is given
// out, so that its use is found as it is elsewhere.

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "base/units.h"

#if defined(__SANITIZE_ADDRESS__)
#define PCACHE_POISONS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PCACHE_POISONS
#endif
#endif
#ifdef PCACHE_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

namespace {

constexpr std::size_t kLarge = 128 * pcache::kKiB;

class KeptBuffers {
 public:
  void* take(std::size_t size) {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& kept = kept_[size];
    if (kept.empty()) return nullptr;
    void* const memory = kept.back();
    kept.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(memory, size);
    return memory;
  }
  void note(void* memory, std::size_t size) {
    const std::lock_guard lock(mutex_);
    sizes_.emplace(memory, size);
  }
  // False: it is not of those that are kept.
  bool keep(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(memory);
    if (found == sizes_.end()) return false;
    kept_[found->second].push_back(memory);
    ASAN_POISON_MEMORY_REGION(memory, found->second);
    return true;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;
  std::unordered_map<std::size_t, std::vector<void*>> kept_;
};

// Never destroyed: other static objects may give memory back later.
KeptBuffers& kept_buffers() {
  static auto* const buffers = new KeptBuffers;
  return *buffers;
}

}  // namespace

void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto align = static_cast<std::size_t>(alignment);
  if (size >= kLarge) {
    if (void* const memory = kept_buffers().take(size)) return memory;
  }
  void* const memory = std::aligned_alloc(align, pcache::align_up(size == 0 ? 1 : size, align));
  if (memory == nullptr) throw std::bad_alloc();
  if (size >= kLarge) kept_buffers().note(memory, size);
  return memory;
}

void operator delete(void* memory, std::align_val_t) noexcept {
  if (memory != nullptr && !kept_buffers().keep(memory)) std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept {
  operator delete(memory, alignment);
}
