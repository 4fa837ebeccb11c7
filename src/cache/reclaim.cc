// Reclaim: the oldest segment of a stream, or the oldest on probation, becomes free. Blocks that were read since are
// appended to the log first, the others forgotten.

#include <algorithm>
#include <array>
#include <mutex>
#include <thread>

#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {
namespace {

constexpr std::uint32_t kSlotsPerLock = 16;  // how long writers of the stream are kept waiting

// Of a segment, at most so much is appended again, or a cache that is all hot would never get one free.
constexpr std::uint32_t most_relocations(std::uint32_t slots) { return slots - slots / 8; }

}  // namespace

std::vector<CachedDevice::Victim> CachedDevice::victims() {
  std::vector<Victim> victims;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = *streams_[i];
    const std::lock_guard lock(stream.lock);
    if (stream.log.segments().size() < 2) continue;
    const StreamLog::Segment& front = stream.log.segments().front();
    victims.push_back(
        {i, cache_.pool().age(front.id), !failed_ && stream.first_dirty_lsn() >= stream.log.end_lsn(front)});
  }
  return victims;
}

// Keeps the cache's count of segments that reclaim may empty, under the stream's lock: all before the first dirty slot
// but the head. To be called wherever one of these changes.
void CachedDevice::count_clean_segments(Stream& stream) {
  const auto& segments = stream.log.segments();
  std::uint32_t clean = 0;
  if (!failed_ && segments.size() > 1) {
    const std::uint64_t dirty = stream.first_dirty_lsn();
    const auto end = std::partition_point(segments.begin(), segments.end() - 1, [&](const StreamLog::Segment& segment) {
      return stream.log.end_lsn(segment) <= dirty;
    });
    clean = static_cast<std::uint32_t>(end - segments.begin());
  }
  cache_.count_clean_segments(static_cast<std::int32_t>(clean) - static_cast<std::int32_t>(stream.clean_segments));
  stream.clean_segments = clean;
}

void CachedDevice::for_each_segment(const std::function<void(SegmentId id, bool is_clean)>& visit) const {
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    std::uint32_t clean = stream->clean_segments;
    for (const StreamLog::Segment& segment : stream->log.segments()) {
      visit(segment.id, clean != 0);
      clean -= std::min(clean, 1U);
    }
  }
}

// All of the segment is on the backing, so nothing has to be made durable before it is released: a crash that loses a
// relocated block, or a newer unflushed one, leaves the backing's value, which is the one before. Only a lost block's
// record must not vanish; relocate() makes that one durable. Release is durable before the segment can be taken again.
bool CachedDevice::reclaim_front(std::uint32_t number) {
  Stream& stream = *streams_[number];
  SlotTable& slots = cache_.slots();
  const std::uint32_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  StreamLog::Segment front;
  {
    const std::lock_guard lock(stream.lock);
    if (failed_ || stream.log.segments().size() < 2) return false;
    front = stream.log.segments().front();
    if (stream.first_dirty_lsn() < stream.log.end_lsn(front)) return false;
    stream.bare_end_lsn = std::max(stream.bare_end_lsn, stream.log.end_lsn(front));
  }
  PCACHE_PAUSE_POINT("reclaim.chosen");
  const SlotId first = front.id * slots_per_segment;
  std::uint32_t relocations_left = most_relocations(slots_per_segment);
  for (std::uint32_t done = 0; done < slots_per_segment; done += kSlotsPerLock) {
    const std::uint32_t end = std::min(done + kSlotsPerLock, slots_per_segment);
    for (std::uint32_t i = done; i < end; ++i) stream.index.prefetch_bucket(slots.key(first + i).block);
    for (std::uint32_t i = done; i < end; ++i) stream.index.prefetch_slot(slots.key(first + i).block);
    const std::lock_guard lock(stream.lock);
    for (std::uint32_t i = done; i < end; ++i) {
      const SlotId slot = first + i;
      const SlotKey key = slots.key(slot);
      if (!key.linked) continue;
      const bool is_void = mode() == Mode::passthrough;
      const std::uint8_t frequency = slots.frequency(slot);
      const bool keep = !is_void && (key.type == SlotType::lost || (frequency > 0 && relocations_left > 0));
      if (keep && relocate(stream, slot, key, frequency > 0 ? frequency - 1 : 0)) {
        relocated_blocks_.fetch_add(1, std::memory_order_relaxed);
        if (relocations_left > 0) --relocations_left;
      } else if (keep && key.type == SlotType::lost) {
        return false;  // there is no room for its record now
      } else {
        // What was only written had no probation; a second chance is for what comes back soon.
        evict(stream, slot, key, key.type == SlotType::write && frequency == 0);
      }
    }
  }
  empty_slots(front.id);

  const std::lock_guard lock(stream.lock);
  const bool released = stream.log.release_front().ok();
  count_clean_segments(stream);
  return released;
}

