#include "log/stream_log.h"

#include <algorithm>
#include <array>
#include <string>

#include "segment/persist_readable.h"

namespace pcache {
namespace {

bool has_payload(RecordType type) { return type == RecordType::write || type == RecordType::clean; }

}  // namespace

StreamLog::StreamLog(CacheDev& cache_dev, SegmentPool& pool, std::uint32_t device_id, std::uint32_t stream)
    : cache_dev_(cache_dev),
      pool_(pool),
      device_id_(device_id),
      stream_(static_cast<std::uint8_t>(stream)),
      slots_(cache_dev.geometry().slots_per_segment),
      segments_(pool.total()) {}

std::uint32_t StreamLog::room() const {
  return segments_.empty() ? 0 : static_cast<std::uint32_t>(end_lsn(segments_.back()) - next_lsn_);
}

Result<std::uint32_t> StreamLog::reserve() {
  if (const std::uint32_t left = room(); left != 0) return left;
  auto taken = pool_.take({device_id_, stream_, next_chain_, next_lsn_});
  if (!taken) return taken.status();
  if (!*taken) return std::uint32_t{0};
  segments_.push_back({(*taken)->id, (*taken)->generation, next_chain_, next_lsn_});
  count_segments();
  ++next_chain_;
  return slots_;
}

std::uint32_t StreamLog::stage(std::span<const LogEntry> entries) {
  if (broken_) return 0;
  PmemSpace& space = cache_dev_.space();
  const Geometry& geometry = cache_dev_.geometry();
  const Segment& head = segments_.back();
  const auto first = static_cast<std::uint32_t>(next_lsn_ - head.first_lsn);
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    if (entries[i].payload == nullptr) continue;
    if (!space.write(geometry.cell_offset(head.id, first + i), entries[i].payload, kCellSize)) return i;
  }
  return static_cast<std::uint32_t>(entries.size());
}

bool StreamLog::skip(std::uint64_t epoch, Persist persist) {
  LogEntry filler{RecordType::filler};
  return !broken_ && commit({&filler, 1}, epoch, persist).ok();
}

Result<std::uint64_t> StreamLog::commit(std::span<LogEntry> entries, std::uint64_t epoch, Persist persist) {
  PmemSpace& space = cache_dev_.space();
  const Geometry& geometry = cache_dev_.geometry();
  const Segment& head = segments_.back();
  const auto first = static_cast<std::uint32_t>(next_lsn_ - head.first_lsn);
  bool any_payload = false;
  for (LogEntry& entry : entries) {
    if (entry.payload == nullptr) continue;
    any_payload = true;
    entry.payload_crc = crc32c(entry.payload, kCellSize);
  }

  if (any_payload && persist == Persist::synced) {
    const Status status = space.persist(geometry.cell_offset(head.id, first), entries.size() * kCellSize);
    if (!status.ok()) return status;
  } else if (any_payload && persist == Persist::fenced) {
    space.drain();
  }

  std::uint32_t stored = 0;
  if (Status status = store_records(entries, epoch, persist, stored); !status.ok()) {
    // They were never committed, and must not be found once later ones follow.
    for (std::uint32_t i = 0; i < stored; ++i) {
      if (!erase(head, first + i).ok()) broken_ = true;
    }
    return status;
  }
  const std::uint64_t lsn = next_lsn_;
  next_lsn_ += entries.size();
  return lsn;
}

Status StreamLog::store_records(std::span<const LogEntry> entries, std::uint64_t epoch, Persist persist,
                                std::uint32_t& stored) {
  PmemSpace& space = cache_dev_.space();
  const Segment& head = segments_.back();
  const auto first = static_cast<std::uint32_t>(next_lsn_ - head.first_lsn);
  const std::uint64_t offset = cache_dev_.geometry().record_offset(head.id, first);
  for (stored = 0; stored < entries.size(); ++stored) {
    const KeyRecord record =
        make_record(head, next_lsn_ + stored, epoch, entries[stored], static_cast<std::uint16_t>(stored));
    if (!space.write(offset + stored * kRecordSize, &record, sizeof record)) return store_failed();
  }
  if (persist == Persist::synced) return space.persist(offset, entries.size() * kRecordSize);
  space.drain();  // before another thread may append: its fence does not reach what this one stored
  return Status();
}

Status StreamLog::erase(const Segment& segment, std::uint32_t slot) {
  const KeyRecord blank{};
  const std::uint64_t offset = cache_dev_.geometry().record_offset(segment.id, slot);
  if (!cache_dev_.space().write(offset, &blank, sizeof blank)) return store_failed();
  return cache_dev_.space().persist(offset, sizeof blank);
}

