#include "log/stream_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "tests/support/memory_space.h"

namespace pcache {
namespace {

using Image = std::shared_ptr<MemorySpace::Image>;
using Cell = std::array<std::byte, kCellSize>;
using Hole = StreamLog::Hole;

constexpr std::size_t kSize = 4 * kMiB;
constexpr std::uint32_t kSegments = kMinSegments;
constexpr std::uint32_t kSlots = 63;  // of a segment of kMinSegmentSize
constexpr std::uint32_t kDevice = 7;
constexpr std::uint32_t kStream = 2;
constexpr std::uint64_t kDeviceBlocks = 100000;

// The content of a block as some version of it.
Cell cell_of(std::uint64_t block, std::uint64_t epoch) {
  Cell cell;
  for (std::size_t i = 0; i < cell.size(); ++i) cell[i] = static_cast<std::byte>(block * 31 + epoch * 7 + i / 8);
  return cell;
}

bool has_payload(RecordType type) { return type == RecordType::write || type == RecordType::clean; }

// A record's essence: what was appended, what is read.
struct Item {
  RecordType type = RecordType::write;
  std::uint64_t block = 0;
  std::uint64_t count = 1;
  std::uint64_t epoch = 1;
  std::uint64_t lsn = 0;

  bool operator==(const Item&) const = default;
};

void PrintTo(const Item& item, std::ostream* out) {
  *out << "lsn " << item.lsn << " type " << static_cast<int>(item.type) << " block " << item.block << " epoch "
       << item.epoch;
}

using Items = std::vector<Item>;

Items writes(std::uint64_t first_block, std::uint64_t count, std::uint64_t epoch = 1) {
  Items items;
  for (std::uint64_t i = 0; i < count; ++i) items.push_back({RecordType::write, first_block + i, 1, epoch});
  return items;
}

// A space that tells what is going on when something is written.
class WatchedSpace final : public MemorySpace {
 public:
  using MemorySpace::MemorySpace;

  bool write(std::size_t offset, const void* source, std::size_t length) override {
    if (on_write) on_write(offset);
    return MemorySpace::write(offset, source, length);
  }

  std::function<void(std::size_t offset)> on_write;
};

// One stream's log, found on an image.
class LogOn {
 public:
  explicit LogOn(const Image& image, Granularity granularity = Granularity::cache_line,
                 const MemorySpace::Image* synced = nullptr, std::uint32_t device = kDevice,
                 std::uint32_t stream = kStream) {
    auto below = std::make_unique<WatchedSpace>(image, granularity, "memory", synced);
    space = below.get();
    auto opened = CacheDev::open(std::move(below));
    if (!opened) {
      ADD_FAILURE() << opened.status().message();
      std::abort();
    }
    dev = std::move(opened).value();
    pool = std::make_unique<SegmentPool>(*dev);
    log = std::make_unique<StreamLog>(*dev, *pool, device, stream);
    std::vector<SegmentPool::InUse> segments = pool->in_use();
    std::erase_if(segments, [&](const auto& s) { return s.entry.device_id != device || s.entry.stream != stream; });
    std::reverse(segments.begin(), segments.end());  // the table's order means nothing
    EXPECT_TRUE(log->adopt(std::move(segments)));
  }

  // Appends one batch, which fits into the head, and fills in the LSNs.
  Result<std::uint64_t> try_append(Items& items, Persist persist = Persist::fenced) {
    std::vector<Cell> cells(items.size());
    std::vector<LogEntry> entries;
    for (std::size_t i = 0; i < items.size(); ++i) {
      cells[i] = cell_of(items[i].block, items[i].epoch);
      entries.push_back(
          {items[i].type, items[i].block, items[i].count, has_payload(items[i].type) ? cells[i].data() : nullptr});
    }
    const auto room = log->reserve();
    EXPECT_TRUE(room.ok() && *room >= items.size()) << "the batch does not fit";
    if (!room.ok() || *room < items.size()) return Status(Errc::no_space, "the batch does not fit");
    const auto lsn = log->append(entries, items.front().epoch, persist);
    if (lsn) {
      for (std::size_t i = 0; i < items.size(); ++i) items[i].lsn = *lsn + i;
    }
    return lsn;
  }
  Items append(Items items, Persist persist = Persist::fenced) {
    const auto lsn = try_append(items, persist);
    EXPECT_TRUE(lsn.ok()) << lsn.status().message();
    return items;
  }
  // Fills the head up to its end, a block a batch.
  Items fill_segment(std::uint64_t epoch = 1) {
    Items all;
    do {
      all.push_back(append(writes(log->next_lsn(), 1, epoch)).front());
    } while (log->room() != 0);
    return all;
  }

  // What replay visits; the holes end up in `holes`.
  Items replay(std::uint64_t newest_epoch = 1) {
    Items items;
    holes = log->replay({kDeviceBlocks, newest_epoch}, [&](std::uint64_t lsn, const KeyRecord& record) {
      EXPECT_EQ(lsn, record.lsn);
      items.push_back({record.type, record.block, record.count, record.epoch, lsn});
    });
    return items;
  }

  Cell cell_at(std::uint64_t lsn) const {
    Cell cell;
    const std::uint32_t slot = log->slot_of(lsn);
    EXPECT_TRUE(space->read(dev->geometry().cell_offset(slot / kSlots, slot % kSlots), cell.data(), cell.size()));
    return cell;
  }
  std::uint64_t record_offset(std::uint64_t lsn) const {
    const std::uint32_t slot = log->slot_of(lsn);
    return dev->geometry().record_offset(slot / kSlots, slot % kSlots);
  }
  std::uint64_t cell_offset(std::uint64_t lsn) const {
    const std::uint32_t slot = log->slot_of(lsn);
    return dev->geometry().cell_offset(slot / kSlots, slot % kSlots);
  }
  std::vector<SegmentId> segment_ids() const {
    std::vector<SegmentId> ids;
    for (const StreamLog::Segment& segment : log->segments()) ids.push_back(segment.id);
    return ids;
  }

