#include "cache/cached_device.h"

#include <algorithm>
#include <cerrno>

#include "base/crc32c.h"
#include "base/pause_point.h"
#include "cache/cache.h"

namespace pcache {
namespace {

// Stable over restarts, different for each device of each cache device.
std::uint64_t inode_of(const std::array<std::uint8_t, 16>& uuid, std::uint32_t device_id) {
  return std::uint64_t{crc32c(uuid.data(), uuid.size())} << 32 | (std::uint64_t{device_id} + 2);
}

// One counter over all streams.
std::uint64_t sum(const std::vector<std::unique_ptr<Stream>>& streams, std::atomic<std::uint64_t> Stream::*counter) {
  std::uint64_t total = 0;
  for (const auto& stream : streams) total += ((*stream).*counter).load(std::memory_order_relaxed);
  return total;
}

}  // namespace

CachedDevice::CachedDevice(Cache& cache, const CacheDev::Device& device, std::unique_ptr<BackingDev> backing)
    : cache_(cache),
      place_(device.place),
      device_id_(device.record.device_id),
      name_(device.record.name.data()),
      cache_label_(cache.cache_dev().label()),
      size_bytes_(device.record.size_bytes),
      backing_bytes_(backing != nullptr ? backing->size_bytes() : device.record.size_bytes),
      inode_(inode_of(cache.cache_dev().uuid(), device.record.device_id)),
      backing_path_(device.record.backing_path.data()),
      recorded_backing_{device.record.backing_id.data(), device.record.size_bytes},
      settings_(layers_at_opening(cache.options(), name_, settings_of(device.record))),
      serves_(backing != nullptr),
      backing_(std::move(backing)),
      pulse_(backing_ != nullptr ? backing_->pulse() : nullptr),
      probation_(cache.pool(), cache.cache_dev().geometry().slots_per_segment),
      activity_since_ms_(cache.now_ms()),
      worker_("writeback", [this] { return background_step(); }) {
  for (std::uint32_t i = 0; i < device.record.streams; ++i) {
    streams_.push_back(std::make_unique<Stream>(cache.cache_dev(), cache.pool(), cache.slots(), device_id_, i));
  }
  mode_choice_ = {settings_.choice<Mode>(Setting::mode), is_detached(device.record)};
  mode_ = mode_choice_.in_force();
  parked_ = is_parked(device.record);
  holes_.resize(streams_.size());
  voids_.resize(streams_.size());
  if (!serves_) return;
  staging_ = std::make_unique<Staging>();
  backing_flush_.emplace(*backing_, timer_);
}

CachedDevice::~CachedDevice() { stop(); }

void CachedDevice::start() {
  if (serves_ && !failed_) worker_.start();
}

void CachedDevice::stop() {
  if (stopped_.exchange(true)) return;
  PCACHE_PAUSE_POINT("stop.begun");
  cache_.fail_waiting(this);  // a switch of the mode, which the worker may be in, waits for them
  worker_.stop();
  gate_.set(DirectGate::State::shut);
  while (std::unique_ptr<WriteOp> op = gate_.take_waiting()) finish(std::move(op), EIO);
  {
    const std::lock_guard lock(acks_mutex_);
    late_acks_ = false;
  }
  release_acks(~std::uint64_t{0});
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.notify_all();
  }
  {
    PCACHE_PAUSE_POINT("stop.idle");
    std::unique_lock lock(idle_mutex_);
    idle_.wait(lock, [this] {
      if (operations_.load() == 0) return true;
      PCACHE_PAUSE_POINT("stop.waits");
      return false;
    });
  }
  await_appends();  // a write that waits for nothing is not counted
  // Here and not by whoever drops the last reference: that may be a completion on the backing's own thread.
  const std::lock_guard step(writeback_mutex_);
  pass_.reset();
  if (backing_ && !failed_ && is_direct(mode())) {
    closes_ = await_backing_flush() == 0 && !unflushed_is_void_;
  }
  backing_.reset();
}

// Against stop(): one of the two sees what the other did.
bool CachedDevice::count_in() {
  operations_.fetch_add(1, std::memory_order_seq_cst);
  PCACHE_PAUSE_POINT("operation.counted");
  if (!stopped_) return true;
  count_out();
  return false;
}

void CachedDevice::count_out() {
  const std::lock_guard lock(idle_mutex_);
  if (operations_.fetch_sub(1, std::memory_order_acq_rel) == 1) idle_.notify_all();
}