Result<std::uint64_t> StreamLog::append(std::span<LogEntry> entries, std::uint64_t epoch, Persist persist) {
  if (stage(entries) != entries.size()) return store_failed();
  return commit(entries, epoch, persist);
}

Status StreamLog::store_failed() const {
  return Status(Errc::failed, cache_dev_.space().path() + ": the cache device failed while a write was stored");
}

KeyRecord StreamLog::make_record(const Segment& segment, std::uint64_t lsn, std::uint64_t epoch, const LogEntry& entry,
                                 std::uint16_t batch_pos) const {
  KeyRecord record{};
  record.cache_tag = cache_dev_.tag();
  record.lsn = lsn;
  record.generation = segment.generation;
  record.block = entry.block;
  record.epoch = epoch;
  record.count = entry.count;
  record.device_id = device_id_;
  record.payload_crc = entry.payload_crc;
  record.batch_pos = batch_pos;
  record.type = entry.type;
  record.stream = stream_;
  record.crc = record_crc(record);
  return record;
}

std::uint32_t StreamLog::slot_of(std::uint64_t lsn) const {
  if (const Segment& head = segments_.back(); lsn >= head.first_lsn) {  // most often, and without a search
    return head.id * slots_ + static_cast<std::uint32_t>(lsn - head.first_lsn);
  }
  const auto after = std::upper_bound(segments_.begin(), segments_.end(), lsn,
                                      [](std::uint64_t value, const Segment& s) { return value < s.first_lsn; });
  const Segment& segment = *std::prev(after);
  return segment.id * slots_ + static_cast<std::uint32_t>(lsn - segment.first_lsn);
}

Status StreamLog::release_front() {
  const Status status = pool_.release(segments_.front().id);
  if (status.ok()) segments_.pop_front();
  count_segments();
  return status;
}

Status StreamLog::release_all() {
  while (!segments_.empty()) {
    if (Status status = release_front(); !status.ok()) return status;
  }
  next_lsn_ = 0;  // as whoever finds no segments begins
  next_chain_ = 0;
  return Status();
}

bool StreamLog::adopt(std::vector<SegmentPool::InUse> segments) {
  std::sort(segments.begin(), segments.end(),
            [](const auto& a, const auto& b) { return a.entry.chain < b.entry.chain; });
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentEntry& entry = segments[i].entry;
    if (entry.first_lsn >= kCounterLimit || entry.chain >= kCounterLimit) return false;
    if (i == 0) continue;
    const SegmentEntry& before = segments[i - 1].entry;
    // Entries in between may be damaged, which leaves a hole of as many slots.
    const std::uint64_t step = entry.chain - before.chain;
    if (step == 0 || step > pool_.total() || entry.first_lsn != before.first_lsn + step * slots_) return false;
  }
  for (const auto& [id, entry] : segments) {
    segments_.push_back({id, entry.generation, entry.chain, entry.first_lsn});
    next_lsn_ = entry.first_lsn;
    next_chain_ = entry.chain + 1;
  }
  count_segments();
  return true;
}

bool StreamLog::read_record(const Segment& segment, std::uint32_t slot, KeyRecord& record) const {
  const bool found =
      cache_dev_.space().read(cache_dev_.geometry().record_offset(segment.id, slot), &record, sizeof record) &&
      is_intact(record) && record.cache_tag == cache_dev_.tag() && record.lsn == segment.first_lsn + slot &&
      record.generation == segment.generation && record.device_id == device_id_ && record.stream == stream_;
  if (found && is_void(record)) record.type = RecordType::filler;
  return found;
}

bool StreamLog::makes_sense(const Replay& device, const KeyRecord& record, std::uint32_t slot,
                            std::uint64_t epoch_before) const {
  if (record.epoch < epoch_before || record.epoch > device.newest_epoch || record.batch_pos > slot) return false;
  if (record.type == RecordType::filler) return true;
  if (record.block >= device.device_blocks || record.count < 1 || record.count > device.device_blocks - record.block ||
      record.count > 0xffffffff) {
    return false;
  }
  switch (record.type) {
    case RecordType::zero:
    case RecordType::gone:
      return true;
    case RecordType::write:
    case RecordType::clean:
    case RecordType::lost:
      return record.count == 1 && (!device.is_ours || device.is_ours(record.block));
    default:
      return false;
  }
}