  WatchedSpace* space;
  std::unique_ptr<CacheDev> dev;
  std::unique_ptr<SegmentPool> pool;
  std::unique_ptr<StreamLog> log;
  std::vector<Hole> holes;
};

void operator+=(Items& items, const Items& more) { items.insert(items.end(), more.begin(), more.end()); }

class StreamLogTest : public testing::Test {
 protected:
  StreamLogTest() {
    MemorySpace space(image_);
    EXPECT_TRUE(CacheDev::format(space, {{1, 2, 3}, "", kMinSegmentSize}).ok());
    open();
    EXPECT_EQ(on_->dev->geometry().slots_per_segment, kSlots);
  }

  void open(Granularity granularity = Granularity::cache_line) {
    on_.reset();
    on_ = std::make_unique<LogOn>(image_, granularity);
  }
  LogOn& on() { return *on_; }
  StreamLog& log() { return *on_->log; }

  // As if the record had never reached the medium.
  void lose_record(std::uint64_t lsn) { wipe(*image_, on_->record_offset(lsn)); }
  static void wipe(MemorySpace::Image& image, std::uint64_t offset) {
    std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(offset), kRecordSize, std::byte{0});
  }
  void damage(std::uint64_t offset) { (*image_)[offset] ^= std::byte{0x08}; }

  // Changes a record on the medium and makes its checksum right again.
  void forge(std::uint64_t lsn, const std::function<void(KeyRecord&)>& change) {
    KeyRecord record;
    ASSERT_TRUE(on_->space->read(on_->record_offset(lsn), &record, sizeof record));
    change(record);
    record.crc = record_crc(record);
    ASSERT_TRUE(on_->space->write(on_->record_offset(lsn), &record, sizeof record));
  }

  static void expect_hole(const Hole& hole, std::uint64_t first_lsn, std::uint64_t count, bool torn) {
    EXPECT_EQ(hole.first_lsn, first_lsn);
    EXPECT_EQ(hole.count, count);
    EXPECT_EQ(hole.torn, torn);
  }

