// Writes that wait for their turn, since space runs short: how many may go on, and when.

#include <chrono>
#include <optional>

#include "cache/cache.h"

namespace pcache {
namespace {

constexpr std::chrono::milliseconds kTick{1};
constexpr std::chrono::milliseconds kUntilKicked{60'000};

}  // namespace

std::chrono::milliseconds Cache::throttle_step() {
  std::chrono::milliseconds rest = kUntilKicked;
  for (const auto& device : devices()) rest = std::min(rest, let_through(*device));
  return rest;
}

std::chrono::milliseconds Cache::let_through(CachedDevice& device) {
  const std::uint64_t now = now_ms();
  const std::uint64_t segment = std::uint64_t{cache_dev_->geometry().slots_per_segment} * kBlockSize;
  device.set_write_rate(available_segments() * segment, mark() * segment, now);
  const std::uint64_t longest = device.setting(Setting::full_max_wait);
  while (!throttled_.empty()) {
    // One that has waited as long as it may goes on and finds the space there is, or none.
    auto next = throttled_.take([&](const WaitingWrites::Entry& waiting) {
      return waiting.device == &device && (waiting.op->waits_since_ms + longest <= now ||
                                           device.may_write(waiting.op->end - waiting.op->offset, now));
    });
    if (!next) break;
    device.resume(std::move(next->op));
  }
  return device.throttles() ? kTick : kUntilKicked;
}

}  // namespace pcache
