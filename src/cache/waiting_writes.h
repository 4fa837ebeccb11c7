// Writes that cannot go on yet, first come first served.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "cache/write_op.h"

namespace pcache {

class CachedDevice;

// Thread-safe.
class WaitingWrites {
 public:
  struct Entry {
    CachedDevice* device = nullptr;
    std::unique_ptr<WriteOp> op;
  };

  // Whether none waits; asked by every write, without a lock.
  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }

  // Takes `op` in at the end, or as the first one, if `may_wait()`, which is asked under the lock: whoever changes what
  // it says and then looks through the queue misses none. Where it may not, `op` stays with the caller. Throws
  // bad_alloc, and `op` stays with the caller then too.
  template <typename MayWait>
  void add(CachedDevice& device, std::unique_ptr<WriteOp>& op, bool first, MayWait may_wait) {
    const std::lock_guard lock(mutex_);
    if (!may_wait()) return;
    Entry& entry = first ? queue_.emplace_front() : queue_.emplace_back();
    entry.device = &device;
    entry.op = std::move(op);
    count_.fetch_add(1, std::memory_order_relaxed);
  }

  // Takes out the one that waits longest of those that are `wanted`.
  template <typename Wanted>
  std::optional<Entry> take(Wanted wanted) {
    const std::lock_guard lock(mutex_);
    const auto next = std::find_if(queue_.begin(), queue_.end(), wanted);
    if (next == queue_.end()) return std::nullopt;
    std::optional<Entry> taken(std::move(*next));
    queue_.erase(next);
    count_.fetch_sub(1, std::memory_order_relaxed);
    return taken;
  }

  template <typename Wanted>
  std::size_t count(Wanted wanted) const {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count_if(queue_.begin(), queue_.end(), wanted));
  }

  // Calls `look` with each, which must not wait.
  template <typename Look>
  void for_each(Look look) const {
    const std::lock_guard lock(mutex_);
    std::for_each(queue_.begin(), queue_.end(), look);
  }

 private:
  mutable std::mutex mutex_;
  std::deque<Entry> queue_;
  std::atomic<std::uint64_t> count_{0};
};

}  // namespace pcache