  const Image image_ = MemorySpace::make_image(kSize);
  std::unique_ptr<LogOn> on_;
};

// --- Appending and the chain

TEST_F(StreamLogTest, ReplaysWhatWasAppendedOverSeveralSegments) {
  Items all;
  for (std::uint64_t epoch = 1; epoch <= 24; ++epoch) {
    Items batch = writes(epoch * 100, epoch % 5 + 1, epoch);
    batch.push_back({RecordType::clean, epoch, 1, epoch});
    batch.push_back({RecordType::zero, epoch * 7, 1000, epoch});
    batch.push_back({RecordType::lost, epoch * 9, 1, epoch});
    const auto room = log().reserve();
    ASSERT_TRUE(room.ok());
    if (*room < batch.size()) all += on().fill_segment(epoch);
    all += on().append(batch, epoch % 2 == 0 ? Persist::synced : Persist::fenced);
  }
  EXPECT_EQ(log().segments().size(), 3U);
  const std::uint64_t next_lsn = log().next_lsn();
  open();
  EXPECT_EQ(log().last_epoch(), 24U);
  EXPECT_EQ(on().replay(24), all);
  EXPECT_TRUE(on().holes.empty());
  EXPECT_EQ(log().next_lsn(), next_lsn);
  for (const Item& item : all) {
    if (has_payload(item.type)) {
      EXPECT_EQ(on().cell_at(item.lsn), cell_of(item.block, item.epoch)) << "LSN " << item.lsn;
    }
  }

  all += on().append(writes(5, 3, 25));
  all += on().fill_segment(25);
  all += on().append(writes(8, 3, 26));
  open();
  EXPECT_EQ(on().replay(26), all) << "the log goes on where it ended";
  EXPECT_TRUE(on().holes.empty());
}

TEST_F(StreamLogTest, EmptyLogReplaysNothing) {
  EXPECT_TRUE(on().replay().empty());
  EXPECT_TRUE(on().holes.empty());
  EXPECT_EQ(log().last_epoch(), 0U);
  EXPECT_EQ(log().next_lsn(), 0U);
  EXPECT_TRUE(log().settle({}).ok());
  ASSERT_TRUE(log().reserve().ok());  // a segment without a record
  open();
  EXPECT_TRUE(on().replay().empty());
  EXPECT_TRUE(on().holes.empty());
  EXPECT_EQ(log().segments().size(), 1U);
  EXPECT_EQ(on().append(writes(1, 1)).front().lsn, 0U);
}

TEST_F(StreamLogTest, LsnsCountSlotsOverAllSegments) {
  on().fill_segment();
  EXPECT_EQ(log().next_lsn(), kSlots);
  EXPECT_EQ(log().room(), 0U);
  EXPECT_EQ(on().append(writes(1, 2)).front().lsn, kSlots);
  EXPECT_EQ(log().room(), kSlots - 2);
  on().append(writes(1, kSlots - 2));
  on().append(writes(1, 1));

  ASSERT_EQ(log().segments().size(), 3U);
  for (std::uint64_t i = 0; i < 3; ++i) {
    const StreamLog::Segment& segment = log().segments()[i];
    EXPECT_EQ(segment.chain, i);
    EXPECT_EQ(segment.first_lsn, i * kSlots);
    EXPECT_EQ(log().end_lsn(segment), (i + 1) * kSlots);
    for (const std::uint32_t slot : {0U, 1U, kSlots - 1}) {
      EXPECT_EQ(log().slot_of(segment.first_lsn + slot), segment.id * kSlots + slot);
    }
  }
}

TEST_F(StreamLogTest, ReserveTakesASegmentOnlyWhenTheHeadIsFull) {
  EXPECT_EQ(log().room(), 0U);
  EXPECT_EQ(*log().reserve(), kSlots);
  EXPECT_EQ(*log().reserve(), kSlots);
  EXPECT_EQ(on().pool->free_count(), kSegments - 1);
  on().append(writes(1, kSlots - 1));
  EXPECT_EQ(*log().reserve(), 1U);
  EXPECT_EQ(on().pool->free_count(), kSegments - 1);
  on().append(writes(1, 1));
  EXPECT_EQ(*log().reserve(), kSlots);
  EXPECT_EQ(on().pool->free_count(), kSegments - 2);
}

TEST_F(StreamLogTest, ReserveSaysThatThereIsNoRoom) {
  for (std::uint32_t i = 0; i < kSegments; ++i) on().fill_segment();
  EXPECT_EQ(*log().reserve(), 0U);
  ASSERT_TRUE(log().release_front().ok());
  EXPECT_EQ(*log().reserve(), kSlots);
}

TEST_F(StreamLogTest, ReserveSaysThatTheMediumFailed) {
  on().space->fail_writes(0, kSize);
  EXPECT_EQ(log().reserve().status().code(), Errc::failed);
  EXPECT_TRUE(log().segments().empty());
}

TEST_F(StreamLogTest, ReleasedFrontIsForgottenAndTheRestStays) {
  on().fill_segment();
  const Items rest = on().fill_segment();
  const SegmentId front = log().segments().front().id;
  ASSERT_TRUE(log().release_front().ok());
  EXPECT_EQ(on().pool->free_count(), kSegments - 1);
  EXPECT_EQ(log().segments().size(), 1U);
  open();
  EXPECT_EQ(on().replay(), rest);
  EXPECT_TRUE(on().holes.empty()) << "what was released is no hole";
  EXPECT_NE(on().segment_ids(), std::vector<SegmentId>{front});
  EXPECT_EQ(on().append(writes(3, 1)).front().lsn, 2 * kSlots);
  EXPECT_EQ(log().segments().back().chain, 2U);
}

TEST_F(StreamLogTest, FrontThatCannotBeReleasedStays) {
  const Items first = on().fill_segment();
  const Items second = on().fill_segment();
  on().space->fail_writes(0, on().dev->geometry().first_segment);
  EXPECT_EQ(log().release_front().code(), Errc::failed);
  EXPECT_EQ(log().segments().size(), 2U);
  on().space->heal();
  Items all = first;
  all += second;
  EXPECT_EQ(on().replay(), all);
}

TEST_F(StreamLogTest, ReleaseAllLeavesNothing) {
  on().fill_segment();
  on().append(writes(1, 5));
  ASSERT_TRUE(log().release_all().ok());
  EXPECT_TRUE(log().segments().empty());
  EXPECT_EQ(on().pool->free_count(), kSegments);
  open();
  EXPECT_TRUE(on().replay().empty());
}

// --- Order and durability

TEST_F(StreamLogTest, StagedWithoutCommitWasNeverThere) {
  Items all = on().append(writes(1, 3));
  const Cell cell = cell_of(50, 1);
  const std::array<LogEntry, 2> entries = {LogEntry{RecordType::write, 50, 1, cell.data()},
                                           LogEntry{RecordType::write, 51, 1, cell.data()}};
  ASSERT_EQ(log().stage(entries), entries.size());
  EXPECT_EQ(log().next_lsn(), 3U);
  EXPECT_EQ(LogOn(MemorySpace::copy_image(*image_)).replay(), all);

  all += on().append(writes(80, 1, 2));  // takes the first of the two slots
  EXPECT_EQ(all.back().lsn, 3U);
  open();
  EXPECT_EQ(on().replay(2), all);
  EXPECT_TRUE(on().holes.empty());
  EXPECT_EQ(on().cell_at(3), cell_of(80, 2));
}

TEST_F(StreamLogTest, RecordsComeAfterAFenceThatPayloadsCameBefore) {
  ASSERT_TRUE(log().reserve().ok());
  const Geometry g = on().dev->geometry();
  for (const Persist persist : {Persist::fenced, Persist::relaxed}) {
    const std::uint64_t before = on().space->drains();
    std::vector<std::uint64_t> payload_fences;
    std::vector<std::uint64_t> record_fences;
    on().space->on_write = [&](std::size_t offset) {
      const bool is_cell = (offset - g.first_segment) % g.segment_size >= g.cells_offset;
      (is_cell ? payload_fences : record_fences).push_back(on().space->drains() - before);
    };
    on().append(writes(1, 3), persist);
    const std::uint64_t between = persist == Persist::fenced ? 1 : 0;
    EXPECT_EQ(payload_fences, (std::vector<std::uint64_t>{0, 0, 0}));
    EXPECT_EQ(record_fences, (std::vector<std::uint64_t>{between, between, between}));
    EXPECT_EQ(on().space->drains() - before, between + 1) << "durable on return";
  }
}

TEST_F(StreamLogTest, SyncedIsDurableOnPageMediaAndPayloadsAreFirst) {
  open(Granularity::page);
  Items all = on().append(writes(1, 2), Persist::synced);
  const Geometry g = on().dev->geometry();
  bool payload_was_durable = true;
  on().space->on_write = [&](std::size_t offset) {
    if ((offset - g.first_segment) % g.segment_size >= g.cells_offset) return;  // payloads
    const auto durable = on().space->durable_image();
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Cell expected = cell_of(20 + i, 2);
      const auto cell =
          durable->begin() + static_cast<std::ptrdiff_t>(g.cell_offset(on().segment_ids()[0], 2) + i * kCellSize);
      payload_was_durable &= std::equal(expected.begin(), expected.end(), cell);
    }
  };
  all += on().append(writes(20, 3, 2), Persist::synced);
  EXPECT_TRUE(payload_was_durable);
  on().space->on_write = nullptr;
  on().append(writes(30, 3, 2), Persist::fenced);  // and this is not durable
  LogOn left(on().space->durable_image(), Granularity::page);
  EXPECT_EQ(left.replay(2), all);
}

