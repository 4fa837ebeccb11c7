#include "segment/segment_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/units.h"
#include "media/key_record.h"
#include "tests/support/memory_space.h"

namespace pcache {
namespace {

using Image = std::shared_ptr<MemorySpace::Image>;

constexpr std::size_t kSize = 4 * kMiB;
constexpr std::uint32_t kSegments = kMinSegments;

// A pool on the open cache device of an image.
struct Opened {
  explicit Opened(const Image& image, Granularity granularity = Granularity::cache_line) {
    auto below = std::make_unique<MemorySpace>(image, granularity);
    space = below.get();
    auto opened = CacheDev::open(std::move(below));
    if (!opened) {
      ADD_FAILURE() << opened.status().message();
      std::abort();
    }
    dev = std::move(opened).value();
    pool = std::make_unique<SegmentPool>(*dev);
  }

  MemorySpace* space;
  std::unique_ptr<CacheDev> dev;
  std::unique_ptr<SegmentPool> pool;
};

// The segments in use, with their generations.
using InUse = std::map<SegmentId, std::uint64_t>;

InUse in_use(const SegmentPool& pool) {
  InUse segments;
  for (const auto& [id, entry] : pool.in_use()) segments[id] = entry.generation;
  return segments;
}

SegmentPool::Taken take(SegmentPool& pool, const SegmentUse& use = {1, 0, 0, 0}) {
  const auto taken = pool.take(use);
  EXPECT_TRUE(taken.ok()) << taken.status().message();
  EXPECT_TRUE(taken.ok() && *taken) << "no segment is free";
  return taken.ok() && *taken ? **taken : SegmentPool::Taken{};
}

bool is_empty(SegmentPool& pool) {
  const auto taken = pool.take({1, 0, 0, 0});
  return taken.ok() && !*taken;
}

class SegmentPoolTest : public testing::Test {
 protected:
  SegmentPoolTest() {
    MemorySpace space(image_);
    EXPECT_TRUE(CacheDev::format(space, {{1, 2, 3}, "", kMinSegmentSize}).ok());
    open();
  }

  void open(Granularity granularity = Granularity::cache_line) {
    opened_.reset();
    opened_ = std::make_unique<Opened>(image_, granularity);
  }
  SegmentPool& pool() { return *opened_->pool; }
  MemorySpace& space() { return *opened_->space; }

  std::uint64_t entry_offset(SegmentId id, bool second_copy = false) const {
    const Geometry& g = opened_->dev->geometry();
    return (second_copy ? g.segment_table_copy : g.segment_table) + id * kRecordSize;
  }
  void damage(std::uint64_t offset) { (*image_)[offset] ^= std::byte{0x10}; }

  // Stores a valid entry, for this cache device, in both copies.
  void put_entry(SegmentId id, SegmentEntry entry) {
    seal(entry, opened_->dev->tag(), id);
    ASSERT_TRUE(space().write(entry_offset(id), &entry, sizeof entry));
    ASSERT_TRUE(space().write(entry_offset(id, true), &entry, sizeof entry));
  }

  // Stores a valid record with the tag in a slot of a segment.
  void put_record(SegmentId id, std::uint32_t slot, std::uint32_t tag) {
    KeyRecord record{};
    record.cache_tag = tag;
    record.type = RecordType::write;
    record.crc = record_crc(record);
    ASSERT_TRUE(space().write(opened_->dev->geometry().record_offset(id, slot), &record, sizeof record));
  }
  void damage_entry(SegmentId id) {
    damage(entry_offset(id) + 30);
    damage(entry_offset(id, true) + 40);
  }

  // Lets the power go at each point of `operation`, and gives `check` what is left, and whether that was all of it.
  static void each_crash(const Image& start, const std::function<void(SegmentPool&)>& operation,
                         const std::function<void(const Image& left, bool complete)>& check) {
    for (std::uint64_t writes = 0; writes <= 2; ++writes) {
      for (std::size_t torn_bytes = 0; torn_bytes <= kRecordSize; torn_bytes += 8) {
        SCOPED_TRACE(testing::Message() << "cut after " << writes << " writes and " << torn_bytes << " bytes");
        const Image left = MemorySpace::copy_image(*start);
        bool complete = false;
        {
          const Opened opened(left);
          opened.space->cut_after(writes, torn_bytes);
          operation(*opened.pool);
          complete = !opened.space->was_cut();
        }
        check(left, complete);
        if (HasFailure()) return;
      }
    }
  }