// Takes memory first: where there is none, the epoch stays open.
std::uint64_t CachedDevice::close_epoch() {
  const std::lock_guard lock(epoch_mutex_);
  const std::uint64_t open = epoch_.load(std::memory_order_relaxed);
  if (!epoch_used_.load(std::memory_order_acquire)) return open - 1;
  closed_.push_back({open, epoch_opened_ms_ != 0 ? epoch_opened_ms_ : cache_.now_ms(), stored_bytes() / kBlockSize});
  try {
    make_room_for_epochs();
  } catch (const std::bad_alloc&) {
    closed_.pop_back();
    throw;
  }
  epoch_used_.exchange(false, std::memory_order_acq_rel);
  epoch_opened_ms_ = 0;
  epoch_blocks_.store(stored_bytes() / kBlockSize, std::memory_order_relaxed);
  epoch_.store(open + 1, std::memory_order_release);
  return open;
}

// A stream has at most the closed epochs and the open one to write back.
void CachedDevice::make_room_for_epochs() {
  if (closed_.size() + 2 <= epoch_room_) return;
  const std::size_t room = 2 * (closed_.size() + 2);
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    if (stream->epochs.capacity() < room) stream->epochs.set_capacity(room);
  }
  epoch_room_ = room;
}

void CachedDevice::fail(const std::string& why) {
  {
    const std::lock_guard lock(progress_mutex_);
    if (detail_.empty()) detail_ = why;
    failed_ = true;
    progress_.notify_all();
  }
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    count_clean_segments(*stream);
  }
}

bool CachedDevice::backing_gone() {
  if (!serves_ || !count_in()) return true;
  const bool gone = !backing_->refresh_size().ok();
  if (!gone) backing_bytes_ = backing_->size_bytes();
  count_out();
  return gone;
}

void CachedDevice::refuse_writes(bool refuse) {
  refusing_writes_ = refuse;
  await_appends();
}

void CachedDevice::await_appends() {
  for (const auto& stream : streams_) {
    PCACHE_PAUSE_POINT("appends.awaited");
    const std::lock_guard lock(stream->lock);
  }
}

bool CachedDevice::may_take_share(const WriteOp& op) {
  const std::uint64_t begin = op.offset / kBlockSize;
  const std::uint64_t end = op.end / kBlockSize;
  const bool whole = op.discard && op.offset % kBlockSize == 0 && begin < end;
  const std::uint32_t wanted = whole ? streams_in(begin, end) : 1U << stream_number(begin);
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    const std::lock_guard lock(streams_[i]->lock);
    if (streams_[i]->log.room() == 0 && !has_share_left(*streams_[i])) return false;
  }
  return true;
}

void CachedDevice::set_durable_epoch(std::uint64_t epoch) {
  std::uint64_t before = durable_epoch_.load(std::memory_order_relaxed);
  while (before < epoch && !durable_epoch_.compare_exchange_weak(before, epoch)) {
  }
}

void CachedDevice::flush(Completion done) {
  const OpTimer::Begun begun(timer_, OpTimer::Op::flush, done);
  flushes_.fetch_add(1, std::memory_order_relaxed);
  if (stopped_ || failed_) return done(EIO);
  // While a switch holds operations, all that was acknowledged is in the log, or on the backing.
  if (is_direct(mode()) || in_doubt()) return flush_backing(done);
  cache_.flush(*this, done);
}

bool CachedDevice::waits_for_medium() const { return cache_.page_media(); }

// In rounds, so that the loads of one round are under way for all of them at once.
void CachedDevice::expect(Access access, std::span<const std::uint64_t> offsets) const {
  for (const std::uint64_t offset : offsets) stream_of(offset / kBlockSize).index.prefetch_bucket(offset / kBlockSize);
  for (const std::uint64_t offset : offsets) stream_of(offset / kBlockSize).index.prefetch_slot(offset / kBlockSize);
  if (access != Access::read) return;
  // The first lines of a cell; the processor goes on by itself once they are being copied. More of them, for all
  // requests at once, took longer (docs/performance.md).
  constexpr std::uint64_t kLines = 12;
  const Geometry& geometry = cache_.cache_dev().geometry();
  const std::byte* const media = cache_.cache_dev().space().base();
  for (const std::uint64_t offset : offsets) {
    const SlotId slot = stream_of(offset / kBlockSize).index.first_slot(offset / kBlockSize);
    if (slot == kNoSlot) continue;
    cache_.slots().prefetch_frequency(slot);
    const std::byte* const cell =
        media + geometry.cell_offset(slot / geometry.slots_per_segment, slot % geometry.slots_per_segment);
    for (std::uint64_t line = 0; line < kLines; ++line) __builtin_prefetch(cell + line * 64);
  }
}

int CachedDevice::drain(std::uint64_t timeout_ms) {
  const std::optional<std::uint64_t> target = begin_drain();
  if (!target) return EIO;
  return await_drain(*target, timeout_ms);
}