TEST_F(StreamLogTest, FailedAppendAppendsNothing) {
  const Items all = on().append(writes(1, 3));
  for (const bool payload : {true, false}) {
    on().space->fail_writes(payload ? on().cell_offset(4) : on().record_offset(4), 1);
    Items batch = writes(9, 3);
    EXPECT_EQ(on().try_append(batch).status().code(), Errc::failed);
    on().space->heal();
    EXPECT_EQ(log().next_lsn(), 3U);
  }
  Items expected = all;
  expected += on().append(writes(70, 3));
  open();
  EXPECT_EQ(on().replay(), expected);
  EXPECT_TRUE(on().holes.empty());
}

// --- Crashes

// Stores that reach the medium in order leave a beginning of the batch.
TEST_F(StreamLogTest, CrashInABatchLeavesABeginningOfIt) {
  const Items before = on().append(writes(1, 3));
  Items batch = writes(40, 4, 2);
  for (std::uint64_t i = 0; i < batch.size(); ++i) batch[i].lsn = 3 + i;
  on_.reset();
  std::vector<bool> seen(batch.size() + 1);
  for (std::uint64_t written = 0; written <= 2 * batch.size(); ++written) {
    for (std::size_t torn_bytes = 0; torn_bytes <= kRecordSize; torn_bytes += 8) {
      SCOPED_TRACE(testing::Message() << "cut after " << written << " writes and " << torn_bytes << " bytes");
      const Image left = MemorySpace::copy_image(*image_);
      {
        LogOn crashing(left);
        ASSERT_EQ(crashing.replay(), before);
        crashing.space->cut_after(written, torn_bytes);
        crashing.append(batch);
      }
      LogOn after(left);
      const Items items = after.replay(2);
      ASSERT_GE(items.size(), before.size());
      ASSERT_LE(items.size(), before.size() + batch.size());
      Items expected = before;
      expected.insert(expected.end(), batch.begin(),
                      batch.begin() + static_cast<std::ptrdiff_t>(items.size() - before.size()));
      EXPECT_EQ(items, expected);
      EXPECT_TRUE(after.holes.empty());
      for (const Item& item : items) {
        EXPECT_EQ(after.cell_at(item.lsn), cell_of(item.block, item.epoch)) << "a record without its payload";
      }
      seen[items.size() - before.size()] = true;

      ASSERT_TRUE(after.log->settle(after.holes).ok());
      expected += after.append(writes(60, 2, 3));
      LogOn again(left);
      EXPECT_EQ(again.replay(3), expected);
      EXPECT_TRUE(again.holes.empty());
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_EQ(seen, std::vector<bool>(batch.size() + 1, true)) << "the crashes missed a state";
}

// Stores may also reach the medium in any order, up to the fence that ends the batch.
class TornBatchTest : public StreamLogTest {
 protected:
  static constexpr unsigned kBatch = 4;

  TornBatchTest() {
    before_ = on().append(writes(1, 3));
    batch_ = on().append(writes(40, kBatch, 2));
  }

  // What is left when only the records in `mask` of the batch got there.
  Image left_of(unsigned mask) {
    const Image left = MemorySpace::copy_image(*image_);
    for (const Item& item : batch_) {
      if ((mask >> (item.lsn - batch_.front().lsn) & 1) == 0) wipe(*left, on().record_offset(item.lsn));
    }
    return left;
  }
  // What replay should find then; with the holes settled, or not.
  Items expected(unsigned mask, bool settled) const {
    Items items = before_;
    for (unsigned i = 0; i < kBatch; ++i) {
      if ((mask >> i & 1) != 0) {
        items.push_back(batch_[i]);
      } else if (settled && mask >> i != 0) {  // with nothing behind it, it is no hole but the end
        items.push_back({RecordType::filler, 0, 1, 2, batch_[i].lsn});
      }
    }
    return items;
  }

  Items before_;
  Items batch_;
};

TEST_F(TornBatchTest, HolesAreTornAndAreFilled) {
  for (unsigned mask = 0; mask < 1U << kBatch; ++mask) {
    SCOPED_TRACE(testing::Message() << "records that got there: " << mask);
    const Image left = left_of(mask);
    LogOn after(left);
    EXPECT_EQ(after.replay(2), expected(mask, false));
    std::uint64_t missing = 0;
    for (const Hole& hole : after.holes) {
      EXPECT_TRUE(hole.torn);
      EXPECT_EQ(hole.next_epoch, 2U);
      missing += hole.count;
    }
    EXPECT_EQ(missing, expected(mask, true).size() - expected(mask, false).size());
    ASSERT_TRUE(after.log->settle(after.holes).ok());

    LogOn again(left);
    Items all = expected(mask, true);
    EXPECT_EQ(again.replay(2), all);
    EXPECT_TRUE(again.holes.empty());
    all += again.append(writes(60, 2, 3));
    LogOn later(left);
    EXPECT_EQ(later.replay(3), all);
    EXPECT_TRUE(later.holes.empty());
  }
}

// Of the record that comes in the place of a torn one only those words may arrive that the torn one lacks.
TEST_F(TornBatchTest, ATornRecordIsNotCompletedByWordsOfTheNextOne) {
  for (unsigned missing = 0; missing < 0xff; ++missing) {
    SCOPED_TRACE(testing::Message() << "words that the torn record lacks: " << missing);
    const Image left = left_of(0);
    const std::size_t offset = on().record_offset(batch_.front().lsn);
    const auto copy_words = [offset](const Image& to, const Image& from, unsigned words) {
      for (std::size_t word = 0; word < kRecordSize / 8; ++word) {
        if ((words >> word & 1) != 0) std::copy_n(from->data() + offset + word * 8, 8, to->data() + offset + word * 8);
      }
    };
    copy_words(left, image_, ~missing);
    LogOn after(left);
    Items found = after.replay(2);
    const bool whole = missing == 0;
    EXPECT_EQ(found.size(), before_.size() + (whole ? 1 : 0));
    ASSERT_TRUE(after.log->settle(after.holes).ok());
    if (whole) continue;
    const Image settled = MemorySpace::copy_image(*left);
    Items with_next = found;
    with_next += after.append(writes(60, 1, 3));
    copy_words(settled, left, missing);
    LogOn again(settled);
    // The next one may have arrived, where the torn one had the rest of its words.
    const Items now = again.replay(3);
    EXPECT_EQ(now, now == with_next ? with_next : found);
  }
}

TEST_F(TornBatchTest, CrashWhileHolesAreFilledLeavesTornHoles) {
  const unsigned mask = 0b1000;  // three holes in a row
  for (std::uint64_t written = 0; written <= 3; ++written) {
    for (std::size_t torn_bytes = 0; torn_bytes <= kRecordSize; torn_bytes += 8) {
      SCOPED_TRACE(testing::Message() << "cut after " << written << " writes and " << torn_bytes << " bytes");
      const Image left = left_of(mask);
      {
        LogOn crashing(left);
        crashing.replay(2);
        crashing.space->cut_after(written, torn_bytes);
        ASSERT_TRUE(crashing.log->settle(crashing.holes).ok());
      }
      LogOn after(left);
      after.replay(2);
      for (const Hole& hole : after.holes) EXPECT_TRUE(hole.torn);
      ASSERT_TRUE(after.log->settle(after.holes).ok());
      LogOn again(left);
      EXPECT_EQ(again.replay(2), expected(mask, true));
      EXPECT_TRUE(again.holes.empty());
    }
  }
}

TEST_F(TornBatchTest, SettleSaysThatTheMediumFailed) {
  LogOn after(left_of(0b1000));
  after.replay(2);
  after.space->fail_writes(after.record_offset(5), 1);
  EXPECT_EQ(after.log->settle(after.holes).code(), Errc::failed);
}

// --- Damage

// A batch is durable before the next one begins: what is missing from one that is not the last has been there, and was
// acknowledged, wherever in its batch it is.
TEST_F(StreamLogTest, DamagedRecordIsAHoleThatNoCrashExplains) {
  Items all = on().append(writes(1, 3));
  all += on().append(writes(20, 3, 2));
  for (const std::uint64_t lsn : {0U, 1U, 2U}) {
    for (std::size_t byte = 0; byte < kRecordSize; ++byte) {
      SCOPED_TRACE(testing::Message() << "byte " << byte << " of the record at " << lsn);
      damage(on().record_offset(lsn) + byte);
      open();
      Items expected = all;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(lsn));
      EXPECT_EQ(on().replay(2), expected);
      ASSERT_EQ(on().holes.size(), 1U);
      expect_hole(on().holes[0], lsn, 1, false);
      EXPECT_EQ(on().holes[0].next_epoch, lsn == 2 ? 2U : 1U);
      damage(on().record_offset(lsn) + byte);
      if (HasFailure()) break;
    }
  }
}

TEST_F(StreamLogTest, UnreadableRecordsAreAHoleThatNoCrashExplains) {
  on().append(writes(1, 3));
  on().append(writes(10, 3));
  const Items later = on().append(writes(20, 3, 2));
  on().space->fail_reads(on().record_offset(0), 6 * kRecordSize);
  EXPECT_EQ(on().replay(2), later);
  ASSERT_EQ(on().holes.size(), 1U);
  expect_hole(on().holes[0], 0, 6, false);
}

TEST_F(StreamLogTest, HoleAcrossSegmentsIsOne) {
  on().fill_segment();
  on().append(writes(1, 2));
  const Items last = on().append(writes(5, 1, 2));
  for (std::uint64_t lsn = kSlots - 2; lsn < kSlots + 2; ++lsn) lose_record(lsn);
  open();
  EXPECT_EQ(on().replay(2).back(), last.front());
  ASSERT_EQ(on().holes.size(), 1U);
  expect_hole(on().holes[0], kSlots - 2, 4, false);
}

TEST_F(StreamLogTest, MissingSegmentIsAHoleThatNoCrashExplains) {
  Items all = on().fill_segment();
  on().fill_segment();
  const SegmentId missing = log().segments().back().id;
  all += on().append(writes(1, 2));
  ASSERT_TRUE(on().pool->release(missing).ok());
  open();
  EXPECT_EQ(on().replay(), all);
  ASSERT_EQ(on().holes.size(), 1U);
  expect_hole(on().holes[0], kSlots, kSlots, false);
  EXPECT_TRUE(log().settle(on().holes).ok()) << "there is no place to fill, but the rest can be made durable";
}

// A segment is taken when the one before is full and durable: on page media, where it may not be, that is a crash.
TEST_F(StreamLogTest, LostEndBeforeAnEmptyHeadIsTornOnPageMediaOnly) {
  on().fill_segment();
  ASSERT_TRUE(log().reserve().ok());
  for (std::uint64_t lsn = kSlots - 3; lsn < kSlots; ++lsn) lose_record(lsn);
  for (const Granularity granularity : {Granularity::cache_line, Granularity::page}) {
    open(granularity);
    EXPECT_EQ(on().replay().size(), kSlots - 3);
    ASSERT_EQ(on().holes.size(), 1U);
    expect_hole(on().holes[0], kSlots - 3, 3, granularity == Granularity::page);
    EXPECT_EQ(log().next_lsn(), kSlots) << "the head is where it is, whatever got lost before it";
    EXPECT_EQ(log().room(), kSlots);
  }
  ASSERT_TRUE(log().settle(on().holes).ok());
  open(Granularity::page);
  EXPECT_EQ(on().replay().size(), kSlots);
  EXPECT_TRUE(on().holes.empty());
}

TEST_F(StreamLogTest, RecordsOfASegmentsEarlierLifeAreNotReplayed) {
  on().fill_segment();
  const StreamLog::Segment earlier = log().segments().front();
  ASSERT_TRUE(log().release_all().ok());

  // The stream's log begins anew: the same segment, device, stream and LSNs, and only the generation tells the
  // difference.
  while (on().pool->free_count() > 1) {
    const auto skipped = on().pool->take({kDevice + 1, 0, 0, 0});
    ASSERT_TRUE(skipped.ok() && *skipped);
    ASSERT_NE((*skipped)->id, earlier.id);
  }
  open();
  Items all = on().append(writes(500, 2, 2));
  ASSERT_EQ(log().segments().front().id, earlier.id);
  ASSERT_EQ(log().segments().front().first_lsn, earlier.first_lsn);
  ASSERT_GT(log().segments().front().generation, earlier.generation);
  open();
  EXPECT_EQ(log().last_epoch(), 2U);
  EXPECT_EQ(on().replay(2), all);
  EXPECT_TRUE(on().holes.empty());
}

TEST_F(StreamLogTest, LogsOfOtherStreamsAndDevicesAreNotMixedIn) {
  Items mine = on().append(writes(1, 2));
  on_.reset();
  LogOn(image_, Granularity::cache_line, nullptr, kDevice, kStream + 1).append(writes(100, 2));
  LogOn(image_, Granularity::cache_line, nullptr, kDevice + 1, kStream).append(writes(200, 2));
  open();
  EXPECT_EQ(on().replay(), mine);
}

// Each of these has the right checksum: a record that was written somewhere, sometime.
TEST_F(StreamLogTest, RecordsThatDoNotBelongWhereTheyAreAreRefused) {
  struct Case {
    const char* what;
    std::function<void(KeyRecord&)> change;
    bool refused = true;
  };
  const std::vector<Case> cases = {
      {"nothing", [](KeyRecord&) {}, false},
      {"another formatting", [](KeyRecord& r) { ++r.cache_tag; }},
      {"a later place", [](KeyRecord& r) { ++r.lsn; }},
      {"an earlier place", [](KeyRecord& r) { --r.lsn; }},
      {"an earlier life", [](KeyRecord& r) { --r.generation; }},
      {"a later life", [](KeyRecord& r) { ++r.generation; }},
      {"another device", [](KeyRecord& r) { ++r.device_id; }},
      {"another stream", [](KeyRecord& r) { ++r.stream; }},
      {"no type", [](KeyRecord& r) { r.type = RecordType::none; }},
      {"an unknown type", [](KeyRecord& r) { r.type = static_cast<RecordType>(7); }},
      {"gone blocks", [](KeyRecord& r) { r.type = RecordType::gone; }, false},
      {"gone blocks beyond the end",
       [](KeyRecord& r) { r.type = RecordType::gone, r.count = kDeviceBlocks - r.block + 1; }},
      {"the last blocks", [](KeyRecord& r) { r.block = kDeviceBlocks - r.count; }, false},
      {"an epoch that none reaches", [](KeyRecord& r) { r.epoch = kCounterLimit; }},
      {"a block beyond the end", [](KeyRecord& r) { r.block = kDeviceBlocks; }},
      {"a block far beyond the end", [](KeyRecord& r) { r.block = ~std::uint64_t{0}; }},
      {"no blocks", [](KeyRecord& r) { r.count = 0; }},
      {"blocks up to the end", [](KeyRecord& r) { r.count = kDeviceBlocks - r.block; }, false},
      {"blocks beyond the end", [](KeyRecord& r) { r.count = kDeviceBlocks - r.block + 1; }},
      {"far too many blocks", [](KeyRecord& r) { r.count = ~std::uint64_t{0}; }},
      {"an epoch before the one before", [](KeyRecord& r) { r.epoch = 0; }},
      {"an epoch after the newest", [](KeyRecord& r) { r.epoch = 2; }},
      {"an epoch that no log gets to", [](KeyRecord& r) { r.epoch = std::uint64_t{1} << 62; }},
      {"a batch that began before its segment", [](KeyRecord& r) { r.batch_pos = 2; }},
      {"several blocks, and no discard", [](KeyRecord& r) { r.type = RecordType::lost; }},
      {"a filler, whatever its block", [](KeyRecord& r) { r.type = RecordType::filler, r.block = kDeviceBlocks; },
       false},
  };
  on().append(writes(1, 1));
  on().append({{RecordType::zero, 10, 5}});
  on().append(writes(3, 1));
  const MemorySpace::Image start = *image_;
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    *image_ = start;
    forge(1, each.change);
    open();
    EXPECT_EQ(on().replay().size(), each.refused ? 2U : 3U);
    ASSERT_EQ(on().holes.size(), each.refused ? 1U : 0U);
    if (each.refused) expect_hole(on().holes[0], 1, 1, false);
  }
}

