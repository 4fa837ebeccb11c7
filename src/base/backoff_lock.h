// A lock whose release is a plain store.
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>

namespace pcache {

// For sections of some microseconds that end with non-temporal stores: releasing a futex-based mutex is a locked
// instruction, which waits until those stores have drained; here the next acquisition does, and by then they have. The
// price: a waiter is not woken, it looks again, at most 50 microseconds later. Meets the standard's Lockable.
class BackoffLock {
 public:
  bool try_lock() { return !locked_.exchange(true, std::memory_order_acquire); }

  void lock() {
    for (int attempt = 0; !try_lock(); ++attempt) wait(attempt);
  }

  void unlock() { locked_.store(false, std::memory_order_release); }

 private:
  void wait(int attempt) {
    constexpr int kSpins = 20;
    constexpr int kYields = 40;
    if (attempt < kSpins) {
      for (int i = 0; i < 16 && locked_.load(std::memory_order_relaxed); ++i) __builtin_ia32_pause();
    } else if (attempt < kYields) {
      sched_yield();
    } else {
      const timespec pause{0, 20'000};
      nanosleep(&pause, nullptr);
    }
  }

  std::atomic<bool> locked_{false};
};

}  // namespace pcache