std::optional<std::uint64_t> CachedDevice::begin_drain() {
  if (failed_ || stopped_) return std::nullopt;
  if (!serves_) return dirty_bytes() == 0 ? std::optional(clean_epoch_.load()) : std::nullopt;
  if (!cache_.commit({this}).ok()) return std::nullopt;
  if (is_direct(mode())) {
    if (!count_in()) return std::nullopt;
    const int error = flush_direct();
    count_out();
    if (error != 0) return std::nullopt;
  }
  const std::uint64_t target = durable_epoch_.load();
  std::uint64_t before = drain_epoch_.load(std::memory_order_relaxed);
  while (before < target && !drain_epoch_.compare_exchange_weak(before, target)) {
  }
  worker_.kick();
  return target;
}

int CachedDevice::await_drain(std::uint64_t target, std::uint64_t timeout_ms) {
  if (!worker_.running()) {  // stepped by hand
    while (clean_epoch_ < target) {
      if (!writeback_step()) return EIO;
    }
    return lost_blocks() == 0 ? 0 : EIO;
  }
  std::unique_lock lock(progress_mutex_);
  const std::uint64_t failures = failures_;
  const auto finished = [&] {
    return clean_epoch_ >= target || failures_ >= failures + kFailuresToGiveUp || stopped_ || failed_;
  };
  if (timeout_ms == 0) {
    progress_.wait(lock, finished);
  } else if (!progress_.wait_for(lock, std::chrono::milliseconds(timeout_ms), finished)) {
    return failures_in_a_row_ >= kFailuresToGiveUp ? EIO : ETIMEDOUT;
  }
  return clean_epoch_ >= target && lost_blocks() == 0 ? 0 : EIO;
}

std::uint64_t CachedDevice::lost_blocks() const { return sum(streams_, &Stream::lost_blocks); }

std::vector<ByteRange> CachedDevice::lost_ranges() const {
  if (lost_blocks() == 0) return {};
  std::vector<std::uint64_t> blocks;
  blocks.reserve(streams_.size() * Stream::kListedLost);
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    blocks.insert(blocks.end(), stream->lost.begin(),
                  stream->lost.begin() + static_cast<std::ptrdiff_t>(stream->listed_lost));
  }
  std::sort(blocks.begin(), blocks.end());
  std::vector<ByteRange> ranges;
  for (const std::uint64_t block : blocks) {
    const std::uint64_t offset = block * kBlockSize;
    if (ranges.empty() || ranges.back().offset + ranges.back().length != offset) ranges.push_back({offset, 0});
    ranges.back().length += bytes_in(block);
  }
  return ranges;
}

std::uint64_t CachedDevice::oldest_dirty_ms() const {
  const std::lock_guard lock(epoch_mutex_);
  const std::uint64_t since = closed_.empty() ? epoch_opened_ms_ : closed_.front().opened_ms;
  const std::uint64_t now = cache_.now_ms();
  return since == 0 ? 0 : now - std::min(now, since);
}

std::uint64_t CachedDevice::clean_in_ms() const {
  const std::uint64_t dirty = dirty_bytes();
  const std::uint64_t speed = writeback_speed_.bytes_per_second();
  return dirty == 0 || speed == 0 ? 0 : dirty * 1000 / speed;
}

std::uint64_t CachedDevice::dirty_bytes() const { return sum(streams_, &Stream::dirty_blocks) * kBlockSize; }

std::uint64_t CachedDevice::stored_bytes() const { return sum(streams_, &Stream::stored_slots) * kBlockSize; }

std::uint64_t CachedDevice::index_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& stream : streams_) bytes += stream->index.bucket_bytes();
  return bytes;
}

LogicDevActivity CachedDevice::activity() const {
  LogicDevActivity activity;
  activity.stats = stats();
  activity.latencies = timer_.list();
  const std::lock_guard lock(activity_mutex_);
  activity.since_ms = cache_.now_ms() - activity_since_ms_;
  for (const auto& field : logic_dev_numbers()) {
    if (field.counter) activity.stats.*field.member -= counted_before_.*field.member;
  }
  return activity;
}

void CachedDevice::reset_activity() {
  const LogicDevStats now = stats();
  timer_.reset();
  const std::lock_guard lock(activity_mutex_);
  counted_before_ = now;
  activity_since_ms_ = cache_.now_ms();
}

std::uint32_t CachedDevice::segments_used() const {
  std::uint32_t segments = probation_.segments();
  for (const auto& stream : streams_) segments += stream->log.segment_count();
  return segments;
}

Share CachedDevice::share() const { return share_in(cache_.pool().total()); }

Share CachedDevice::share_in(std::uint32_t segments) const {
  return share_of(setting(Setting::share_min), setting(Setting::share_max), segments,
                  cache_.cache_dev().geometry().segment_size);
}