// No crash leaves a right checksum over what makes no sense: nothing is erased, and nothing is written in its place.
TEST_F(StreamLogTest, RecordWithoutSenseAtTheEndIsAHoleThatStays) {
  const Items all = on().append(writes(1, 3));
  for (const Granularity granularity : {Granularity::cache_line, Granularity::page}) {
    forge(2, [](KeyRecord& r) { r.block = kDeviceBlocks; });
    for (int i = 0; i < 2; ++i) {
      open(granularity);
      EXPECT_EQ(on().replay(), (Items{all[0], all[1]}));
      ASSERT_EQ(on().holes.size(), 1U);
      expect_hole(on().holes[0], 2, 1, false);
      EXPECT_EQ(log().next_lsn(), 3U);
      ASSERT_TRUE(log().settle(on().holes).ok());
    }
    forge(2, [](KeyRecord& r) { r.block = 3; });
    open(granularity);
    EXPECT_EQ(on().replay(), all);
  }
}

TEST_F(StreamLogTest, BlockOfAnotherStreamIsAHole) {
  const Items all = on().append(writes(1, 3));
  open();
  Items items;
  const auto holes = log().replay({kDeviceBlocks, 1, 0, false, [](std::uint64_t block) { return block != 2; }},
                                  [&](std::uint64_t lsn, const KeyRecord& record) {
                                    items.push_back({record.type, record.block, record.count, record.epoch, lsn});
                                  });
  EXPECT_EQ(items, (Items{all[0], all[2]}));
  ASSERT_EQ(holes.size(), 1U);
  expect_hole(holes[0], 1, 1, false);
}

