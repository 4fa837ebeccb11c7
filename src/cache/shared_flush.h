// Flushes of a backing device, one at a time: whoever comes while one is under way shares the next.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "cache/op_timer.h"
#include "pcache/backing_dev.h"
#include "pcache/completion.h"

namespace pcache {

// One at a time also because an operating system tells of a failure once: to the flush that comes first, though what is
// gone may be somebody else's. Thread-safe. Takes no memory. All who wait are answered before it is destroyed.
class SharedFlush {
 public:
  // Its user's, and untouched until `done` was called.
  struct Waiter {
    Completion done;
    Waiter* next = nullptr;
  };

  // `timer` learns how long each takes. Both outlive it.
  SharedFlush(BackingDev& backing, OpTimer& timer) : backing_(backing), timer_(timer) {}

  // `waiter` is done when all that the backing took before this call is durable, with 0, or with the flush's error.
  void add(Waiter& waiter);

  // How many have failed. Whoever sees it change between a write and the end of the flush after it has perhaps lost
  // that write.
  std::uint64_t failures() const { return failures_.load(std::memory_order_acquire); }

  // A user's flush has to tell of a failure, and one is enough. To be told are those until now; a flush that fails
  // tells of those until now; take_untold() is whether any are to be told that were not, which the caller then tells.
  void to_be_told() { raise(to_be_told_, failures()); }
  void tell() { raise(told_, failures()); }
  bool take_untold();

 private:
  struct Queue {
    Waiter* first = nullptr;
    Waiter* last = nullptr;
  };
  void begin();
  void finish(int error);
  // Returns whether it was less.
  static bool raise(std::atomic<std::uint64_t>& count, std::uint64_t to);

  BackingDev& backing_;
  OpTimer& timer_;
  std::uint64_t began_ns_ = 0;
  std::mutex mutex_;
  bool busy_ = false;
  Queue waiting_;    // for the next flush
  Queue under_way_;  // for this one
  std::atomic<std::uint64_t> failures_{0};
  std::atomic<std::uint64_t> to_be_told_{0};  // of the failures
  std::atomic<std::uint64_t> told_{0};        // of the failures
};

}  // namespace pcache
