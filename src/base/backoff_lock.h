// A lock whose release is a plain store.
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>

namespace pcache {

// Tells the processor that a loop waits for another one.
inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Between two looks at what another thread is about to change: the first ones only spin, as long as `busy` says so,
// later ones give the processor away, and the last ones sleep.
template <typename Busy>
void back_off(unsigned attempt, Busy busy) {
  constexpr unsigned kSpinAttempts = 5;
  constexpr unsigned kYieldAttempts = 25;
  if (attempt < kSpinAttempts) {
    for (int i = 0; i < 20 && busy(); ++i) cpu_pause();
  } else if (attempt < kYieldAttempts) {
    sched_yield();
  } else {
    const timespec nap{0, 20'000 + static_cast<long>(attempt % 4) * 10'000};  // staggered: waiters fall out of step
    nanosleep(&nap, nullptr);
  }
}

// For sections of some microseconds that end with non-temporal stores: releasing a futex-based mutex is a locked
// instruction, which waits until those stores have drained; here the next acquisition does, and by then they have. The
// price: a waiter is not woken, it looks again, at most some 50 microseconds later (plus the timer's slack), and there
// is no order among waiters. Meets the standard's Lockable.
class BackoffLock {
 public:
  BackoffLock() = default;
  BackoffLock(const BackoffLock&) = delete;
  BackoffLock& operator=(const BackoffLock&) = delete;

  bool try_lock() { return !locked_.exchange(true, std::memory_order_acquire); }

  void lock() {
    // Spinning only looks, so that the holder keeps the cache line.
    for (unsigned attempt = 0; !try_lock(); ++attempt) {
      back_off(attempt, [this] { return locked_.load(std::memory_order_relaxed); });
    }
  }

  void unlock() { locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> locked_{false};
};

}  // namespace pcache
