#include "cache/writeback_pace.h"

#include <algorithm>

namespace pcache {
namespace {

constexpr std::uint64_t kBurstMs = 100;    // what rest leaves unused is kept for so long
constexpr std::uint64_t kLongestMs = 200;  // between two looks

// a * b / c; no product of what a machine has overflows 128 bits.
std::uint64_t scaled(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  __extension__ using Wide = unsigned __int128;
  const Wide result = static_cast<Wide>(a) * b / c;
  return static_cast<std::uint64_t>(std::min<Wide>(result, WritebackPace::kUnlimited - 1));
}

}  // namespace

std::uint64_t WritebackPace::poll_ms(std::uint64_t max_age_ms) {
  return std::clamp<std::uint64_t>(max_age_ms / 8, 5, kLongestMs);
}

std::uint64_t WritebackPace::rate(const Limits& limits, const State& state) {
  if (state.dirty_bytes > limits.dirty_high) draining_down_ = true;
  if (state.dirty_bytes <= limits.dirty_low) draining_down_ = false;
  if (state.oldest_ms == 0) return 0;
  if (state.hurry) return kUnlimited;
  const std::uint64_t max = limits.rate_max == 0 ? kUnlimited : limits.rate_max;
  if (draining_down_ && max == kUnlimited) return kUnlimited;

  std::uint64_t rate = std::min(limits.rate_min, max);
  if (draining_down_) {
    rate = max;
  } else if (max != kUnlimited && state.dirty_bytes > limits.dirty_low && limits.dirty_high > limits.dirty_low) {
    rate += scaled(max - rate, state.dirty_bytes - limits.dirty_low, limits.dirty_high - limits.dirty_low);
  }

  const std::uint64_t age = state.now_ms - std::min(state.now_ms, state.oldest_ms);
  if (age < begin_ms(limits.max_age_ms)) return rate;
  if (max == kUnlimited) return kUnlimited;
  // It may have been written up to a poll before it was seen, and the backing's flush takes time too.
  const std::uint64_t time = limits.max_age_ms - std::min(limits.max_age_ms, 2 * poll_ms(limits.max_age_ms));
  if (age >= time) return kUnlimited;
  return std::max(rate, scaled(state.dirty_bytes, 1000, time - age) + 1);
}

std::uint64_t WritebackPace::allowance(std::uint64_t rate, std::uint64_t now_ms) {
  const std::uint64_t passed = std::min(now_ms - std::min(now_ms, since_ms_), kBurstMs);
  rate_ = rate;
  if (rate == kUnlimited) {
    since_ms_ = now_ms;
    credit_ = 0;
    return kUnlimited;
  }
  constexpr std::uint64_t kMost = std::uint64_t{1} << 61;
  const auto earned = static_cast<std::int64_t>(std::min(scaled(rate, passed, 1000), kMost));
  const auto most = static_cast<std::int64_t>(std::min(scaled(rate, kBurstMs, 1000), kMost));
  if (earned != 0 || rate == 0) since_ms_ = now_ms;  // what is less than a byte so far counts later
  credit_ = std::min(credit_ + earned, std::max<std::int64_t>(most, 1));
  return credit_ > 0 ? static_cast<std::uint64_t>(credit_) : 0;
}

void WritebackPace::spend(std::uint64_t bytes) {
  if (rate_ != kUnlimited) credit_ -= static_cast<std::int64_t>(bytes);
}

std::uint64_t WritebackPace::rest_ms() const {
  if (rate_ == kUnlimited || credit_ > 0) return 0;
  if (rate_ == 0) return kLongestMs;
  return std::clamp<std::uint64_t>(scaled(static_cast<std::uint64_t>(-credit_), 1000, rate_) + 1, 1, kLongestMs);
}

}  // namespace pcache