bool CachedDevice::reclaim_probation(bool keep_read) {
  const auto segment = probation_.seal_oldest();
  if (!segment) return false;
  SlotTable& slots = cache_.slots();
  const std::uint32_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  const SlotId first = *segment * slots_per_segment;
  std::uint32_t promotions_left = most_relocations(slots_per_segment);
  for (std::uint32_t done = 0; done < slots_per_segment; done += kSlotsPerLock) {
    // Whoever claimed a slot before the segment was sealed holds its stream's lock until the block is in the index.
    for (const auto& stream : streams_) {
      const std::lock_guard lock(stream->lock);
      for (std::uint32_t i = done; i < std::min(done + kSlotsPerLock, slots_per_segment); ++i) {
        const SlotId slot = first + i;
        const SlotKey key = slots.key(slot);
        if (!key.linked || &stream_of(key.block) != stream.get()) continue;
        const bool keep = keep_read && slots.frequency(slot) > 0 && promotions_left > 0;
        if (keep && relocate(*stream, slot, key, 0)) {
          promoted_blocks_.fetch_add(1, std::memory_order_relaxed);
          --promotions_left;
        } else {
          evict(*stream, slot, key, true);
        }
      }
    }
  }
  empty_slots(*segment);
  probation_.give_back_oldest();
  return true;
}

// Takes a block out of the cache. `remember`: it is kept for longer if it comes back soon.
void CachedDevice::evict(Stream& stream, SlotId slot, const SlotKey& key, bool remember) {
  unlink(stream, slot);
  if (remember) cache_.ghosts().add(device_id_, key.block);
  evicted_blocks_.fetch_add(1, std::memory_order_relaxed);
}

// No slot of the segment is in the index any more. Readers that found one before hold a pin (I5).
void CachedDevice::empty_slots(SegmentId segment) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (cache_.pool().pinned(segment)) {
    PCACHE_PAUSE_POINT("reclaim.pinned");
    std::this_thread::yield();
  }
  PCACHE_PAUSE_POINT("reclaim.unpinned");
  const std::uint32_t slots = cache_.cache_dev().geometry().slots_per_segment;
  for (SlotId slot = segment * slots; slot < (segment + 1) * slots; ++slot) cache_.slots().clear(slot);
}

// Appends a clean or lost block of a segment that becomes free to the log. Returns whether it did.
bool CachedDevice::relocate(Stream& stream, SlotId slot, const SlotKey& key, std::uint8_t frequency) {
  if (mode() == Mode::passthrough) return false;
  if (stream.log.room() == 0) {
    const bool may = cache_.may_relocate() && segments_used() <= share().max;
    if (key.type != SlotType::lost && !may) return false;  // a lost one may take from the reserve
    const auto room = take_segment(stream);
    if (!room || *room == 0) return false;
  }
  std::array<std::byte, kBlockSize> content;
  LogEntry entry{RecordType::clean, key.block, 1, content.data(), cache_.slots().value(slot)};
  Persist persist = Persist::relaxed;
  if (key.type == SlotType::lost) {
    entry = {RecordType::lost, key.block};
    persist = Persist::synced;
  } else if (!read_cell(slot, entry.payload_crc, content.data())) {
    checksum_errors_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  if (stream.log.stage({&entry, 1}) == 0) {
    skip_slot(stream, persist);
    return false;
  }
  const auto lsn = stream.log.commit({&entry, 1}, epoch_for_copies(stream), persist);
  if (!lsn) return false;
  bump(stream.stored_slots, 1);
  publish(stream, *lsn, entry, false);
  cache_.slots().set_frequency(stream.log.slot_of(*lsn), frequency);
  return true;
}

void CachedDevice::forget_log_slots(Stream& stream) {
  for (const StreamLog::Segment& segment : stream.log.segments()) {
    for (std::uint64_t lsn = segment.first_lsn; lsn < stream.log.end_lsn(segment); ++lsn) {
      const SlotId slot = stream.log.slot_of(lsn);
      unlink(stream, slot);
      cache_.slots().clear(slot);
    }
  }
}

// Readers that found a slot before hold a pin; others find none.
void CachedDevice::await_unpinned(const Stream& stream) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const StreamLog::Segment& segment : stream.log.segments()) {
    while (cache_.pool().pinned(segment.id)) std::this_thread::yield();
  }
}

void CachedDevice::forget_slots() {
  while (reclaim_probation(false)) {
  }
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    forget_log_slots(*stream);
    await_unpinned(*stream);
    cache_.count_clean_segments(-static_cast<std::int32_t>(stream->clean_segments));
    stream->clean_segments = 0;
  }
}

Status CachedDevice::release_segments() {
  while (reclaim_probation(false)) {
  }
  for (const auto& stream : streams_) {
    std::unique_lock lock(stream->lock);
    forget_log_slots(*stream);
    await_unpinned(*stream);
    const Status status = stream->log.release_all();
    count_clean_segments(*stream);
    if (!status.ok()) return status;
    stream->bare_end_lsn = 0;
  }
  cache_.kick_reclaim();
  return Status();
}

}  // namespace pcache
