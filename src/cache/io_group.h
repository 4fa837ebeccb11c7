// Waiting for a number of operations on a backing device.
#pragma once

#include <condition_variable>
#include <mutex>

#include "base/pause_point.h"
#include "pcache/completion.h"

namespace pcache {

// Operations are counted in by start() and out by the completion it returns. Thread-safe; outlives its operations.
class IoGroup {
 public:
  ~IoGroup() { wait(); }

  // A completion for one more operation.
  Completion start() {
    const std::lock_guard lock(mutex_);
    ++pending_;
    return {[](void* context, int error) { static_cast<IoGroup*>(context)->finish(error); }, this};
  }

  // Returns when at most `pending` operations are left: 0, or the first error there was.
  int wait(unsigned pending = 0) {
    PCACHE_PAUSE_POINT("backing.wait");
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pending_ <= pending; });
    return error_;
  }

 private:
  void finish(int error) {
    const std::lock_guard lock(mutex_);
    --pending_;
    if (error_ == 0) error_ = error;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned pending_ = 0;
  int error_ = 0;
};

}  // namespace pcache