// A segment's entry is durable before its first record on any medium.
TEST_F(StreamLogTest, MissingSegmentIsNeverTorn) {
  const Items first = on().fill_segment();
  on().fill_segment();
  const SegmentId missing = log().segments().back().id;
  ASSERT_TRUE(log().reserve().ok());
  ASSERT_TRUE(on().pool->release(missing).ok());
  for (const bool empty_head : {true, false}) {
    open(Granularity::page);
    on().replay();
    ASSERT_EQ(on().holes.size(), 1U);
    expect_hole(on().holes[0], kSlots, kSlots, false);
    EXPECT_TRUE(log().settle(on().holes).ok());
    if (empty_head) on().append(writes(7, 1));
  }
}

// What the backing has was durable before: its records and cells cannot be lost in a crash.
TEST_F(StreamLogTest, NothingOfACleanEpochIsTorn) {
  on().append(writes(1, 2));
  on().append(writes(5, 3));
  lose_record(3);
  damage(on().cell_offset(0));
  for (const Granularity granularity : {Granularity::cache_line, Granularity::page}) {
    open(granularity);
    std::uint64_t visited = 0;
    const auto holes = log().replay({kDeviceBlocks, 1, 1}, [&](std::uint64_t, const KeyRecord&) { ++visited; });
    EXPECT_EQ(visited, 4U);
    ASSERT_EQ(holes.size(), 1U);
    expect_hole(holes[0], 3, 1, false);
  }
}

