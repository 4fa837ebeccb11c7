#include "cache/throttle.h"

#include <algorithm>

namespace pcache {
namespace {

constexpr std::uint64_t kBurstMs = 2;                       // two looks of the thread that lets writes go on
constexpr std::uint64_t kFastest = std::uint64_t{1} << 38;  // bytes a second; keeps sums from overflowing
constexpr double kLeastPart = 1.0 / 16;                     // of the speed
constexpr std::uint64_t kLongestPause = 1000;               // milliseconds that are accounted for at once

}  // namespace

std::uint64_t Throttle::rate(std::uint64_t left, std::uint64_t mark, std::uint64_t speed) {
  if (left >= mark || speed == 0) return kUnlimited;
  const double part = static_cast<double>(left) / static_cast<double>(mark);
  const double fastest = static_cast<double>(std::min(speed, kFastest));
  return static_cast<std::uint64_t>(
      std::clamp(fastest * part / (1 - part), fastest * kLeastPart, fastest / kLeastPart));
}

void Throttle::set_rate(std::uint64_t bytes_per_second, std::uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (rate_ == kUnlimited) {
    since_ms_ = now_ms;
    credit_ = 0;
  } else {
    accrue(now_ms);
  }
  rate_ = bytes_per_second == kUnlimited ? kUnlimited : std::min(bytes_per_second, kFastest);
  on_.store(rate_ != kUnlimited, std::memory_order_relaxed);
}

bool Throttle::take(std::uint64_t bytes, std::uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (rate_ == kUnlimited) return true;
  accrue(now_ms);
  if (credit_ <= 0) return false;
  credit_ -= static_cast<std::int64_t>(bytes * 1000);
  return true;
}

void Throttle::accrue(std::uint64_t now_ms) {
  const std::uint64_t passed = std::min(now_ms - std::min(now_ms, since_ms_), kLongestPause);
  since_ms_ = now_ms;
  const auto most = static_cast<std::int64_t>(std::max<std::uint64_t>(rate_ * kBurstMs, 1));
  credit_ = std::min(credit_ + static_cast<std::int64_t>(rate_ * passed), most);
}

}  // namespace pcache
