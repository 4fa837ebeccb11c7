// A cache device becomes larger or smaller while it is in use.

#include <algorithm>
#include <mutex>

#include "base/size_text.h"
#include "cache/cache.h"

namespace pcache {
namespace {

// Of a device that keeps something in segments that are to be given up, and cannot be moved.
Status stuck(const CachedDevice& device) {
  const LogicDevStats stats = device.stats();
  const std::string name = "logical device " + stats.name;
  if (stats.state == "failed") {
    return Status(Errc::integrity, name + " failed, and what it holds cannot be moved: " + stats.detail);
  }
  if (stats.state != "running") {
    return Status(Errc::dirty,
                  name + " holds " + format_size(stats.dirty_bytes) + " that cannot be written back: " + stats.detail);
  }
  return Status(Errc::failed, "backing device " + stats.backing + " does not take what logical device " + stats.name +
                                  " holds: " + stats.detail);
}

}  // namespace

// Persist order: the medium's new length, all of it allocated; copies of the new segments' entries that are damaged;
// the superblock. A crash leaves the old size or the new one, and at worst a file that is longer than the cache device.
Status Cache::grow(std::uint64_t size_bytes) {
  const std::lock_guard reclaim(reclaim_mutex_);
  if (shrink_) return Status(Errc::busy, cache_dev_->space().path() + " is becoming smaller; wait for that first");
  PmemSpace& space = cache_dev_->space();
  if (size_bytes == 0) size_bytes = space.available();
  const std::uint64_t now = cache_dev_->size_bytes();
  if (size_bytes < now) {
    return Status(Errc::invalid, space.path() + " has " + std::to_string(now) +
                                     " bytes as a cache device, not more than " + std::to_string(size_bytes) +
                                     "; pcachefs shrink makes it smaller");
  }
  const auto longer = cache_dev_->plan_size(size_bytes);
  if (!longer) return longer.status();
  for (const auto& device : devices()) device->reserve_segments(longer->segment_count);
  if (Status status = space.grow(now, size_bytes); !status.ok()) return status;
  slots_.set_size(longer->slot_count());
  Status status = pool_.grow(*longer);
  if (!status.ok()) slots_.set_size(std::uint64_t{pool_.total()} * longer->slots_per_segment);
  reclaim_.kick();
  prefault_.kick();
  return status;
}

Status Cache::begin_shrink(std::uint64_t size_bytes) {
  const std::lock_guard reclaim(reclaim_mutex_);
  const std::string& path = cache_dev_->space().path();
  if (shrink_) return Status(Errc::busy, path + " is becoming smaller already");
  if (size_bytes > cache_dev_->size_bytes()) {
    return Status(Errc::invalid, path + " has only " + std::to_string(cache_dev_->size_bytes()) +
                                     " bytes as a cache device; pcachefs grow makes it larger");
  }
  if (size_bytes % kMediaPage != 0) {
    return Status(Errc::invalid, path + " cannot have " + std::to_string(size_bytes) +
                                     " bytes, which is no multiple of " + std::to_string(kMediaPage));
  }
  const auto shorter = cache_dev_->plan_size(size_bytes);
  if (!shorter) return shorter.status();
  if (cache_dev_->damaged_device_records() != 0 || orphaned_segments_ != 0) {
    return Status(Errc::integrity,
                  path +
                      " holds segments of logical devices that it does not know any more, which nobody "
                      "can move");
  }
  if (Status status = check_fits(shorter->segment_count); !status.ok()) return status;
  if (Status status = pool_.fence_off(shorter->segment_count); !status.ok()) return status;
  shrink_ = *shorter;
  shrinks_to_ = shorter->segment_count;
  for (const auto& device : devices()) device->hurry(true);
  {
    const std::lock_guard lock(shrunk_mutex_);
    shrunk_.reset();
    left_segments_ = pool_.fenced_in_use();
  }
  reclaim_.kick();
  return Status();
}

// What logical devices need however little is in them: a head and a reserve for each stream, what reclaim keeps free,
// and what they keep to themselves.
Status Cache::check_fits(std::uint32_t segments) const {
  const std::uint32_t ahead = ahead_of(segments);
  if (segments < 2 * reserve() + ahead) {
    return Status(Errc::no_space, cache_dev_->space().path() + ": its logical devices need " +
                                      std::to_string(2 * reserve() + ahead) + " segments at least, and " +
                                      std::to_string(segments) + " would be left");
  }
  std::vector<std::uint32_t> mins;
  for (const auto& device : devices()) mins.push_back(device->share_in(segments).min);
  return check_shares(mins, segments, reserve() + ahead, cache_dev_->geometry().segment_size, cache_dev_->label());
}

void Cache::cancel_shrink() {
  const std::lock_guard reclaim(reclaim_mutex_);
  if (shrink_) end_shrink(Status(Errc::failed, cache_dev_->space().path() + ": it was cancelled"));
}

std::optional<Status> Cache::await_shrink(std::uint64_t timeout_ms, std::uint64_t& left_bytes) {
  std::unique_lock lock(shrunk_mutex_);
  shrunk_changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return shrunk_.has_value(); });
  left_bytes = std::uint64_t{left_segments_} * cache_dev_->geometry().segment_size;
  return shrunk_;
}

// Under reclaim_mutex_. It stays as large as it was, unless `status` says otherwise.
void Cache::end_shrink(const Status& status) {
  shrink_.reset();
  shrinks_to_ = 0;
  for (const auto& device : devices()) device->hurry(false);
  pool_.open_up();
  const std::lock_guard lock(shrunk_mutex_);
  left_segments_ = 0;
  shrunk_ = status;
  shrunk_changed_.notify_all();
}

// Under reclaim_mutex_. Empties segments that are to be given up, a little; the last step gives them up. Returns
// whether it got on.
bool Cache::shrink_step() {
  if (!shrink_) return false;
  bool got_on = false;
  for (const auto& device : devices()) {
    switch (device->move_out_of(shrink_->segment_count)) {
      case CachedDevice::MoveOut::none:
        break;
      case CachedDevice::MoveOut::moved:
        got_on = true;
        break;
      case CachedDevice::MoveOut::waits:
        if (device->failed() || !device->serves() || device->backing_failing()) {
          end_shrink(stuck(*device));
          return true;
        }
        device->hurry(true);  // also one that came meanwhile
        break;
    }
  }
  const std::uint32_t left = pool_.fenced_in_use();
  {
    const std::lock_guard lock(shrunk_mutex_);
    left_segments_ = left;
  }
  if (left == 0) {
    end_shrink(give_up_segments());
    return true;
  }
  return got_on;
}

// Persist order: the entries of the segments, free since they were emptied; the superblock; the medium's end. A crash
// leaves the old size or the new one, and at worst a file that is longer than the cache device.
Status Cache::give_up_segments() {
  const std::lock_guard commit(commit_mutex_);
  const std::lock_guard prefault(prefault_mutex_);
  if (Status status = pool_.shrink(*shrink_); !status.ok()) return status;
  slots_.set_size(shrink_->slot_count());
  return cache_dev_->space().shrink(shrink_->size_bytes);
}

}  // namespace pcache