// --- Page media

// Pages reach the medium in any order: until the flush after its epoch's, a record may have overtaken its payload.
class PageMediaTest : public StreamLogTest {
 protected:
  // One batch an epoch, 1 to 4: a write, which is LSN (epoch - 1) x 2, and a zero.
  PageMediaTest() {
    open(Granularity::page);
    for (std::uint64_t epoch = 1; epoch <= 4; ++epoch) {
      all_ += on().append({{RecordType::write, epoch, 1, epoch}, {RecordType::zero, 50, 9, epoch}}, Persist::synced);
    }
  }
  static std::uint64_t lsn_of(std::uint64_t epoch) { return (epoch - 1) * 2; }

  Items all_;
};

TEST_F(PageMediaTest, RecordWithoutItsPayloadIsTornInTheTwoNewestEpochsOnly) {
  for (std::uint64_t epoch = 1; epoch <= 4; ++epoch) {
    SCOPED_TRACE(testing::Message() << "epoch " << epoch);
    damage(on().cell_offset(lsn_of(epoch)) + 1234);
    open(Granularity::page);
    Items expected = all_;
    if (epoch >= 3) expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(lsn_of(epoch)));
    EXPECT_EQ(on().replay(4), expected);
    ASSERT_EQ(on().holes.size(), epoch >= 3 ? 1U : 0U);
    if (epoch >= 3) expect_hole(on().holes[0], lsn_of(epoch), 1, true);
    damage(on().cell_offset(lsn_of(epoch)) + 1234);
  }
}

TEST_F(PageMediaTest, NewestEpochIsThatOfTheDeviceNotOfTheStream) {
  damage(on().cell_offset(lsn_of(4)));
  open(Granularity::page);
  EXPECT_EQ(log().last_epoch(), 4U);
  EXPECT_EQ(on().replay(5).size(), all_.size() - 1);
  open(Granularity::page);
  EXPECT_EQ(on().replay(6), all_) << "epoch 4 was flushed before 6 began: the damage is found when the block is read";
}

