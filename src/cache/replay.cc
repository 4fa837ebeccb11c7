// Recovery: the index, the epochs and the discarded ranges come back from the log.

#include <algorithm>
#include <mutex>
#include <set>

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

  std::uint64_t next_lsns = 0;
  std::set<std::uint64_t> dirty_epochs;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = *streams_[i];
    const std::lock_guard lock(stream.lock);
    std::uint64_t misplaced = 0;
    const auto visit = [&](std::uint64_t lsn, const KeyRecord& record) {
      const LogEntry entry{record.type, record.block, record.count, nullptr, record.payload_crc};
      const bool dirty = (record.type == RecordType::write || record.type == RecordType::zero) && record.epoch > clean;
      if (record.type == RecordType::filler) {
        cache_.slots().set_key(stream.log.slot_of(lsn), {0, SlotType::filler, false, false});
        return;
      }
      if (dirty && (stream.epochs.empty() || stream.epochs.back().epoch != record.epoch)) {
        if (stream.epochs.full()) stream.epochs.set_capacity(2 * stream.epochs.capacity());
        stream.epochs.push_back({record.epoch, lsn});
        dirty_epochs.insert(record.epoch);
      }
      if (record.type == RecordType::zero) {
        publish_zero(stream, lsn, entry, dirty);
      } else if (stream_number(record.block) == i) {
        publish(stream, lsn, entry, dirty);
      } else {
        ++misplaced;
        log_damage_.push_back({i, lsn, 1, true});
      }
    };
    const bool was_clean = cache_.cache_dev().was_clean();
    const std::vector<StreamLog::Hole> holes = stream.log.replay(blocks(), newest, was_clean, visit);
    next_lsns += stream.log.next_lsn();
    if (misplaced != 0) {
      damaged_records_ += misplaced;
      fail("key records of stream " + std::to_string(i) + " are of blocks that belong to another");
    }
    for (const StreamLog::Hole& hole : holes) {
      if (hole.torn) {
        torn_[i].push_back(hole);
        continue;
      }
      // Not filled in: the next recovery has to see it too.
      damaged_records_ += hole.count;
      log_damage_.push_back({i, hole.first_lsn, hole.count, hole.next_epoch > clean});
      if (hole.next_epoch > clean) {
        fail(std::to_string(hole.count) + " key records of stream " + std::to_string(i) +
             " are damaged or missing: dirty data may be lost");
        continue;
      }
      // What was lost is clean. Older records, clean too, might be of the same blocks: the backing is right about them.
      for (const StreamLog::Segment& segment : stream.log.segments()) {
        const std::uint64_t stop = std::min(stream.log.end_lsn(segment), hole.first_lsn);
        for (std::uint64_t lsn = segment.first_lsn; lsn < stop; ++lsn) {
          const SlotId slot = stream.log.slot_of(lsn);
          // Of a lost block the backing has an old value only; at worst it was written again since, and stays an error.
          if (cache_.slots().key(slot).type != SlotType::lost) unlink(stream, slot);
        }
      }
    }
  }

  if (const auto closed = cache_.cache_dev().closed_lsns(place_); closed && *closed > next_lsns) {
    damaged_records_ += *closed - next_lsns;
    log_damage_.push_back({std::nullopt, 0, *closed - next_lsns, true});
    fail(std::to_string(*closed - next_lsns) +
         " key records at the end of the log are damaged: dirty data may be lost");
  }

  const std::lock_guard lock(epoch_mutex_);
  for (const std::uint64_t epoch : dirty_epochs) closed_.push_back({epoch, cache_.now_ms()});
  make_room_for_epochs();
  epoch_ = newest + 1;
  durable_epoch_ = newest;
  clean_epoch_ = newest_clean_epoch();
  return Status();
}

Status CachedDevice::record_end() const {
  if (failed_) return Status();  // what is missing shall be missed again
  std::uint64_t next_lsns = 0;
  for (const auto& stream : streams_) next_lsns += stream->log.next_lsn();
  return cache_.cache_dev().set_closed_lsns(place_, next_lsns);
}

// Persist order: what the log lacks is filled in and what was read is made durable before anything is appended.
Status CachedDevice::settle() {
  if (failed_) return Status();
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const std::lock_guard lock(streams_[i]->lock);
    if (Status status = streams_[i]->log.settle(torn_[i]); !status.ok()) return status;
    torn_[i].clear();
  }
  return Status();
}

}  // namespace pcache