bool StreamLog::payload_intact(const Segment& segment, std::uint32_t slot, const KeyRecord& record) const {
  std::array<std::byte, kCellSize> cell;
  return cache_dev_.space().read(cache_dev_.geometry().cell_offset(segment.id, slot), cell.data(), cell.size()) &&
         crc32c(cell.data(), cell.size()) == record.payload_crc;
}

std::uint64_t StreamLog::last_epoch() const {
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    for (std::uint32_t slot = slots_; slot-- > 0;) {
      KeyRecord record;
      if (read_record(*segment, slot, record) && record.epoch < kCounterLimit) return record.epoch;
    }
  }
  return 0;
}

std::vector<StreamLog::Hole> StreamLog::replay(
    const Replay& device, const std::function<void(std::uint64_t lsn, const KeyRecord& record)>& visit) {
  const bool page_media = cache_dev_.space().granularity() == Granularity::page;
  const auto unflushed = [&](std::uint64_t epoch) {
    return page_media && !device.was_closed && epoch + 1 >= device.newest_epoch && epoch > device.clean_epoch;
  };
  std::vector<Hole> holes;
  if (segments_.empty()) return holes;

  std::uint64_t expected = segments_.front().first_lsn;  // the slot after the last one read
  std::uint64_t epoch = 0;                               // of that one
  std::size_t judged = 0;                                // holes that a later batch follows
  Hole gap;                                              // what is known of the hole that begins at `expected`
  std::uint64_t end_before = expected;                   // of the segment before
  for (const Segment& segment : segments_) {
    if (segment.first_lsn != end_before) gap.evident = true;
    end_before = end_lsn(segment);
    for (std::uint32_t slot = 0; slot < slots_; ++slot) {
      KeyRecord record;
      if (!read_record(segment, slot, record)) continue;
      if (!makes_sense(device, record, slot, epoch)) {
        gap.evident = true;
        gap.next_epoch = std::max(gap.next_epoch, record.epoch);
        next_lsn_ = record.lsn + 1;
        continue;
      }
      if (has_payload(record.type) && unflushed(record.epoch) && !payload_intact(segment, slot, record)) continue;
      if (record.lsn > expected) {
        const std::uint64_t next_epoch = std::max(gap.next_epoch, record.epoch);
        // A segment is full, and but for page media durable, before the next one is taken.
        const bool in_last_batch =
            expected >= segment.first_lsn && !device.was_closed && next_epoch > device.clean_epoch;
        const bool torn = !gap.evident && (in_last_batch || unflushed(next_epoch));
        holes.push_back({expected, record.lsn - expected, torn, next_epoch, gap.evident});
      }
      // A batch is durable before the next one starts: only the slots of the last batch can be torn.
      const std::uint64_t batch = record.lsn - record.batch_pos;
      for (; judged < holes.size() && batch >= holes[judged].first_lsn + holes[judged].count; ++judged) {
        holes[judged].torn = !holes[judged].evident && unflushed(holes[judged].next_epoch);
      }
      gap = Hole();
      epoch = record.epoch;
      expected = record.lsn + 1;
      next_lsn_ = expected;
      visit(record.lsn, record);
    }
  }
  // The head is the last segment, whatever of the ones before it never reached the medium.
  next_lsn_ = std::max(next_lsn_, segments_.back().first_lsn);
  if (expected < next_lsn_) {
    holes.push_back({expected, next_lsn_ - expected, !gap.evident && page_media && !device.was_closed,
                     std::max(gap.next_epoch, device.newest_epoch), gap.evident});
  }
  return holes;
}

Status StreamLog::fill(const Segment& segment, std::uint64_t lsn, std::uint64_t epoch) {
  PmemSpace& space = cache_dev_.space();
  const KeyRecord record = make_record(segment, lsn, epoch, {RecordType::filler}, 0);
  const std::uint64_t offset =
      cache_dev_.geometry().record_offset(segment.id, static_cast<std::uint32_t>(lsn - segment.first_lsn));
  if (!space.write(offset, &record, sizeof record)) {
    return Status(Errc::failed, space.path() + ": the cache device failed during recovery");
  }
  return space.persist(offset, sizeof record);
}

