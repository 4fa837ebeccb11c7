// How often each file is open.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

namespace pcache {

// Thread-safe. Files go by their inode numbers.
class OpenFiles {
 public:
  void opened(std::uint64_t inode) {
    const std::lock_guard lock(mutex_);
    ++counts_[inode];
  }

  void closed(std::uint64_t inode) {
    const std::lock_guard lock(mutex_);
    const auto it = counts_.find(inode);
    if (it == counts_.end()) return;
    if (--it->second == 0) counts_.erase(it);
    changed_.notify_all();
  }

  // Waits for `timeout_ms` at most until the file is not open. Returns how often it is.
  std::uint64_t await_closed(std::uint64_t inode, std::uint64_t timeout_ms) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return !counts_.contains(inode); });
    const auto it = counts_.find(inode);
    return it == counts_.end() ? 0 : it->second;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::map<std::uint64_t, std::uint64_t> counts_;
};

}  // namespace pcache