// Otherwise a second crash would take one epoch more for unflushed, and drop records of it without a word.
TEST_F(PageMediaTest, AnEpochWhoseRecordsDoNotCountIsStillTheNewestAfterSettling) {
  damage(on().cell_offset(lsn_of(2)) + 99);
  damage(on().cell_offset(lsn_of(4)) + 1234);
  wipe(*image_, on().record_offset(lsn_of(4) + 1));
  const Items counting(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(lsn_of(4)));
  for (int recoveries = 0; recoveries < 3; ++recoveries) {
    SCOPED_TRACE(testing::Message() << "after " << recoveries << " recoveries");
    open(Granularity::page);
    EXPECT_EQ(log().last_epoch(), 4U);
    Items found = on().replay(log().last_epoch());
    std::erase_if(found, [](const Item& item) { return item.type == RecordType::filler; });
    EXPECT_EQ(found, counting) << "the damage in epoch 2 is found when the block is read";
    ASSERT_TRUE(log().settle(on().holes).ok());
  }
  Items next = on().append(writes(60, 1, 5), Persist::synced);
  open(Granularity::page);
  EXPECT_EQ(on().replay(5).back(), next.back());
}

// A filler at the end of one segment is of the device's newest epoch, and so must be the one behind it in the head:
// epochs that went back would be damage.
TEST_F(PageMediaTest, FillersOfTwoSegmentsAreInTheOrderOfTheirEpochs) {
  on().fill_segment(4);
  Items head = on().append(writes(90, 2, 4), Persist::synced);
  damage(on().cell_offset(kSlots - 1) + 7);
  for (const Item& item : head) damage(on().cell_offset(item.lsn) + 7);
  open(Granularity::page);
  EXPECT_EQ(on().replay(5).back().lsn, kSlots - 2);
  ASSERT_EQ(on().holes.size(), 1U);
  expect_hole(on().holes[0], kSlots - 1, 1, true);
  ASSERT_TRUE(log().settle(on().holes).ok());
  for (int recoveries = 1; recoveries < 3; ++recoveries) {
    open(Granularity::page);
    EXPECT_EQ(on().replay(5).back().lsn, kSlots);
    EXPECT_TRUE(on().holes.empty()) << "after " << recoveries << " recoveries";
    ASSERT_TRUE(log().settle(on().holes).ok());
  }
}

TEST_F(PageMediaTest, PayloadsAreNotLookedAtWhereRecordsNeverOvertakeThem) {
  damage(on().cell_offset(lsn_of(4)));
  open(Granularity::cache_line);
  EXPECT_EQ(on().replay(4), all_);
}

TEST_F(PageMediaTest, CellOfARecordWithoutPayloadDoesNotMatter) {
  for (std::uint64_t epoch = 1; epoch <= 4; ++epoch) damage(on().cell_offset(lsn_of(epoch) + 1));
  open(Granularity::page);
  EXPECT_EQ(on().replay(4), all_);
}

TEST_F(PageMediaTest, LostRecordIsTornIfTheNextIsOfTheTwoNewestEpochs) {
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    SCOPED_TRACE(testing::Message() << "the last record of epoch " << epoch);
    for (const Granularity granularity : {Granularity::page, Granularity::cache_line}) {
      const Image left = MemorySpace::copy_image(*image_);
      wipe(*left, on().record_offset(lsn_of(epoch) + 1));
      LogOn after(left, granularity);
      EXPECT_EQ(after.replay(4).size(), all_.size() - 1);
      ASSERT_EQ(after.holes.size(), 1U);
      const bool unflushed = epoch + 1 >= 3;
      expect_hole(after.holes[0], lsn_of(epoch) + 1, 1, granularity == Granularity::page && unflushed);
      EXPECT_EQ(after.holes[0].next_epoch, epoch + 1);
    }
  }
}

// Or a power cut in the middle of settling could keep a filler and lose what came before it.
TEST_F(PageMediaTest, WhatWasReadIsDurableBeforeSettlingStoresAnything) {
  on().append(writes(90, 3, 5), Persist::fenced);  // in the page cache only
  const auto synced = on().space->durable_image();
  const auto left = MemorySpace::copy_image(*image_);
  wipe(*left, on().record_offset(all_.size() + 1));
  LogOn after_kill(left, Granularity::page, synced.get());
  ASSERT_EQ(after_kill.replay(5).size(), all_.size() + 2);
  ASSERT_EQ(after_kill.holes.size(), 1U);
  const Geometry g = after_kill.dev->geometry();
  const MemorySpace::Image read = *left;
  int stores = 0;
  after_kill.space->on_write = [&](std::size_t) {
    if (stores++ != 0) return;
    const auto durable = after_kill.space->durable_image();
    for (const SegmentId id : after_kill.segment_ids()) {
      const auto begin = static_cast<std::ptrdiff_t>(g.segment_offset(id));
      EXPECT_TRUE(std::equal(read.begin() + begin, read.begin() + begin + static_cast<std::ptrdiff_t>(g.segment_size),
                             durable->begin() + begin));
    }
  };
  ASSERT_TRUE(after_kill.log->settle(after_kill.holes).ok());
  EXPECT_EQ(stores, 1) << "the filler";
}

TEST_F(PageMediaTest, WhatWasReadOnceIsDurableAfterSettling) {
  all_ += on().append(writes(90, 3, 5), Persist::fenced);  // in the page cache only
  const auto synced = on().space->durable_image();
  ASSERT_EQ(LogOn(MemorySpace::copy_image(*synced), Granularity::page).replay(5).size(), all_.size() - 3);

  LogOn after_kill(MemorySpace::copy_image(*image_), Granularity::page, synced.get());
  ASSERT_EQ(after_kill.replay(5), all_);
  ASSERT_TRUE(after_kill.log->settle(after_kill.holes).ok());
  LogOn after_power_cut(after_kill.space->durable_image(), Granularity::page);
  EXPECT_EQ(after_power_cut.replay(5), all_);
  EXPECT_TRUE(after_power_cut.holes.empty());
}

}  // namespace
}  // namespace pcache