Status StreamLog::void_records(std::span<const std::uint64_t> lsns) {
  PmemSpace& space = cache_dev_.space();
  const Geometry& geometry = cache_dev_.geometry();
  auto segment = segments_.begin();
  for (std::size_t i = 0; i < lsns.size();) {
    while (end_lsn(*segment) <= lsns[i]) ++segment;
    const std::uint64_t records = geometry.record_offset(segment->id, 0);
    for (; i < lsns.size() && lsns[i] < end_lsn(*segment); ++i) {
      const auto slot = static_cast<std::uint32_t>(lsns[i] - segment->first_lsn);
      KeyRecord record;
      if (!read_record(*segment, slot, record) || record.type == RecordType::filler) continue;
      const std::array<std::uint32_t, 2> head = {~record.crc, record.cache_tag};  // 8 bytes, which no crash tears
      if (!space.write(records + slot * kRecordSize, head.data(), sizeof head)) return store_failed();
    }
    if (Status status = space.persist(records, slots_ * kRecordSize); !status.ok()) return status;
  }
  return Status();
}

// Whatever is stored in the place of a torn record may have the words in common with it that it lacks, such as its LSN:
// if a crash let only those arrive, the record would be whole, though it was missing before and its cell may be another
// one's by then. Without its first word, which is stored whole or not, it never can be.
Status StreamLog::disarm_torn(const Segment& segment, std::uint64_t first_lsn, std::uint64_t end_lsn) {
  PmemSpace& space = cache_dev_.space();
  const std::uint64_t begin = cache_dev_.geometry().record_offset(segment.id, 0);
  bool any = false;
  for (std::uint64_t lsn = first_lsn; lsn < end_lsn; ++lsn) {
    const std::uint64_t offset = begin + (lsn - segment.first_lsn) * kRecordSize;
    KeyRecord record;
    if (!space.read(offset, &record, sizeof record) || is_intact(record)) continue;
    if (record.crc == 0 && record.cache_tag == 0) continue;
    const std::array<std::uint32_t, 2> none{};
    if (!space.write(offset, none.data(), sizeof none)) return store_failed();
    any = true;
  }
  return any ? space.persist(begin, slots_ * kRecordSize) : Status();
}

// Persist order: all that the log consists of, the first words of torn records, then fillers into holes, the filler of
// the newest epoch, erasures, one by one; nothing else is appended before. What a killed process left behind and was
// read now, fillers of its own recovery among it, may not be durable yet: once something newer is, it would be missed
// as a hole that no crash explains.
Status StreamLog::settle(std::span<const Hole> holes) {
  if (segments_.empty()) return Status();
  PmemSpace& space = cache_dev_.space();
  const Geometry& geometry = cache_dev_.geometry();
  for (const Segment& each : segments_) {
    const Status status = persist_readable(space, geometry.segment_offset(each.id), geometry.segment_size);
    if (!status.ok()) return status;
  }
  if (Status status = disarm_torn(segments_.back(), next_lsn_, end_lsn(segments_.back())); !status.ok()) return status;
  auto segment = segments_.begin();  // holes come in the order of the log
  for (const Hole& hole : holes) {
    if (!hole.torn) continue;
    for (std::uint64_t lsn = hole.first_lsn; lsn < hole.first_lsn + hole.count; ++lsn) {
      while (end_lsn(*segment) <= lsn) ++segment;  // no segment is missing in a torn hole
      if (Status status = disarm_torn(*segment, lsn, lsn + 1); !status.ok()) return status;
      if (Status status = fill(*segment, lsn, hole.next_epoch); !status.ok()) return status;
    }
  }
  // A record whose payload did not count was not the last one of the log, and would be found as if newer than what is
  // appended in its place and before it. But its epoch was the newest: a filler goes on saying so, since the next
  // recovery would else take one epoch more for unflushed, and drop damaged records of it without a word.
  const Segment& head = segments_.back();
  std::uint64_t newest_epoch = last_epoch();
  for (const Hole& hole : holes) {
    if (hole.torn) newest_epoch = std::max(newest_epoch, hole.next_epoch);  // fillers before it may be of a later one
  }
  bool any = false;
  for (std::uint64_t lsn = next_lsn_; lsn < end_lsn(head); ++lsn) {
    const auto slot = static_cast<std::uint32_t>(lsn - head.first_lsn);
    if (KeyRecord record; !read_record(head, slot, record)) continue;
    if (!any) {
      if (Status status = fill(head, next_lsn_, newest_epoch); !status.ok()) return status;
      any = true;
      if (lsn == next_lsn_) continue;
    }
    if (Status status = erase(head, slot); !status.ok()) return status;
  }
  if (any) ++next_lsn_;
  return Status();
}

}  // namespace pcache