  const Image image_ = MemorySpace::make_image(kSize);
  std::unique_ptr<Opened> opened_;
};

TEST_F(SegmentPoolTest, AllSegmentsOfAFreshDeviceAreFree) {
  EXPECT_EQ(pool().total(), kSegments);
  EXPECT_EQ(pool().free_count(), kSegments);
  EXPECT_EQ(pool().damaged_count(), 0U);
  EXPECT_TRUE(pool().in_use().empty());
}

TEST_F(SegmentPoolTest, GivesEachSegmentOnce) {
  std::set<SegmentId> ids;
  for (std::uint32_t i = 0; i < kSegments; ++i) {
    EXPECT_EQ(pool().free_count(), kSegments - i);
    const SegmentId id = take(pool()).id;
    EXPECT_LT(id, kSegments);
    EXPECT_TRUE(ids.insert(id).second) << "segment " << id << " again";
  }
  EXPECT_EQ(pool().free_count(), 0U);
  EXPECT_TRUE(is_empty(pool()));
  ASSERT_TRUE(pool().release(3).ok());
  EXPECT_EQ(pool().free_count(), 1U);
  EXPECT_EQ(take(pool()).id, 3U);
  EXPECT_TRUE(is_empty(pool()));
}

TEST_F(SegmentPoolTest, RemembersWhatASegmentIsUsedFor) {
  take(pool());
  const auto taken = take(pool(), {5, 7, 0x123456789a, 0xabcdef0123});
  open();
  const auto segments = pool().in_use();
  ASSERT_EQ(segments.size(), 2U);
  const auto found = std::find_if(segments.begin(), segments.end(), [&](const auto& s) { return s.id == taken.id; });
  ASSERT_NE(found, segments.end());
  EXPECT_EQ(found->entry.generation, taken.generation);
  EXPECT_EQ(found->entry.device_id, 5U);
  EXPECT_EQ(found->entry.stream, 7U);
  EXPECT_EQ(found->entry.chain, 0x123456789aU);
  EXPECT_EQ(found->entry.first_lsn, 0xabcdef0123U);
  EXPECT_EQ(pool().free_count(), kSegments - 2);
}

TEST_F(SegmentPoolTest, ReleasedSegmentIsFreeAfterReopening) {
  const auto stays = take(pool());
  const auto goes = take(pool());
  ASSERT_TRUE(pool().release(goes.id).ok());
  open();
  EXPECT_EQ(in_use(pool()), (InUse{{stays.id, stays.generation}}));
  EXPECT_EQ(pool().free_count(), kSegments - 1);
}

TEST_F(SegmentPoolTest, TakesTheSegmentThatWasReleasedLastAfterAllOthers) {
  const SegmentId released = take(pool()).id;
  ASSERT_TRUE(pool().release(released).ok());
  for (std::uint32_t i = 0; i < kSegments - 1; ++i) EXPECT_NE(take(pool()).id, released);
  EXPECT_EQ(take(pool()).id, released);
}

TEST_F(SegmentPoolTest, TakenAndReleasedAreDurableOnReturn) {
  open(Granularity::page);
  const auto taken = take(pool());
  EXPECT_EQ(in_use(*Opened(space().durable_image()).pool), (InUse{{taken.id, taken.generation}}));
  ASSERT_TRUE(pool().release(taken.id).ok());
  EXPECT_TRUE(in_use(*Opened(space().durable_image()).pool).empty());
}

TEST_F(SegmentPoolTest, GenerationsOfASegmentOnlyGrow) {
  std::map<SegmentId, std::uint64_t> last;
  for (int round = 0; round < 60; ++round) {
    const auto taken = take(pool());
    EXPECT_GT(taken.generation, last[taken.id]) << "segment " << taken.id << " in round " << round;
    last[taken.id] = taken.generation;
    if (round % 4 == 1) open();
    ASSERT_TRUE(pool().release(taken.id).ok());
    if (round % 4 == 2) open();
  }
}

TEST_F(SegmentPoolTest, AgesTellInWhichOrderSegmentsWereTaken) {
  const SegmentId first = take(pool()).id;
  const SegmentId second = take(pool(), {2, 1, 0, 0}).id;
  EXPECT_LT(pool().age(first), pool().age(second));
  ASSERT_TRUE(pool().release(first).ok());
  for (std::uint32_t i = 0; i < kSegments - 1; ++i) take(pool());
  EXPECT_GT(pool().age(first), pool().age(second)) << "its new life began later";
  open();
  EXPECT_EQ(pool().age(first), 0U);
  EXPECT_EQ(pool().age(second), 0U);
}

TEST_F(SegmentPoolTest, PinsOfASegmentAddUp) {
  EXPECT_FALSE(pool().pinned(2));
  pool().pin(2);
  pool().pin(2);
  pool().pin(4);
  pool().unpin(2);
  EXPECT_TRUE(pool().pinned(2));
  pool().unpin(2);
  EXPECT_FALSE(pool().pinned(2));
  EXPECT_TRUE(pool().pinned(4));
  EXPECT_FALSE(pool().pinned(3));
}

// --- Damage

TEST_F(SegmentPoolTest, EitherCopyOfAnEntryIsEnough) {
  const auto taken = take(pool());
  const InUse expected = {{taken.id, taken.generation}};
  for (const bool second_copy : {false, true}) {
    for (std::size_t byte = 0; byte < kRecordSize; ++byte) {
      damage(entry_offset(taken.id, second_copy) + byte);
      SCOPED_TRACE(testing::Message() << "byte " << byte << (second_copy ? " of the second copy" : ""));
      const SegmentPool again(*opened_->dev);
      EXPECT_EQ(in_use(again), expected);
      EXPECT_EQ(again.damaged_count(), 0U);
      EXPECT_EQ(again.repairs().repaired, 1U);
      EXPECT_EQ(SegmentPool(*opened_->dev).repairs().repaired, 0U) << "it is repaired";
    }
    space().fail_reads(entry_offset(taken.id, second_copy), kRecordSize);
    EXPECT_EQ(in_use(SegmentPool(*opened_->dev)), expected);
    space().heal();
  }
}

TEST_F(SegmentPoolTest, SegmentWithADamagedEntryIsSetAside) {
  const auto used = take(pool());
  const auto intact = take(pool());
  put_record(used.id, 3, opened_->dev->tag());
  damage_entry(used.id);
  open();
  EXPECT_EQ(pool().damaged_count(), 1U);
  EXPECT_EQ(in_use(pool()), (InUse{{intact.id, intact.generation}}));
  EXPECT_EQ(pool().free_count(), kSegments - 2);
  for (std::uint32_t i = 0; i < kSegments - 2; ++i) EXPECT_NE(take(pool()).id, used.id);
  EXPECT_TRUE(is_empty(pool()));
  open();
  EXPECT_EQ(pool().damaged_count(), 1U) << "nobody repaired it";
}

// Whatever its entry said, there is nothing that could be missing.
TEST_F(SegmentPoolTest, SegmentThatNeverHeldARecordIsFreeThoughItsEntryIsDamaged) {
  const auto used = take(pool());
  put_record(used.id, 0, opened_->dev->tag() + 1);  // of an earlier formatting
  damage_entry(used.id);
  open();
  EXPECT_EQ(pool().damaged_count(), 0U);
  EXPECT_EQ(pool().free_count(), kSegments);
  for (std::uint32_t i = 0; i < kSegments; ++i) take(pool());
  open();
  EXPECT_EQ(in_use(pool()).size(), kSegments) << "taking it stored its entry anew";
}

TEST_F(SegmentPoolTest, SegmentWithOneRecordThatCannotBeJudgedIsSetAside) {
  const auto used = take(pool());
  damage_entry(used.id);
  const std::uint64_t last =
      opened_->dev->geometry().record_offset(used.id, opened_->dev->geometry().slots_per_segment - 1);
  const std::uint64_t one = 1;
  ASSERT_TRUE(space().write(last + 24, &one, sizeof one));
  EXPECT_EQ(SegmentPool(*opened_->dev).damaged_count(), 1U) << "a damaged record";
  const std::uint64_t none = 0;
  ASSERT_TRUE(space().write(last + 24, &none, sizeof none));
  EXPECT_EQ(SegmentPool(*opened_->dev).damaged_count(), 0U);
  space().fail_reads(last, kRecordSize);
  EXPECT_EQ(SegmentPool(*opened_->dev).damaged_count(), 1U) << "an unreadable record";
}

TEST_F(SegmentPoolTest, ACopyThatCannotBeWrittenIsCountedAndTheOtherOneUsed) {
  const auto taken = take(pool());
  damage(entry_offset(taken.id) + 30);
  space().fail_writes(entry_offset(taken.id), kRecordSize);
  const SegmentPool again(*opened_->dev);
  EXPECT_EQ(again.repairs().repaired, 0U);
  EXPECT_EQ(again.repairs().failed, 1U);
  EXPECT_EQ(in_use(again), (InUse{{taken.id, taken.generation}}));
}

TEST_F(SegmentPoolTest, WhereItIsOnlyInspectedNothingIsRepaired) {
  const auto taken = take(pool());
  damage(entry_offset(taken.id) + 30);
  const MemorySpace::Image before = *image_;
  auto inspected = CacheDev::open(std::make_unique<MemorySpace>(image_), CacheDev::Access::inspect);
  ASSERT_TRUE(inspected.ok());
  const SegmentPool pool(**inspected);
  EXPECT_EQ(in_use(pool), (InUse{{taken.id, taken.generation}}));
  EXPECT_EQ(pool.repairs().repaired, 0U);
  EXPECT_TRUE(*image_ == before);
}

TEST_F(SegmentPoolTest, SegmentWithAnUnreadableEntryIsSetAside) {
  space().fail_reads(entry_offset(2, true), kRecordSize);  // it might hold the only entry that there is
  SegmentPool again(*opened_->dev);
  EXPECT_EQ(again.damaged_count(), 1U);
  EXPECT_EQ(again.free_count(), kSegments - 1);
  for (std::uint32_t i = 0; i < kSegments - 1; ++i) EXPECT_NE(take(again).id, 2U);
}

TEST_F(SegmentPoolTest, EntryWithoutSenseIsSetAside) {
  SegmentEntry entry{};
  entry.state = static_cast<SegmentState>(2);
  put_entry(1, entry);
  entry.state = SegmentState::log;
  entry.stream = kMaxStreams;
  put_entry(2, entry);
  entry.stream = kMaxStreams - 1;
  put_entry(3, entry);
  for (const SegmentId id : {4, 5, 6}) {
    SegmentEntry beyond = entry;  // no counter gets there
    (id == 4 ? beyond.generation : id == 5 ? beyond.chain : beyond.first_lsn) = kCounterLimit;
    put_entry(id, beyond);
  }
  entry.generation = entry.chain = entry.first_lsn = kCounterLimit - 1;
  put_entry(7, entry);
  open();
  EXPECT_EQ(pool().damaged_count(), 5U);
  EXPECT_EQ(in_use(pool()), (InUse{{3, 0}, {7, kCounterLimit - 1}}));
  EXPECT_EQ(pool().free_count(), kSegments - 7);
}

// An entry is durable before the first record: with records behind it, a blank one was lost.
TEST_F(SegmentPoolTest, ABlankEntryOfASegmentWithRecordsIsDamaged) {
  const auto taken = take(pool());
  const Geometry g = opened_->dev->geometry();
  for (const std::uint32_t slot : {0U, 40U}) {
    KeyRecord record{};
    record.cache_tag = opened_->dev->tag();
    record.crc = record_crc(record);
    ASSERT_TRUE(space().write(g.record_offset(taken.id, slot), &record, sizeof record));
    for (const bool second_copy : {false, true}) {
      const SegmentEntry blank{};
      ASSERT_TRUE(space().write(entry_offset(taken.id, second_copy), &blank, sizeof blank));
    }
    open();
    EXPECT_EQ(pool().damaged_count(), 1U);
    EXPECT_EQ(pool().free_count(), kSegments - 1);
    const KeyRecord nothing{};
    ASSERT_TRUE(space().write(g.record_offset(taken.id, slot), &nothing, sizeof nothing));
    open();
    EXPECT_EQ(pool().damaged_count(), 0U);
  }
}

TEST_F(SegmentPoolTest, AnEntryAtAnothersPlaceIsNotBelieved) {
  const auto taken = take(pool());
  SegmentEntry entry{};
  entry.header.sequence = 100;
  seal(entry, opened_->dev->tag(), taken.id + 1);
  ASSERT_TRUE(space().write(entry_offset(taken.id), &entry, sizeof entry));
  open();
  EXPECT_EQ(in_use(pool()).size(), 1U) << "the other copy is right";
  EXPECT_EQ(pool().damaged_count(), 0U);
}

TEST_F(SegmentPoolTest, EntriesOfAnotherFormattingAreNotBelieved) {
  SegmentEntry entry{};
  entry.state = SegmentState::log;
  entry.generation = 3;
  seal(entry, opened_->dev->tag() + 1, 1);
  for (const bool second_copy : {false, true}) {
    ASSERT_TRUE(space().write(entry_offset(1, second_copy), &entry, sizeof entry));
  }
  put_record(1, 0, opened_->dev->tag());
  open();
  EXPECT_TRUE(pool().in_use().empty());
  EXPECT_EQ(pool().damaged_count(), 1U);
}

TEST_F(SegmentPoolTest, FailedTakeAndReleaseChangeNothing) {
  const auto taken = take(pool());
  const Geometry& g = opened_->dev->geometry();
  space().fail_writes(g.segment_table, 2 * (g.segment_table_copy - g.segment_table));
  EXPECT_EQ(pool().take({1, 0, 0, 0}).status().code(), Errc::failed);
  EXPECT_EQ(pool().release(taken.id).code(), Errc::failed);
  EXPECT_EQ(pool().free_count(), kSegments - 1);
  EXPECT_EQ(in_use(pool()), (InUse{{taken.id, taken.generation}}));
  space().heal();
  ASSERT_TRUE(pool().release(taken.id).ok());
  for (std::uint32_t i = 0; i < kSegments; ++i) take(pool());
  EXPECT_TRUE(is_empty(pool()));
}

// --- Crashes

TEST_F(SegmentPoolTest, CrashInTheFirstTakeLeavesTheSegmentFreeOrInUse) {
  each_crash(
      image_, [](SegmentPool& pool) { take(pool); },
      [](const Image& left, bool complete) {
        const Opened after(left);
        EXPECT_EQ(after.pool->damaged_count(), 0U) << "a crash is not damage";
        const std::size_t used = after.pool->in_use().size();
        EXPECT_TRUE(used == 1 || (used == 0 && !complete)) << used;
        EXPECT_EQ(after.pool->free_count(), kSegments - used);
        for (std::size_t i = used; i < kSegments; ++i) take(*after.pool);
        EXPECT_TRUE(is_empty(*after.pool));
      });
}

TEST_F(SegmentPoolTest, CrashInALaterTakeOrInReleaseLeavesTheStateBeforeOrAfter) {
  for (std::uint32_t i = 0; i < kSegments - 1; ++i) take(pool());
  const SegmentPool::Taken last = take(pool());
  const InUse all = in_use(pool());
  InUse others = all;
  others.erase(last.id);
  const auto is_before_or_after = [](const Image& left, const InUse& before, const InUse& after, bool complete) {
    const Opened opened(left);
    const InUse now = in_use(*opened.pool);
    EXPECT_TRUE(now == after || (now == before && !complete));
    EXPECT_EQ(opened.pool->damaged_count(), 0U);
    EXPECT_EQ(opened.pool->free_count(), kSegments - now.size());
  };

  each_crash(
      image_, [&](SegmentPool& pool) { EXPECT_TRUE(pool.release(last.id).ok()); },
      [&](const Image& left, bool complete) { is_before_or_after(left, all, others, complete); });

  ASSERT_TRUE(pool().release(last.id).ok());
  InUse again = others;
  again[last.id] = last.generation + 1;
  each_crash(
      image_, [](SegmentPool& pool) { take(pool); },
      [&](const Image& left, bool complete) { is_before_or_after(left, others, again, complete); });
}

// What was in use under a generation has records of it: the next life must not have the same one, whatever crashes come
// between the two.
TEST_F(SegmentPoolTest, CrashesDoNotBringAGenerationBack) {
  each_crash(
      image_, [](SegmentPool& pool) { take(pool); },
      [](const Image& taken, bool) {
        const InUse used = in_use(*Opened(taken).pool);
        if (used.empty()) return;
        const auto [id, generation] = *used.begin();
        each_crash(
            taken, [&](SegmentPool& pool) { EXPECT_TRUE(pool.release(id).ok()); },
            [&](const Image& released, bool complete) {
              const Opened after(released);
              const InUse now = in_use(*after.pool);
              EXPECT_TRUE(now.empty() || (now == used && !complete));
              if (now.empty()) {
                for (std::uint32_t i = 0; i < kSegments; ++i) take(*after.pool);
                EXPECT_GT(in_use(*after.pool).at(id), generation);
              }
            });
      });
}

}  // namespace
}  // namespace pcache
