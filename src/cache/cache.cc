#include "cache/cache.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/pause_point.h"
#include "cache/io_group.h"
#include "media/superblock.h"

namespace pcache {
namespace {

// A stream writes to one segment at a time and needs a second one to go on to; all devices together may take up to a
// quarter of the segments that way.
constexpr std::uint32_t kStreamShare = 4;

constexpr std::uint64_t kCheckMs = 1000;  // between two looks at the medium, however busy reclaim is

template <std::size_t N>
bool copy_text(std::array<char, N>& to, const std::string& text) {
  if (text.empty() || text.size() >= N) return false;
  std::copy(text.begin(), text.end(), to.begin());
  return true;
}

}  // namespace

Status Cache::check_ack(const CacheOptions& options, const PmemSpace& space) {
  if (options.ack != Ack::flush || space.granularity() == Granularity::page) return Status();
  return Status(Errc::invalid, space.path() + ": ack=flush is for page-granularity media; this one is " +
                                   to_string(space.granularity()) + ", where a write is durable anyway");
}

Result<std::unique_ptr<Cache>> Cache::open(std::unique_ptr<CacheDev> cache_dev, const CacheOptions& options,
                                           Clock clock) {
  if (Status status = check_cache_options(options); !status.ok()) return status;
  if (Status status = check_ack(options, cache_dev->space()); !status.ok()) return status;
  std::unique_ptr<Cache> cache(new Cache(std::move(cache_dev), options, std::move(clock)));
  // A crash during a removal leaves segments of a device that is not recorded any more. Others without a device are of
  // one whose record was lost, and stay.
  const auto devices = cache->cache_dev_->devices();
  if (cache->cache_dev_->damaged_device_records() == 0) {
    for (const auto& segment : cache->pool_.in_use()) {
      const bool known = std::any_of(devices.begin(), devices.end(), [&](const CacheDev::Device& device) {
        return device.record.device_id == segment.entry.device_id;
      });
      if (known) continue;
      if (!cache->cache_dev_->was_removed(segment.entry.device_id)) {
        ++cache->orphaned_segments_;
        continue;
      }
      if (cache->cache_dev_->read_only()) continue;
      if (Status status = cache->pool_.release(segment.id); !status.ok()) return status;
    }
  }
  return cache;
}

void Cache::on_replay(std::function<void(std::uint64_t done, std::uint64_t segments)> tell) {
  tell_replay_ = std::move(tell);
  to_replay_ = tell_replay_ ? pool_.in_use().size() : 0;
  replayed_ = 0;
}

void Cache::replayed(std::uint64_t segments) {
  replayed_ += segments;
  if (tell_replay_ && segments != 0) tell_replay_(replayed_, to_replay_);
}

Cache::Cache(std::unique_ptr<CacheDev> cache_dev, const CacheOptions& options, Clock clock)
    : cache_dev_(std::move(cache_dev)),
      options_(options),
      clock_(std::move(clock)),
      pool_(*cache_dev_),
      slots_(cache_dev_->geometry().slot_count(),
             std::size_t{cache_dev_->growth_limit()} * cache_dev_->geometry().slots_per_segment),
      ghosts_(cache_dev_->geometry().slot_count()),
      page_media_(cache_dev_->space().granularity() == Granularity::page),
      ack_(options.ack.value_or(page_media_ ? Ack::flush : Ack::durable)),
      ack_persist_(ack_ == Ack::durable && page_media_ ? Persist::synced : Persist::fenced),
      reclaim_("reclaim",
               [this] {
                 if (const std::uint64_t now = now_ms(); now - checked_ms_ >= kCheckMs) {
                   checked_ms_ = now;
                   check_medium();
                 }
                 const bool awaited = !waiting_.empty() || !awaiting_share_.empty() || shrinks_to_ != 0;
                 return std::chrono::milliseconds(reclaim_step() ? 0 : awaited ? 10 : 1000);
               }),
      sync_("sync",
            [this] {
              close_full_epochs();
              return std::chrono::milliseconds(sync_step() ? 0 : 60'000);
            }),
      prefault_("prefault", [this] { return prefault_step() ? std::chrono::hours(0) : std::chrono::hours(1); }),
      throttle_("throttle", [this] { return throttle_step(); }) {}

// Persist order: the whole mapping, then for each device that it is closed.
Cache::~Cache() {
  prefault_.stop();
  throttle_.stop();
  reclaim_.stop();
  for (const auto& device : devices()) device->stop();
  sync_.stop();
  sync_step();
  // As after a crash, unless everything that was stored is durable.
  if (cache_dev_->read_only() || !commit_error_.ok()) return;
  if (!cache_dev_->space().persist(0, cache_dev_->space().size()).ok()) return;
  for (const auto& device : devices()) (void)device->mark_closed();
}

std::vector<std::shared_ptr<CachedDevice>> Cache::devices() const {
  const std::lock_guard lock(devices_mutex_);
  return devices_;
}

Result<std::shared_ptr<CachedDevice>> Cache::attach(const CacheDev::Device& device,
                                                    std::unique_ptr<BackingDev> backing) {
  auto attached = std::make_shared<CachedDevice>(*this, device, std::move(backing));
  std::vector<SegmentPool::InUse> segments = pool_.in_use();
  std::erase_if(segments, [&](const auto& s) { return s.entry.device_id != device.record.device_id; });
  if (attached->mode() == Mode::passthrough && !cache_dev_->read_only()) {
    for (const auto& segment : segments) {
      if (Status status = pool_.release(segment.id); !status.ok()) return status;
    }
  }
  if (Status status = attached->replay(std::move(segments)); !status.ok()) return status;
  if (!cache_dev_->read_only()) {
    if (Status status = attached->settle(); !status.ok()) return status;
  }
  attached->open_gate();
  const std::lock_guard lock(devices_mutex_);
  devices_.reserve(devices_.size() + 1);
  if (started_) attached->start();  // what can fail comes before what others see
  devices_.push_back(attached);
  reserve_.fetch_add(device.record.streams, std::memory_order_relaxed);
  return attached;
}

std::uint32_t Cache::streams_for_new_device() const {
  std::uint32_t used = 0;
  for (const auto& device : cache_dev_->devices()) used += device.record.streams;
  const std::uint32_t allowed = std::max(1U, segments_to_be() / kStreamShare);
  if (used >= allowed) return 0;
  const std::uint32_t fair = segments_to_be() >= 128 ? 4 : segments_to_be() >= 32 ? 2 : 1;
  return std::min(fair, allowed - used);
}

Status Cache::check_share_min(const CachedDevice* of, std::uint64_t share_min, std::uint32_t more_streams) const {
  const std::uint64_t segment_size = cache_dev_->geometry().segment_size;
  std::vector<std::uint32_t> mins{share_of(share_min, kPercent | 100, segments_to_be(), segment_size).min};
  for (const auto& device : devices()) {
    if (device.get() != of) mins.push_back(device->share().min);
  }
  return check_shares(mins, segments_to_be(), reserve() + more_streams + ahead_of(segments_to_be()), segment_size,
                      cache_dev_->label());
}

Result<std::shared_ptr<CachedDevice>> Cache::add(const std::string& name, std::unique_ptr<BackingDev> backing,
                                                 const Settings& settings) {
  if (backing->size_bytes() > kMaxDeviceBytes) {
    return Status(Errc::invalid, "backing device " + backing->path() + " has more than 2^60 bytes");
  }
  DeviceRecord record{};
  record.streams = streams_for_new_device();
  record.size_bytes = backing->size_bytes();
  if (record.streams == 0) {
    return Status(Errc::no_space, "cache device " + cache_dev_->label() + " with " + std::to_string(pool_.total()) +
                                      " segments has no room for another logical device; use a larger cache device or "
                                      "a smaller --segment-size");
  }
  if (!copy_text(record.name, name) || !copy_text(record.backing_path, backing->path()) ||
      !copy_text(record.backing_id, backing->identity().id)) {
    return Status(Errc::invalid, "the name, path or identity of backing device " + backing->path() + " is too long");
  }
  store_settings(record, settings);
  // What is kept of the backing counts after a power cut, and so has to be on it.
  {
    IoGroup flush;
    backing->flush(flush.start());
    if (const int error = flush.wait(); error != 0) {
      return Status::from_errno(error, "backing device " + backing->path() + ": cannot flush");
    }
  }
  const std::lock_guard shares(shares_mutex_);
  const Settings in_force = layers_at_opening(options_, name, settings).in_force();
  if (Status status = check_share_min(nullptr, in_force.get(Setting::share_min), record.streams); !status.ok()) {
    return status;
  }
  const auto place = cache_dev_->add_device(record);
  if (!place) return place.status();
  // A device that cannot be brought up must not be there at the next opening.
  try {
    auto attached = attach({*place, record}, std::move(backing));
    if (!attached) (void)cache_dev_->remove_device(*place);
    return attached;
  } catch (...) {
    (void)cache_dev_->remove_device(*place);
    throw;
  }
}

Status Cache::remove(const std::shared_ptr<CachedDevice>& device) {
  device->stop();
  const std::lock_guard reclaim(reclaim_mutex_);
  if (Status status = cache_dev_->remove_device(device->place()); !status.ok()) return status;
  Status status = device->release_segments();
  drop(device);
  return status;
}

// Nothing to do for one that was taken out before.
void Cache::drop(const std::shared_ptr<CachedDevice>& device) {
  const std::lock_guard lock(devices_mutex_);
  if (std::erase(devices_, device) == 0) return;
  reserve_.fetch_sub(device->stream_count(), std::memory_order_relaxed);
}

// It does not count as closed: others may still take its clean segments.
Status Cache::park(const std::shared_ptr<CachedDevice>& device) {
  if (Status status = commit({device.get()}); !status.ok()) return status;
  if (Status status = cache_dev_->set_parked(device->place(), true); !status.ok()) return status;
  device->set_parked();
  device->stop();
  const std::lock_guard reclaim(reclaim_mutex_);  // it appends too
  const std::lock_guard lock(commit_mutex_);
  return page_media_ ? persist_all() : Status();
}

Result<std::shared_ptr<CachedDevice>> Cache::unpark(const std::shared_ptr<CachedDevice>& parked,
                                                    std::unique_ptr<BackingDev> backing) {
  const auto held = cache_dev_->devices();
  const auto found =
      std::find_if(held.begin(), held.end(), [&](const auto& device) { return device.place == parked->place(); });
  if (found == held.end()) return Status(Errc::not_found, "there is no logical device " + parked->name());
  if (Status status = cache_dev_->set_parked(parked->place(), false); !status.ok()) return status;
  CacheDev::Device device = *found;
  set_flag(device.record, DeviceRecord::kParked, false);
  {
    const std::lock_guard reclaim(reclaim_mutex_);
    parked->forget_slots();
    drop(parked);
  }
  return attach(device, std::move(backing));
}

Status Cache::take_out(const std::shared_ptr<CachedDevice>& device) {
  device->stop();
  const std::lock_guard reclaim(reclaim_mutex_);  // it appends too
  if (!device->failed()) {
    Status status;
    {
      const std::lock_guard lock(commit_mutex_);
      status = persist_all();
    }
    if (status.ok()) status = device->mark_closed();
    if (!status.ok()) {
      device->fail(status.message());
      return status;
    }
  }
  device->forget_slots();
  drop(device);
  return Status();
}

Status Cache::persist_all() {
  if (commit_error_.ok()) commit_error_ = cache_dev_->space().persist(0, cache_dev_->space().size());
  return commit_error_;
}

void Cache::check_medium() {
  const std::lock_guard check(check_mutex_);
  {
    const std::lock_guard lock(lost_mutex_);
    if (!lost_.ok()) return;
  }
  Status health = cache_dev_->space().health();
  if (health.ok() && !cache_dev_->any_superblock_readable()) {
    health = Status(Errc::failed, cache_dev_->space().path() + ": the cache device cannot be read any more");
  }
  if (health.ok()) return;
  {
    const std::lock_guard lock(lost_mutex_);
    lost_ = health;
  }
  for (const auto& device : devices()) {
    device->fail(health.message());
    fail_waiting(device.get());
  }
}

void Cache::start() {
  const std::lock_guard lock(devices_mutex_);
  started_ = true;
  reclaim_.start();
  sync_.start();
  throttle_.start();
  if (!page_media_) prefault_.start();
  for (const auto& device : devices_) device->start();
}

void Cache::wait_for_space(CachedDevice& device, std::unique_ptr<WriteOp> op, bool first, bool for_share) {
  await(for_share ? awaiting_share_ : waiting_, device, std::move(op), first);
  if (for_share) device.kick();
  reclaim_.kick();
}

void Cache::wait_for_turn(CachedDevice& device, std::unique_ptr<WriteOp> op) {
  await(throttled_, device, std::move(op), false);
  throttle_.kick();
}

void Cache::await(WaitingWrites& queue, CachedDevice& device, std::unique_ptr<WriteOp> op, bool first) {
  if (op->waits_since_ms == 0) op->waits_since_ms = now_ms();
  try {
    queue.add(device, op, first, [&device] { return !device.stopped(); });
  } catch (const std::bad_alloc&) {
    // Not in the queue, and therefore still here.
  }
  if (op) device.finish(std::move(op), EIO);
}

Cache::Waiting Cache::waiting(const CachedDevice& device) const {
  Waiting waiting;
  const std::uint64_t now = now_ms();
  for (const WaitingWrites* queue : {&waiting_, &awaiting_share_, &throttled_}) {
    if (queue->empty()) continue;
    queue->for_each([&](const WaitingWrites::Entry& entry) {
      if (entry.device != &device) return;
      ++waiting.writes;
      waiting.longest_ms = std::max(waiting.longest_ms, now - std::min(now, entry.op->waits_since_ms));
    });
  }
  return waiting;
}

// Lets the writes that wait go on, first come first served, as long as there are free segments.
bool Cache::wake_writers() {
  bool woke = false;
  // Writes of a device that had all it may have wait for nobody else. Where there is no space at all they go on waiting
  // with the others.
  while (wake_writer(awaiting_share_, [](const WaitingWrites::Entry& w) {
    return !w.device->at_share_max() || w.device->may_take_share(*w.op);
  })) {
    woke = true;
  }
  while (pool_.free_count() > reserve() && wake_writer(waiting_, [](const WaitingWrites::Entry&) { return true; })) {
    woke = true;
  }
  // What others hold on to must not stop a device whose own segments become clean.
  for (const auto& device : devices()) {
    if (pool_.free_count() == 0) break;
    // One that cannot go on with it would be back in the queue at once, for ever.
    woke |= wake_writer(waiting_, [&](const WaitingWrites::Entry& w) {
      return w.device == device.get() && device->may_take_share(*w.op);
    });
  }
  return woke;
}

// Lets the write that waits longest, of those that are `wanted`, go on. Returns whether there was one.
template <typename Wanted>
bool Cache::wake_writer(WaitingWrites& queue, Wanted wanted) {
  std::optional<WaitingWrites::Entry> next = queue.take(wanted);
  if (!next) return false;
  next->op->waited = true;
  next->device->resume(std::move(next->op));
  return true;
}

void Cache::fail_waiting(const CachedDevice* device) {
  for (WaitingWrites* queue : {&waiting_, &awaiting_share_, &throttled_}) fail_all(*queue, device, EIO);
}

void Cache::resume_waiting(const CachedDevice& device) {
  for (WaitingWrites* queue : {&waiting_, &awaiting_share_, &throttled_}) {
    for_each_waiting(*queue, device, [](WaitingWrites::Entry& next) { next.device->resume(std::move(next.op)); });
  }
}

void Cache::fail_all(WaitingWrites& queue, const CachedDevice* device, int error) {
  for_each_waiting(queue, *device,
                   [error](WaitingWrites::Entry& failed) { failed.device->finish(std::move(failed.op), error); });
}

// Takes out of the queue what `device` has there now, one by one; others may come meanwhile.
template <typename Use>
void Cache::for_each_waiting(WaitingWrites& queue, const CachedDevice& device, Use use) {
  const auto is_its = [&device](const WaitingWrites::Entry& waiting) { return waiting.device == &device; };
  for (std::size_t left = queue.count(is_its); left > 0; --left) {
    std::optional<WaitingWrites::Entry> next = queue.take(is_its);
    if (!next) return;
    use(*next);
  }
}

// Nothing that is clean is left to make space from. A write that waits for a backing which takes nothing would wait for
// ever; and some are not to wait, or not that long. As long as writeback gets on, a write that has waited long goes on
// waiting: its turn comes, and an error would cost its user more.
void Cache::fail_hopeless_writers() {
  for (const auto& device : devices()) {
    if (device->backing_failing()) {
      fail_waiting(device.get());
    } else if (device->full_policy() == FullPolicy::error) {
      for (WaitingWrites* queue : {&waiting_, &awaiting_share_}) fail_all(*queue, device.get(), ENOSPC);
    } else {
      const std::uint64_t now = now_ms();
      const std::uint64_t longest = device->setting(Setting::full_max_wait);
      if (now - std::min(now, progressed_ms_.load(std::memory_order_relaxed)) < longest) continue;
      for (WaitingWrites* queue : {&waiting_, &awaiting_share_}) {
        while (auto overdue = queue->take([&](const WaitingWrites::Entry& waiting) {
          return waiting.device == device.get() && waiting.op->waits_since_ms + longest <= now;
        })) {
          device->finish(std::move(overdue->op), ENOSPC);
        }
      }
    }
  }
}

void Cache::segment_taken(CachedDevice& device) {
  if (short_of_space()) kick_reclaim();
  if (device.epoch_is_full()) sync_.kick();
  if (nearly_full()) {
    throttle_.kick();
    device.kick();
  }
}

// Epochs may grow while writeback is busy with older ones, or rests.
void Cache::close_full_epochs() {
  for (const auto& device : devices()) {
    if (device->epoch_is_full()) (void)commit({device.get()});  // writeback meets the same error, and tells of it
  }
}

Status Cache::commit(const std::vector<CachedDevice*>& devices) try {
  const std::lock_guard lock(commit_mutex_);
  if (!commit_error_.ok()) return commit_error_;
  std::vector<std::uint64_t> closed;
  for (CachedDevice* device : devices) closed.push_back(device->close_epoch());
  PCACHE_PAUSE_POINT("commit.closed");
  if (page_media_) {
    // All of the epochs is stored before the msync: who entered one holds a stream's lock until then.
    for (CachedDevice* device : devices) device->await_appends();
    PCACHE_PAUSE_POINT("commit.appended");
    if (Status status = persist_all(); !status.ok()) return status;
  }
  for (std::size_t i = 0; i < devices.size(); ++i) devices[i]->set_durable_epoch(closed[i]);
  return Status();
} catch (const std::bad_alloc&) {
  return Status(Errc::failed, "out of memory");
}

void Cache::flush(CachedDevice& device, Completion done) {
  try {
    if (page_media_) {
      const std::lock_guard lock(flushing_mutex_);
      flushing_.push_back({&device, done});
    } else {
      device.set_durable_epoch(device.close_epoch());
      PCACHE_PAUSE_POINT("flush.closed");
    }
  } catch (const std::bad_alloc&) {
    return done(EIO);
  }
  if (!page_media_) return done(device.take_flush_error() ? EIO : 0);
  if (sync_.running()) {
    sync_.kick();
  } else {
    sync_step();
  }
}

// One msync serves all flushes that came while the one before was under way.
bool Cache::sync_step() {
  std::vector<Flushing> batch;
  {
    const std::lock_guard lock(flushing_mutex_);
    batch.swap(flushing_);
  }
  if (batch.empty()) return false;
  bool durable = false;
  try {
    std::vector<CachedDevice*> devices;
    for (const Flushing& f : batch) {
      if (std::find(devices.begin(), devices.end(), f.device) == devices.end()) devices.push_back(f.device);
    }
    durable = commit(devices).ok();
  } catch (const std::bad_alloc&) {
    // Nothing was made durable, and whoever asked for it is told.
  }
  for (const Flushing& flushing : batch) flushing.done(!durable || flushing.device->take_flush_error() ? EIO : 0);
  return true;
}

// One segment a step, in the order in which they are taken, so that a write rarely is the first to touch a page.
bool Cache::prefault_step() {
  const std::lock_guard lock(prefault_mutex_);
  if (next_prefault_ >= pool_.total()) return false;
  const Geometry& geometry = cache_dev_->geometry();
  cache_dev_->space().prefault(geometry.segment_offset(next_prefault_++), geometry.segment_size);
  return true;
}

SegmentMap Cache::segment_map() const {
  SegmentMap map;
  map.cache_dev = cache_dev_->label();
  map.states.assign(pool_.total(), '.');
  map.owners.assign(map.states.size(), -1);
  const auto set = [&map](SegmentId id, char state, std::int32_t owner) {
    if (id >= map.states.size()) return;  // the cache device became larger meanwhile
    map.states[id] = state;
    map.owners[id] = owner;
  };
  for (const SegmentId id : pool_.damaged()) set(id, 'x', -1);
  for (const SegmentPool::InUse& segment : pool_.in_use()) set(segment.id, 'x', -1);
  for (const auto& device : devices()) {
    const auto owner = static_cast<std::int32_t>(map.logic_devs.size());
    map.logic_devs.push_back(device->name());
    device->for_each_segment([&](SegmentId id, bool is_clean) { set(id, is_clean ? 'c' : 'd', owner); });
  }
  return map;
}

CacheDevStats Cache::stats() const {
  CacheDevStats s;
  s.path = cache_dev_->space().path();
  s.uuid = uuid_text(cache_dev_->uuid());
  s.label = cache_dev_->label();
  s.size_bytes = cache_dev_->size_bytes();
  s.segment_size_bytes = cache_dev_->geometry().segment_size;
  std::memcpy(&s.magic, Superblock::kSignature.data(), sizeof s.magic);
  s.media_version = kMediaVersion;
  s.segments = pool_.total();
  s.segments_used = pool_.total() - pool_.free_count();
  s.segments_free = s.segments - s.segments_used;
  s.segments_clean = std::min<std::uint64_t>(clean_segments(), s.segments_used);
  s.segments_dirty = s.segments_used - s.segments_clean;
  s.segments_reserved = reserve();
  s.granularity = to_string(cache_dev_->space().granularity());
  s.ack = to_string(ack_);
  s.epoch_max_ms = options_.epoch_max_ms.value_or(kEpochMaxMs);
  {
    const std::lock_guard lock(lost_mutex_);
    s.state = lost_.ok() ? "running" : "failed";
    s.detail = lost_.message();
  }
  s.damaged_records = cache_dev_->damaged_device_records() + orphaned_segments_;
  Repairs repairs = cache_dev_->repairs();
  repairs += pool_.repairs();
  s.repaired_copies = repairs.repaired;
  s.unrepaired_copies = repairs.failed;
  std::uint64_t slots = 0;
  for (const auto& device : devices()) {
    slots += device->stored_bytes() / kBlockSize;
    s.index_bytes += device->index_bytes();
    s.damaged_records += device->damaged_records();
  }
  s.stored_bytes = slots * (kBlockSize + kRecordSize);
  s.index_bytes += ghosts_.bytes();
  s.index_bytes +=
      slots_.bytes_per_slot() * (pool_.total() - pool_.free_count()) * cache_dev_->geometry().slots_per_segment;
  return s;
}

Result<std::uint64_t> count_dirty_bytes(std::unique_ptr<CacheDev> cache_dev) {
  auto cache = Cache::open(std::move(cache_dev), CacheOptions());
  if (!cache) return cache.status();
  std::uint64_t dirty = (*cache)->cache_dev().damaged_device_records() + (*cache)->orphaned_segments();  // who knows
  for (const CacheDev::Device& device : (*cache)->cache_dev().devices()) {
    const auto attached = (*cache)->attach(device, nullptr);
    if (!attached) return attached.status();
    dirty += (*attached)->dirty_bytes();
    if ((*attached)->failed()) dirty = std::max<std::uint64_t>(dirty, 1);
  }
  return dirty;
}

}  // namespace pcache
