// A stream's log on a medium with any entries and records: what replay makes of it, what settling leaves, and that the
// next replay finds the same.

#include <vector>

#include "log/stream_log.h"
#include "media/segment_entry.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/undo_media.h"

namespace pcache {
namespace {

constexpr std::size_t kCacheBytes = 4 * kMiB;  // 8 segments
constexpr std::size_t kSegmentBytes = 256 * kKiB;
constexpr std::uint64_t kBlocks = 1000;
constexpr std::uint32_t kDevice = 1;

struct Fixture {
  Fixture() {
    UndoSpace space(cache, faults, Granularity::cache_line, kCacheBytes);
    PCACHE_CHECK(CacheDev::format(space, {{1, 2, 3}, "fuzz", kSegmentBytes}).ok(), "the image can be formatted");
    Superblock superblock;
    std::memcpy(&superblock, cache.data(), sizeof superblock);
    tag = cache_tag_of(superblock);
    cache.keep();
  }

  UndoBytes cache{kCacheBytes};
  MediumFaults faults;
  std::uint32_t tag = 0;
  const Geometry geometry = *compute_geometry(kCacheBytes, kSegmentBytes);
};

struct Seen {
  std::uint64_t lsn = 0;
  std::uint64_t block = 0;
  std::uint64_t count = 0;
  RecordType type = RecordType::none;
  bool operator==(const Seen&) const = default;
};

struct Replayed {
  std::vector<Seen> records;
  std::vector<StreamLog::Hole> holes;
  std::uint64_t next_lsn = 0;
};

Replayed replay(StreamLog& log, bool was_closed) {
  Replayed replayed;
  std::uint64_t next = 0;
  replayed.holes =
      log.replay({kBlocks, log.last_epoch(), 0, was_closed}, [&](std::uint64_t lsn, const KeyRecord& record) {
        PCACHE_CHECK(lsn >= next, "records come in the log's order");
        next = lsn + 1;
        PCACHE_CHECK(log.slot_of(lsn) < 8 * log.segments().front().id + 8 * 1024, "a record has a slot");
        if (record.type != RecordType::filler) {
          PCACHE_CHECK(record.block < kBlocks && record.count >= 1 && record.count <= kBlocks - record.block,
                       "a record is of blocks that there are");
        }
        replayed.records.push_back({lsn, record.block, record.count, record.type});
      });
  replayed.next_lsn = log.next_lsn();
  PCACHE_CHECK(replayed.next_lsn >= next, "the log goes on behind its last record");
  std::uint64_t end = 0;
  for (const StreamLog::Hole& hole : replayed.holes) {
    PCACHE_CHECK(hole.count != 0 && hole.first_lsn >= end, "holes come in the log's order");
    end = hole.first_lsn + hole.count;
    for (const Seen& record : replayed.records) {
      PCACHE_CHECK(record.lsn < hole.first_lsn || record.lsn >= end, "there is no record in a hole");
    }
  }
  PCACHE_CHECK(log.segments().empty() || end <= replayed.next_lsn, "holes are before the log's end");
  return replayed;
}

// Mostly what a log looks like, with what the input puts in the place of single fields. Returns whether the epochs are
// in order, as they are in every log that was written by us.
bool make_log(Fixture& fixture, FuzzInput& input) {
  bool in_order = true;
  std::uint64_t epoch = input.byte();
  const Geometry& g = fixture.geometry;
  std::uint64_t chain = input.byte();
  const std::uint32_t segments = input.byte() % (g.segment_count + 1);
  for (std::uint32_t i = 0; i < segments; ++i) {
    const std::uint32_t segment = (i * 3) % g.segment_count;
    SegmentEntry entry{};
    entry.header.sequence = 1;
    entry.generation = 1 + i;
    entry.chain = chain;
    entry.first_lsn = chain * g.slots_per_segment;
    entry.device_id = kDevice;
    entry.state = SegmentState::log;
    ++chain;
    switch (input.byte()) {
      case 1:
        entry.chain = input.number();
        break;
      case 2:
        entry.first_lsn = input.number();
        break;
      case 3:
        entry.generation = input.number();
        break;
      case 4:
        chain += input.byte();
        break;
      default:
        break;
    }
    seal(entry, fixture.tag, segment);
    std::memcpy(fixture.cache.change(g.segment_table + segment * kRecordSize, sizeof entry), &entry, sizeof entry);

    epoch += input.byte() % 3;
    std::uint32_t first = 0;
    const std::uint32_t records = input.byte() % (g.slots_per_segment + 1);
    for (std::uint32_t slot = 0; slot < records; ++slot) {
      KeyRecord record{};
      record.cache_tag = fixture.tag;
      record.lsn = entry.first_lsn + slot;
      record.generation = entry.generation;
      record.device_id = kDevice;
      record.count = 1;
      const std::uint8_t how = input.byte();
      record.block = how;
      record.type = static_cast<RecordType>(1 + how % 5);
      if (how % 4 == 0) first = slot;
      record.batch_pos = static_cast<std::uint16_t>(slot - first);
      if (how % 32 == 31) ++epoch;
      record.epoch = epoch;
      record.payload_crc = how % 8 == 7 ? 1 : crc32c(fixture.cache.data() + g.cell_offset(segment, slot), kCellSize);
      switch (how < 160 ? 0 : how % 9) {
        case 1:
          record.lsn = input.number();
          break;
        case 2:
          record.block = input.number();
          break;
        case 3:
          record.count = input.number();
          break;
        case 4:
          record.epoch = input.number();
          in_order = false;
          break;
        case 5:
          record.batch_pos = static_cast<std::uint16_t>(input.number());
          break;
        case 6:
          continue;
        case 7:
          record.type = static_cast<RecordType>(input.byte());
          break;
        default:
          break;
      }
      record.crc = record_crc(record) ^ (how == 255 ? 1 : 0);
      std::memcpy(fixture.cache.change(g.record_offset(segment, slot), sizeof record), &record, sizeof record);
    }
  }
  return in_order;
}

struct Opened {
  explicit Opened(Fixture& fixture, Granularity granularity) {
    auto opened = CacheDev::open(std::make_unique<UndoSpace>(fixture.cache, fixture.faults, granularity, kCacheBytes));
    PCACHE_CHECK(opened.ok(), "the superblock is sound");
    cache_dev = std::move(*opened);
    pool = std::make_unique<SegmentPool>(*cache_dev);
    log = std::make_unique<StreamLog>(*cache_dev, *pool, kDevice, 0);
  }

