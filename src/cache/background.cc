// When a logical device's epochs close, and when and how fast they are written back.

#include <algorithm>
#include <chrono>
#include <mutex>

#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {
namespace {

// An epoch closes by itself at this part of the cache device's slots, and at 4096 blocks (16 MiB): bounds the memory of
// writing one back, and lets a full cache free space piece by piece.
constexpr std::uint64_t kEpochShare = 32;
constexpr std::uint64_t kEpochBlocks = 4096;
constexpr std::chrono::milliseconds kRetry{1000};
constexpr std::chrono::milliseconds kRetryWhenDraining{100};
constexpr std::chrono::milliseconds kAwaitCommit{5};

}  // namespace

// However often it is kicked meanwhile: a backing that fails is not asked again and again.
std::chrono::milliseconds CachedDevice::rest_after_failure(std::chrono::milliseconds rest, std::uint64_t now) const {
  const std::lock_guard lock(progress_mutex_);
  if (failures_in_a_row_ == 0) return std::chrono::milliseconds(0);
  return rest - std::chrono::milliseconds(now - failed_ms_);
}

bool CachedDevice::epoch_is_full() const {
  const std::uint64_t most = std::min(kEpochBlocks, cache_.slots().size() / kEpochShare);
  return epoch_used_.load(std::memory_order_acquire) &&
         stored_bytes() / kBlockSize - epoch_blocks_.load(std::memory_order_relaxed) >= most;
}

WritebackPace::Limits CachedDevice::pace_limits() const {
  const std::uint64_t capacity = cache_.slots().size() * kBlockSize;
  WritebackPace::Limits limits;
  limits.dirty_high = amount_bytes(setting(Setting::dirty_high), capacity);
  // Or a device with a small share would only begin when there is nothing left of it.
  if (const std::uint32_t most = share().max; most < cache_.pool().total()) {
    const std::uint64_t bytes = most * cache_.cache_dev().geometry().slots_per_segment * kBlockSize;
    limits.dirty_high = std::min(limits.dirty_high, bytes / 2);
  }
  limits.dirty_low = std::min(amount_bytes(setting(Setting::dirty_low), capacity), limits.dirty_high);
  limits.rate_min = setting(Setting::writeback_rate_min);
  limits.rate_max = setting(Setting::writeback_rate_max);
  limits.max_age_ms = setting(Setting::dirty_max_age);
  return limits;
}

// What is dirty: the age of an open epoch counts from when this first saw it used.
CachedDevice::DirtyAge CachedDevice::look_at_epochs(std::uint64_t now) {
  const std::lock_guard lock(epoch_mutex_);
  DirtyAge age;
  if (epoch_used_.load(std::memory_order_acquire)) {
    if (epoch_opened_ms_ == 0) epoch_opened_ms_ = now;
    age.open_ms = age.oldest_ms = epoch_opened_ms_;
  }
  if (!closed_.empty()) {
    age.closed = true;
    age.oldest_ms = closed_.front().opened_ms;
  }
  return age;
}

// What of the pass under way is written counts as space that is there again: it soon will, and in smaller steps.
void CachedDevice::set_write_rate(std::uint64_t left, std::uint64_t mark, std::uint64_t now_ms) {
  const std::uint64_t soon = pass_slots_written_.load(std::memory_order_relaxed) * kBlockSize;
  const bool throttled = serves_ && full_policy() != FullPolicy::error;
  throttle_.set_rate(
      throttled ? Throttle::rate(left + soon, mark, writeback_speed_.bytes_per_second()) : Throttle::kUnlimited,
      now_ms);
}

std::chrono::milliseconds CachedDevice::background_step() {
  using std::chrono::milliseconds;
  const std::uint64_t now = cache_.now_ms();
  const bool draining = drain_epoch_ > clean_epoch_;
  const milliseconds retry = draining ? kRetryWhenDraining : kRetry;
  if (const auto rest = rest_after_failure(retry, now); rest.count() > 0) return rest;
  if (in_doubt() && !settle_doubts()) return retry;
  if (switch_pending_) return switch_step() ? milliseconds(0) : kRetryWhenDraining;
  // What a read brought in while the log was left may be of an epoch that has to become clean first.
  if (mode() == Mode::passthrough && holds_segments() && release_void_step()) return milliseconds(0);

  const WritebackPace::Limits limits = pace_limits();
  const std::uint64_t dirty = dirty_bytes();
  const bool hurry = draining || hurries_ || cache_.nearly_full() || short_of_share();
  const DirtyAge age = look_at_epochs(now);
  const std::uint64_t rate = pace_.rate(limits, {now, dirty, age.oldest_ms, hurry});

  const std::uint64_t close_ms = std::min<std::uint64_t>(cache_.options().epoch_max_ms.value_or(kEpochMaxMs),
                                                         WritebackPace::begin_ms(limits.max_age_ms));
  const bool due = age.open_ms != 0 && (now - age.open_ms >= close_ms || epoch_is_full());
  if (due || (rate != 0 && !age.closed && age.open_ms != 0)) {
    if (Status status = cache_.commit({this}); !status.ok()) {
      writeback_failed(status);
      return kRetry;
    }
    if (!age.closed) return milliseconds(0);
  }
  if (rate != 0 && age.closed) {
    const std::uint64_t bytes = pace_.allowance(rate, now);
    if (bytes == 0) return milliseconds(pace_.rest_ms());
    const WriteBack done = write_back(bytes);
    pace_.spend(done.bytes);
    if (done.step == WriteBack::Step::failed) return retry;
    if (done.step == WriteBack::Step::none) return kAwaitCommit;
    return milliseconds(pace_.rest_ms());
  }
  // Nobody tells of a first write.
  const std::uint64_t poll = WritebackPace::poll_ms(limits.max_age_ms);
  if (age.open_ms == 0) return milliseconds(poll);
  return milliseconds(std::clamp<std::uint64_t>(close_ms - std::min(close_ms, now - age.open_ms), 1, poll));
}

}  // namespace pcache
