// Switching the mode of a logical device in use.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <new>
#include <utility>

#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {
namespace {

constexpr std::chrono::milliseconds kAwaitEmpty{5};
constexpr std::chrono::milliseconds kAwaitEmptyIdle{100};  // while nothing can be made clean

}  // namespace

void CachedDevice::open_gate() {
  if (serves_ && is_direct(mode())) {
    appends_ = false;
    gate_.set(DirectGate::State::on);
  }
}

Status CachedDevice::begin_switch(const ModeChoice& to) {
  if (!serves_ || failed_ || stopped_) {
    return Status(Errc::failed, "logical device " + name_ + " does not run; its mode stays as it is");
  }
  if (to.in_force() == Mode::passthrough && lost_blocks() != 0) {
    return Status(Errc::integrity, "logical device " + name_ +
                                       " has lost data, and the backing device would answer with older data; write or "
                                       "discard those blocks first (lost_ranges in status --json)");
  }
  {
    const std::lock_guard lock(progress_mutex_);
    pending_mode_ = to;
    switch_error_ = Status();
    switch_epoch_.reset();
    switch_pending_ = true;
  }
  if (worker_.running()) {
    kick();
  } else if (count_in()) {  // stepped by hand
    while (switch_pending_ && switch_step()) {
    }
    count_out();
  }
  return Status();
}

std::optional<Status> CachedDevice::await_switch(std::uint64_t timeout_ms) {
  std::unique_lock lock(progress_mutex_);
  const bool ended = progress_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                        [this] { return !pending_mode_.has_value() || stopped_; });
  if (!ended) return std::nullopt;
  return pending_mode_ ? Status(Errc::failed, "logical device " + name_ + " was stopped") : switch_error_;
}

std::optional<ModeChoice> CachedDevice::pending_mode() const {
  const std::lock_guard lock(progress_mutex_);
  return pending_mode_;
}

ModeChoice CachedDevice::mode_choice() const {
  const std::lock_guard lock(progress_mutex_);
  return mode_choice_;
}

// From a mode that keeps dirty data to one that does not: what is dirty goes out while writes go on, each acknowledged
// when the backing has it, so that little is left; the rest goes out while they wait. Returns whether it got on.
bool CachedDevice::switch_step() {
  ModeChoice to;
  std::optional<std::uint64_t> first_drained;
  {
    const std::lock_guard lock(progress_mutex_);
    if (!pending_mode_) return false;
    to = *pending_mode_;
    first_drained = switch_epoch_;
  }
  const Mode from = mode();
  if (keeps_dirty(from) && !keeps_dirty(to.in_force())) {
    late_acks_ = true;
    if (!first_drained) {
      if (const Status status = cache_.commit({this}); !status.ok()) {
        end_switch(to, status);
        return false;
      }
      first_drained = durable_epoch_.load();
      const std::lock_guard lock(progress_mutex_);
      if (pending_mode_ == to) switch_epoch_ = first_drained;
    }
    if (clean_epoch_ < *first_drained) {
      if (writeback_step()) {
        release_acks(clean_epoch_);
        return true;
      }
      if (backing_failing() || !worker_.running()) end_switch(to, not_written_back());
      return false;
    }
  }
  const Status status = complete_switch(from, to);
  end_switch(to, status);
  return status.ok();
}

// Persist order, where the log is left: everything is on the backing, flushed, and the clean epoch says so; the record
// with the new mode; the first write around the log. Where the log is taken up again: the backing's flush; the segments
// of a void log are free; the record; the first append. Passthrough: the record, which makes the log void, comes before
// any write, and its segments are freed behind it.
Status CachedDevice::complete_switch(Mode from, const ModeChoice& to) {
  const Mode into = to.in_force();
  if (from == Mode::passthrough && into != from) {
    while (holds_segments()) {
      if (!release_void_step() && !clean_an_epoch().ok()) {
        return Status(Errc::failed, "cache device " + cache_label_ + ": a segment cannot be freed");
      }
    }
  }
  const bool moves = is_direct(from) || is_direct(into);
  if (moves) hold_operations();
  PCACHE_PAUSE_POINT("switch.held");
  Status status;
  if (is_direct(into) && (!is_direct(from) || into == Mode::passthrough)) {
    status = write_all_back();  // from a direct mode: nothing but the flush that its copies wait for
  } else if (is_direct(from) && !is_direct(into)) {
    if (const int error = flush_direct(); error != 0) status = backing_failure(error, "flush");
  }
  if (status.ok()) status = store_mode(to);
  PCACHE_PAUSE_POINT("switch.stored");
  if (status.ok()) {
    const std::lock_guard lock(progress_mutex_);
    mode_choice_ = to;
    mode_.store(into, std::memory_order_release);
  }
  if (moves) release_operations();
  return status;
}