  std::unique_ptr<CacheDev> cache_dev;
  std::unique_ptr<SegmentPool> pool;
  std::unique_ptr<StreamLog> log;
};

void use(Fixture& fixture, Granularity granularity, bool was_closed, bool in_order) {
  Replayed first;
  {
    Opened opened(fixture, granularity);
    StreamLog& log = *opened.log;
    if (!log.adopt(opened.pool->in_use())) return;
    first = replay(log, was_closed);
    std::vector<StreamLog::Hole> torn;
    for (const StreamLog::Hole& hole : first.holes) {
      if (hole.torn) torn.push_back(hole);
    }
    PCACHE_CHECK(log.settle(torn).ok(), "a sound medium takes what recovery writes");
    PCACHE_CHECK(log.next_lsn() - first.next_lsn <= 1, "settling adds one filler at most");
    first.next_lsn = log.next_lsn();
  }
  Opened opened(fixture, granularity);
  StreamLog& log = *opened.log;
  PCACHE_CHECK(log.adopt(opened.pool->in_use()), "what was a log once is one");
  Replayed second = replay(log, was_closed);
  std::erase_if(first.records, [](const Seen& seen) { return seen.type == RecordType::filler; });
  std::erase_if(second.records, [](const Seen& seen) { return seen.type == RecordType::filler; });
  if (!in_order) return;  // what is torn and what is damaged is told apart by epochs
  PCACHE_CHECK(second.records == first.records && second.next_lsn == first.next_lsn, "recovering twice is as once");
  for (const StreamLog::Hole& hole : second.holes) {
    // A segment that is missing has no place to fill.
    for (const StreamLog::Segment& segment : log.segments()) {
      const bool outside = hole.first_lsn + hole.count <= segment.first_lsn || log.end_lsn(segment) <= hole.first_lsn;
      PCACHE_CHECK(!hole.torn || outside, "what a crash tore is filled in");
    }
  }

  // It goes on as any log does.
  const auto room = log.reserve();
  PCACHE_CHECK(room.ok(), "a sound medium has segments or none");
  if (*room == 0) return;
  const std::vector<std::byte> cell(kCellSize, std::byte{7});
  LogEntry entry{RecordType::write, 5, 1, cell.data()};
  const auto lsn = log.append({&entry, 1}, log.last_epoch() + 1, Persist::fenced);
  PCACHE_CHECK(lsn.ok() && *lsn == first.next_lsn, "the log goes on where it ended");
  PCACHE_CHECK(log.release_all().ok(), "a log can be given back");
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  static Fixture fixture;
  FuzzInput input(data, size);
  const std::uint8_t how = input.byte();
  const bool in_order = make_log(fixture, input);
  use(fixture, (how & 1) != 0 ? Granularity::page : Granularity::cache_line, (how & 2) != 0, in_order);
  fixture.cache.undo();
  return 0;
}