bool CachedDevice::above_gc_high() const {
  const Geometry& geometry = cache_.cache_dev().geometry();
  const std::uint64_t all = cache_.pool().total() * geometry.segment_size;
  return segments_used() * geometry.segment_size > amount_bytes(setting(Setting::gc_high), all);
}

bool CachedDevice::short_of_share() {
  if (!at_share_max() || probation_.segments() != 0) return false;
  const std::vector<Victim> fronts = victims();
  return std::none_of(fronts.begin(), fronts.end(), [](const Victim& front) { return front.clean; });
}

// Whether what is only copied into the cache may take a segment.
bool CachedDevice::may_fill() const { return cache_.may_fill() && !at_share_max(); }

// Whether something has to go for what comes.
bool CachedDevice::is_full() const { return cache_.full() || segments_used() + 1 >= share().max; }

std::uint64_t CachedDevice::backing_silent_ms() const {
  if (pulse_ == nullptr) return 0;
  const std::uint64_t since_ns = pulse_->silent_since_ns.load(std::memory_order_relaxed);
  const std::uint64_t now_ns = OpTimer::now();
  return since_ns == 0 ? 0 : (now_ns - std::min(now_ns, since_ns)) / 1'000'000;
}

LogicDevStats CachedDevice::stats() const {
  LogicDevStats s;
  s.name = name_;
  s.backing_id = place_;
  s.size_bytes = size_bytes();
  s.backing = backing_path_;
  s.cache_dev = cache_label_;
  s.mode = format_setting(Setting::mode, static_cast<std::uint64_t>(mode()));
  s.state = parked_ ? "parked" : failed_ ? "failed" : serves_ ? "running" : "no_backing";
  {
    const std::lock_guard lock(progress_mutex_);
    s.detached = mode_choice_.detached;
    if (pending_mode_) {
      s.pending_mode = format_setting(Setting::mode, static_cast<std::uint64_t>(pending_mode_->in_force()));
    }
    s.detail = detail_;
    s.backing_fails = !trouble_.empty();
    if (detail_.empty() && s.backing_fails) s.detail = "writeback fails and is tried again: " + trouble_;
  }
  if (const std::uint64_t bytes = backing_bytes_; s.detail.empty() && bytes > s.size_bytes) {
    s.detail = "backing device " + s.backing + " became longer: it has " + std::to_string(bytes) +
               " bytes; pcachefs resize makes use of them";
  }
  s.dirty_bytes = dirty_bytes();
  s.lost_bytes = lost_blocks() * kBlockSize;
  s.lost_ranges = lost_ranges();
  s.bad_cells = bad_cells_;
  s.cached_bytes = sum(streams_, &Stream::cached_blocks) * kBlockSize;
  s.writes = sum(streams_, &Stream::writes);
  s.write_bytes = sum(streams_, &Stream::write_bytes);
  s.reads = reads_;
  s.read_bytes = read_bytes_;
  s.read_hits = read_hits_;
  s.read_misses = read_misses_;
  s.read_fills = read_fills_;
  s.partial_hits = partial_hits_;
  s.not_admitted_first_touch = refused_first_touch_;
  s.not_admitted_sequential = refused_sequential_;
  s.not_admitted_no_space = refused_no_space_;
  s.not_admitted_mode = refused_mode_;
  s.flushes = flushes_;
  s.discards = discards_;
  s.written_back_bytes = written_back_bytes_;
  s.writeback_errors = writeback_errors_;
  s.backing_read_errors = backing_read_errors_;
  s.backing_silent_ms = backing_silent_ms();
  const Cache::Waiting waiting = cache_.waiting(*this);
  s.waiting_writes = waiting.writes;
  s.longest_wait_ms = waiting.longest_ms;
  s.space_waits = space_waits_;
  s.throttled_ms = throttled_ms_;
  s.oldest_dirty_ms = oldest_dirty_ms();
  s.clean_in_ms = clean_in_ms();
  s.evicted_bytes = evicted_blocks_ * kBlockSize;
  s.relocated_bytes = relocated_blocks_ * kBlockSize;
  s.promoted_bytes = promoted_blocks_ * kBlockSize;
  s.ghost_hits = ghost_hits_;
  s.share_bytes = share().max * cache_.cache_dev().geometry().segment_size;
  s.used_bytes = segments_used() * cache_.cache_dev().geometry().segment_size;
  s.checksum_errors = checksum_errors_;
  s.bypassed_bytes = bypassed_bytes_;
  s.bypassed_full_bytes = bypassed_full_bytes_;
  s.epoch = epoch_;
  s.clean_epoch = clean_epoch_;
  return s;
}

}  // namespace pcache
