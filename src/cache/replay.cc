// Recovery: the index, the epochs and the discarded ranges come back from the log.

#include <algorithm>
#include <mutex>
#include <optional>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

Status CachedDevice::replay(std::vector<SegmentPool::InUse> segments) {
  const auto fail = [this](const std::string& why) {
    failed_ = true;
    if (detail_.empty()) detail_ = why;
  };
  std::uint64_t clean = 0;
  if (const auto stored = cache_.cache_dev().clean_epoch(place_)) {
    clean = *stored;
  } else {
    fail(stored.status().message());
  }
  if (cache_.pool().damaged_count() != 0) {
    fail("the segment table is damaged in both copies (" + std::to_string(cache_.pool().damaged_count()) +
         " entries): dirty data may be missing");
  }

  if (mode() == Mode::passthrough) {  // the record says that they count for nothing
    cache_.replayed(segments.size());
    segments.clear();
  }

  const std::uint64_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  std::vector<std::vector<SegmentPool::InUse>> by_stream(streams_.size());
  for (const auto& segment : segments) {
    if (segment.entry.stream < streams_.size()) {
      by_stream[segment.entry.stream].push_back(segment);
    } else {
      log_damage_.push_back({segment.entry.stream, segment.entry.first_lsn, slots_per_segment, true});
      fail("segment " + std::to_string(segment.id) + " belongs to a stream that does not exist");
    }
  }
  std::uint64_t newest = clean;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const std::uint64_t slots = by_stream[i].size() * slots_per_segment;
    if (!streams_[i]->log.adopt(std::move(by_stream[i]))) {
      log_damage_.push_back({static_cast<std::uint32_t>(i), 0, slots, true});
      fail("the segment table contradicts itself about stream " + std::to_string(i) + ": dirty data may be missing");
    }
    newest = std::max(newest, streams_[i]->log.last_epoch());
  }

  const std::optional<CacheDev::Closed> closed = cache_.cache_dev().closed(place_);
  std::set<std::uint64_t> dirty_epochs;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    const std::lock_guard lock(streams_[i]->lock);
    const std::vector<StreamLog::Hole> holes = replay_stream(
        i, {blocks(), newest, clean, closed.has_value(), [&](std::uint64_t b) { return stream_number(b) == i; }});
    for (const Stream::EpochStart& start : streams_[i]->epochs) dirty_epochs.insert(start.epoch);
    for (const StreamLog::Hole& hole : holes) {
      if (hole.torn) continue;
      // Not filled in: the next recovery has to see it too.
      damaged_records_ += hole.count;
      log_damage_.push_back({i, hole.first_lsn, hole.count, is_dirty_epoch(hole.next_epoch, clean)});
      if (!is_dirty_epoch(hole.next_epoch, clean)) continue;
      fail(std::to_string(hole.count) + " key records of stream " + std::to_string(i) +
           " are damaged or missing: dirty data may be lost");
    }
    holes_[i] = holes;
  }

  if (const CacheDev::Closed found = log_ends(); closed && *closed != found && mode() != Mode::passthrough) {
    const auto apart = [](std::uint64_t a, std::uint64_t b) { return std::max(a, b) - std::min(a, b); };
    const std::uint64_t missing =
        apart(found.first_lsns, closed->first_lsns) + apart(found.next_lsns, closed->next_lsns);
    damaged_records_ += missing;
    log_damage_.push_back({std::nullopt, 0, missing, keeps_dirty(mode())});
    if (keeps_dirty(mode())) {
      fail(std::to_string(missing) + " key records at the ends of the log are damaged: dirty data may be lost");
    } else if (Status status = forget_log(); !status.ok()) {
      return status;
    }
  }

  if (newest + 1 >= kCounterLimit) fail("there are no numbers left for its epochs: the log is not to be believed");
  const std::lock_guard lock(epoch_mutex_);
  for (const std::uint64_t epoch : dirty_epochs) closed_.push_back({epoch, cache_.now_ms(), 0});
  make_room_for_epochs();
  for (const auto& stream : streams_) {
    const std::lock_guard stream_lock(stream->lock);
    count_clean_segments(*stream);
  }
  epoch_ = newest + 1;
  durable_epoch_ = newest;
  clean_epoch_ = newest_clean_epoch();
  return Status();
}

