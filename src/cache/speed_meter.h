// How fast something that goes on in pieces is.
#pragma once

#include <cstdint>
#include <mutex>

namespace pcache {

// Recent pieces count most. Thread-safe.
class SpeedMeter {
 public:
  // `bytes` took `ms`. Either may be 0: clocks are coarse, and waiting gets nothing done.
  void add(std::uint64_t bytes, std::uint64_t ms) {
    constexpr std::uint64_t kMemoryMs = 1000;
    const std::lock_guard lock(mutex_);
    bytes_ += bytes;
    ms_ += ms;
    while (ms_ > kMemoryMs) {
      bytes_ /= 2;
      ms_ /= 2;
    }
  }

  // 0 as long as too little is known.
  std::uint64_t bytes_per_second() const {
    constexpr std::uint64_t kLeastMs = 5;
    const std::lock_guard lock(mutex_);
    return ms_ < kLeastMs ? 0 : bytes_ * 1000 / ms_;
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t bytes_ = 0;
  std::uint64_t ms_ = 0;
};

}  // namespace pcache
