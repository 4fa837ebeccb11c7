// Lets writes through no faster than space comes free, the less of it is left the slower.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace pcache {

// Thread-safe.
class Throttle {
 public:
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

  // The bytes a second that writes may take while `left` of `mark` bytes of space are left and `speed` bytes a second
  // come free. Without limit from the mark on; as fast as space comes free at half of it, where it therefore settles;
  // a sixteenth of that where hardly any is left, so that a write finds out by itself whether there is some for it. In
  // between it has no step, so that latencies have none.
  static std::uint64_t rate(std::uint64_t left, std::uint64_t mark, std::uint64_t speed);

  // Writes need to ask take() only while this says so; asked by each of them.
  bool on() const { return on_.load(std::memory_order_relaxed); }
  void set_rate(std::uint64_t bytes_per_second, std::uint64_t now_ms);

  // Whether a write of `bytes` may go on now. One that is larger than what has accrued may go on too, and the next ones
  // wait for it the longer.
  bool take(std::uint64_t bytes, std::uint64_t now_ms);

 private:
  void accrue(std::uint64_t now_ms);

  std::atomic<bool> on_{false};
  std::mutex mutex_;  // guards all below
  std::uint64_t rate_ = kUnlimited;
  std::uint64_t since_ms_ = 0;
  std::int64_t credit_ = 0;  // in thousandths of a byte
};

}  // namespace pcache