// Fills the stream's index from its log, in one go over it: what a discard or damage takes away from older records is
// sorted out at the end, or each of many discards would look at all that was before it.
std::vector<StreamLog::Hole> CachedDevice::replay_stream(std::uint32_t number, const StreamLog::Replay& device) {
  const std::uint64_t clean = device.clean_epoch;
  Stream& stream = *streams_[number];
  SlotTable& slots = cache_.slots();
  const std::uint32_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  absl::flat_hash_map<SegmentId, std::uint64_t> first_lsns;
  for (const StreamLog::Segment& segment : stream.log.segments()) first_lsns[segment.id] = segment.first_lsn;
  ZeroMap zeroed;  // whatever takes older records away: discards, and writes around the log
  const auto is_zeroed = [&](std::uint64_t block, std::uint64_t lsn) {
    const auto since = zeroed.lsn_of(block);
    return since && *since > lsn;
  };
  const auto is_ahead_of_backing = [&](std::uint64_t block) {
    if (stream.zeros.contains(block)) return true;
    const SlotId slot = stream.index.find(block);
    if (slot == kNoSlot) return false;
    const SlotKey key = slots.key(slot);
    const std::uint64_t lsn = first_lsns[slot / slots_per_segment] + slot % slots_per_segment;
    return (key.dirty || key.type == SlotType::lost) && !is_zeroed(block, lsn);
  };

  // Segments are told of as their records come; what is left of them, and those without any, at the end.
  std::uint64_t visited = 0;
  const std::uint64_t segments = stream.log.segments().size();
  const auto visit = [&](std::uint64_t lsn, const KeyRecord& record) {
    if (++visited % slots_per_segment == 0) cache_.replayed(1);
    const LogEntry entry{record.type, record.block, record.count, nullptr, record.payload_crc};
    const bool dirty =
        (record.type == RecordType::write || record.type == RecordType::zero) && is_dirty_epoch(record.epoch, clean);
    const SlotId slot = stream.log.slot_of(lsn);
    if (dirty && (stream.epochs.empty() || stream.epochs.back().epoch != record.epoch)) {
      if (stream.epochs.full()) stream.epochs.set_capacity(2 * stream.epochs.capacity());
      stream.epochs.push_back({record.epoch, lsn});
    }
    switch (record.type) {
      case RecordType::filler:
        slots.set_key(slot, {0, SlotType::filler, false, false});
        return;
      case RecordType::zero:
        zeroed.add(record.block, record.block + record.count, lsn);
        note_zero(stream, lsn, entry, dirty);
        return;
      case RecordType::gone:
        // Where there is something dirty nothing is written around the log.
        if (!stream.epochs.empty()) {
          slots.set_key(slot, {record.block, SlotType::gone, false, false});
          ++damaged_records_;
          log_damage_.push_back({number, lsn, 1, false});
          return;
        }
        zeroed.add(record.block, record.block + record.count, lsn);
        note_gone(stream, lsn, entry);
        return;
      case RecordType::clean:
        // What only the cache knows is not hidden by what claims to be the backing's.
        if (is_ahead_of_backing(record.block)) {
          slots.set_key(slot, {record.block, SlotType::clean, false, false});
          ++damaged_records_;
          log_damage_.push_back({number, lsn, 1, false});
          return;
        }
        // A copy of what the backing may not have flushed, and lost.
        if (is_direct(mode()) && !device.was_closed && record.epoch > clean) {
          slots.set_key(slot, {record.block, SlotType::filler, false, false});
          voids_[number].push_back(lsn);
          return;
        }
        [[fallthrough]];
      default:
        publish(stream, lsn, entry, dirty);
    }
  };
  const std::vector<StreamLog::Hole> holes = stream.log.replay(device, visit);
  cache_.replayed(segments - std::min(segments, visited / slots_per_segment));

  // Where clean records are lost, older ones, clean too, might be of the same blocks: the backing is right about them.
  std::uint64_t forget_before = 0;
  for (const StreamLog::Hole& hole : holes) {
    if (!hole.torn && !is_dirty_epoch(hole.next_epoch, clean)) forget_before = hole.first_lsn;
  }
  stream.bare_end_lsn = forget_before;
  for (const StreamLog::Segment& segment : stream.log.segments()) {
    const std::uint64_t stop = std::min(stream.log.end_lsn(segment), stream.log.next_lsn());
    for (std::uint64_t lsn = segment.first_lsn; lsn < stop; ++lsn) {
      const SlotId slot = stream.log.slot_of(lsn);
      const SlotKey key = slots.key(slot);
      if (!key.linked) continue;
      // Of a lost block the backing has an old value only; at worst it was written again since, and stays an error.
      const bool forgotten = lsn < forget_before && key.type != SlotType::lost;
      if (forgotten || is_zeroed(key.block, lsn)) unlink(stream, slot);
    }
  }
  return holes;
}

// A record that is missing at the end may have said that older ones count no more: none does, nor at the next recovery.
Status CachedDevice::forget_log() {
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    forget_blocks(*stream, 0, blocks());
  }
  return cache_.cache_dev().read_only() ? Status() : release_segments();
}

CacheDev::Closed CachedDevice::log_ends() const {
  CacheDev::Closed ends;
  for (const auto& stream : streams_) {
    const auto& segments = stream->log.segments();
    ends.first_lsns += segments.empty() ? 0 : segments.front().first_lsn;
    ends.next_lsns += stream->log.next_lsn();
  }
  return ends;
}

Status CachedDevice::mark_closed() const {
  if (failed_ || !closes_) return Status();
  return cache_.cache_dev().set_closed(place_, log_ends());
}

// Persist order: what the log lacks is filled in and what was read is made durable, then the device counts as open, all
// before anything is appended.
Status CachedDevice::settle() {
  if (failed_) return Status();
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const std::lock_guard lock(streams_[i]->lock);
    if (Status status = streams_[i]->log.settle(holes_[i]); !status.ok()) return status;
    if (Status status = streams_[i]->log.void_records(voids_[i]); !status.ok()) return status;
    holes_[i].clear();
    voids_[i].clear();
  }
  CacheDev& cache_dev = cache_.cache_dev();
  if (!cache_dev.closed(place_)) {
    if (serves_ && !is_direct(mode()) && cache_dev.bypassed(place_)) begin_doubt();
    return prepare_bypass();
  }
  // The backing was flushed before it was closed: what is of an epoch that was open then counts after a crash too.
  if (is_direct(mode())) {
    if (Status status = cache_dev.set_clean_epoch(place_, clean_epoch_); !status.ok()) return status;
  }
  if (cache_dev.bypassed(place_) && full_policy() != FullPolicy::bypass) {
    if (Status status = cache_dev.set_bypassed(place_, false); !status.ok()) return status;
  }
  if (Status status = prepare_bypass(); !status.ok()) return status;
  return cache_dev.set_closed(place_, std::nullopt);
}

}  // namespace pcache
