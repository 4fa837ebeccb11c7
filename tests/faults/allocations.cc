#include "tests/faults/allocations.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace pcache {
namespace {

thread_local std::uint64_t allocations = 0;
std::atomic<bool> counting_down{false};
std::atomic<std::int64_t> left{0};
std::atomic<bool> refused{false};

void* allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  if (counting_down.load(std::memory_order_relaxed)) {
    if (left.fetch_sub(1) == 0) {
      refused = true;
      return nullptr;
    }
  }
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

std::uint64_t allocations_of_this_thread() { return allocations; }

FailingAllocation::FailingAllocation(std::uint64_t after) {
  left = static_cast<std::int64_t>(after);
  refused = false;
  counting_down = true;
}

bool FailingAllocation::stop() {
  counting_down = false;
  return refused;
}

}  // namespace pcache

void* operator new(std::size_t size) { return pcache::allocate_or_throw(size, 0); }
void* operator new[](std::size_t size) { return pcache::allocate_or_throw(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return pcache::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return pcache::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return pcache::allocate(size, 0); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return pcache::allocate(size, 0); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