Status CachedDevice::store_mode(const ModeChoice& to) {
  const std::lock_guard lock(settings_mutex_);
  SettingLayers next = settings_.layers();
  next.stored.set(Setting::mode, static_cast<std::uint64_t>(to.mode));
  const Status status = cache_.cache_dev().set_settings(place_, next.stored, to.detached);
  if (status.ok()) settings_.set(next);
  return status;
}

// On return nothing is appended, nothing is written around the log, and whatever comes waits. What entered the gate may
// wait for space, and of that there is more once an epoch more is clean, for which there is nobody but the caller.
void CachedDevice::hold_operations() {
  gate_.set(DirectGate::State::held);
  appends_ = false;
  await_appends();
  for (auto pause = kAwaitEmpty;; pause = clean_an_epoch().ok() ? kAwaitEmpty : kAwaitEmptyIdle) {
    PCACHE_PAUSE_POINT("gate.awaited");
    if (gate_.await_empty(pause)) return;
  }
}

Status CachedDevice::clean_an_epoch() {
  if (Status status = cache_.commit({this}); !status.ok()) return status;
  if (!writeback_step()) return not_written_back();
  release_acks(clean_epoch_);
  return Status();
}

// Lets go on what waits, in the mode that is in force now.
void CachedDevice::release_operations() {
  if (is_direct(mode())) {
    gate_.set(DirectGate::State::on);
    start_waiting_direct();
    cache_.resume_waiting(*this);  // what waits for space to append would wait for nothing
    return;
  }
  appends_ = true;
  gate_.set(DirectGate::State::off);
  start_waiting_direct();
}

Status CachedDevice::write_all_back() {
  epoch_used_ = true;  // by copies of what the backing has, if by nothing else: they shall count after a crash
  const auto left = [this] {
    const std::lock_guard lock(epoch_mutex_);
    return !closed_.empty() || epoch_used_;
  };
  while (left()) {
    if (Status status = clean_an_epoch(); !status.ok()) return status;
  }
  return Status();
}

Status CachedDevice::not_written_back() const {
  const std::lock_guard lock(progress_mutex_);
  return Status(Errc::failed, "the mode of logical device " + name_ +
                                  " stays as it is: not everything could be written "
                                  "back (" +
                                  trouble_ + ")");
}

void CachedDevice::end_switch(const ModeChoice& to, const Status& status) {
  {
    const std::lock_guard lock(progress_mutex_);
    if (!pending_mode_ || *pending_mode_ != to) return;  // another one is asked for by now
    pending_mode_.reset();
    switch_pending_ = false;
    switch_error_ = status;
    progress_.notify_all();
  }
  {
    const std::lock_guard lock(acks_mutex_);
    late_acks_ = false;
  }
  release_acks(~std::uint64_t{0});
}

// For a write in the log, counted in: its user hears of it when the backing has it.
void CachedDevice::acknowledge_late(Completion done) {
  try {
    const std::lock_guard lock(acks_mutex_);
    if (late_acks_) return acks_.push_back({epoch_.load(), done});
  } catch (const std::bad_alloc&) {
    // It is as durable as any write.
  }
  count_out();
  done(0);
}

void CachedDevice::release_acks(std::uint64_t clean_epoch) {
  for (;;) {
    LateAck ack;
    {
      const std::lock_guard lock(acks_mutex_);
      if (acks_.empty() || acks_.front().epoch > clean_epoch) return;
      ack = acks_.front();
      acks_.pop_front();
    }
    count_out();
    ack.done(0);
  }
}

// --- The void log of passthrough

bool CachedDevice::holds_segments() {
  if (probation_.segments() != 0) return true;
  return std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) {
    const std::lock_guard lock(stream->lock);
    return !stream->log.segments().empty();
  });
}

// Frees one segment, or the last ones. Returns whether it did.
bool CachedDevice::release_void_step() {
  const std::unique_lock reclaim = cache_.pause_reclaim();
  if (reclaim_probation(false)) return true;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    {
      const std::lock_guard lock(streams_[i]->lock);
      if (streams_[i]->log.segments().size() < 2) continue;
    }
    return reclaim_front(i);
  }
  return release_segments().ok();
}

}  // namespace pcache
