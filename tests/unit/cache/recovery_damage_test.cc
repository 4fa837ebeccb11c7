// What opening a cache device makes of damage that no crash explains: it is told, it stays confined, and nobody reads
// wrong data because of it.

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

#include "tests/support/stored.h"

namespace pcache {
namespace {

std::uint64_t count_dirty(EngineRig& rig) {
  auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(MemorySpace::copy_image(rig.cache_image())));
  EXPECT_TRUE(cache_dev.ok());
  const auto dirty = count_dirty_bytes(std::move(cache_dev).value());
  EXPECT_TRUE(dirty.ok());
  return *dirty;
}

// The device answers EIO to everything, keeps what it has, and tells why.
void expect_failed(EngineRig& rig) {
  ASSERT_TRUE(rig.device().failed()) << "it runs";
  EXPECT_EQ(rig.device().stats().state, "failed");
  EXPECT_NE(rig.device().stats().detail, "");
  for (const std::uint64_t block : {0, 1, 2, 3, 700}) EXPECT_EQ(read_error(rig, block), EIO) << "block " << block;
  EXPECT_EQ(write_blocks(rig, 0, 1, 9), EIO);
  EXPECT_EQ(rig.discard(0, kBlockSize), EIO);
  EXPECT_EQ(rig.flush(), EIO);
  EXPECT_EQ(rig.drain(), EIO);
  EXPECT_FALSE(rig.device().writeback_step());
  EXPECT_FALSE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.backing().counts().writes + rig.backing().counts().zeroes + rig.backing().counts().reads, 0U);
}

// The damage at `offset` makes the device fail at every restart, and without it everything is there: nothing was cut
// off, written over or given to the backing meanwhile.
void expect_failed_while_damaged(EngineRig& rig, std::uint64_t offset, const Bytes& content) {
  damage(rig, offset);
  for (int restarts = 0; restarts < 2; ++restarts) {
    rig.reopen();
    ASSERT_NO_FATAL_FAILURE(expect_failed(rig));
    EXPECT_EQ(rig.device().damaged_records(), 1U);
  }
  EXPECT_GE(count_dirty(rig), 1U) << "it must not pass for a cache that may be overwritten";
  damage(rig, offset);
  rig.reopen();
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(read_bytes(rig, 0, content.size()), content);
}

// --- Clean data

TEST(RecoveryDamage, ADamagedRecordOfCleanDataForgetsOlderCleanDataOnly) {
  EngineRig rig{RigShape()};
  for (std::uint64_t block = 0; block < 4; ++block) ASSERT_EQ(write_blocks(rig, block, 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(write_blocks(rig, 4, 1, 1), 0);
  damage(rig, stored(rig, 2).record_offset + 20);
  rig.reopen();
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(rig.device().stats().state, "running");
  EXPECT_EQ(rig.device().damaged_records(), 1U);
  EXPECT_EQ(rig.cache().stats().damaged_records, 1U);
  EXPECT_EQ(rig.device().stats().cached_bytes, 2 * kBlockSize);
  EXPECT_EQ(rig.device().dirty_bytes(), kBlockSize);
  EXPECT_EQ(read_blocks(rig, 3, 2), blocks_of(3, 2, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U) << "what is newer than the damage is still cached";
  EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U) << "the damaged one and the older ones are not";
  ASSERT_EQ(write_blocks(rig, 2, 1, 2), 0);
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 2, 1), blocks_of(2, 1, 2));
}

TEST(RecoveryDamage, ADamagedRecordOfCleanDataLeavesOtherStreamsAlone) {
  const RigShape shape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}};
  EngineRig rig(shape);
  constexpr std::uint64_t kWindows = 24;
  for (std::uint64_t window = 0; window < kWindows; ++window) {
    for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(write_blocks(rig, window * kWindowBlocks + i, 1, 1), 0);
  }
  ASSERT_EQ(rig.drain(), 0);
  const std::uint8_t stream = stored(rig, 0).record.stream;
  std::vector<std::uint64_t> others;
  for (std::uint64_t window = 0; window < kWindows; ++window) {
    if (stored(rig, window * kWindowBlocks).record.stream != stream) others.push_back(window * kWindowBlocks);
  }
  ASSERT_FALSE(others.empty());
  damage(rig, stored(rig, 1).record_offset + 20);
  rig.reopen();
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  for (const std::uint64_t block : others) EXPECT_EQ(read_blocks(rig, block, 3), blocks_of(block, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
  EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
}

// The damaged record was the block's newest, so that an older value of it is what the log seems to say.
TEST(RecoveryDamage, AnOlderValueOfABlockWhoseRecordIsDamagedIsNeverRead) {
  for (const int restarts : {1, 2, 3}) {
    SCOPED_TRACE(std::to_string(restarts) + " restarts");
    EngineRig rig{RigShape()};
    ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
    ASSERT_EQ(rig.drain(), 0);
    ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
    ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
    ASSERT_EQ(rig.drain(), 0);
    damage(rig, stored(rig, 0).record_offset + 20);
    for (int i = 0; i < restarts; ++i) rig.reopen();
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 2));
  }
}

// --- Dirty data

TEST(RecoveryDamage, ADamagedRecordThatHeldDirtyDataFailsTheDeviceAndTruncatesNothing) {
  for (const std::uint64_t block : {0, 1, 2}) {
    SCOPED_TRACE("block " + std::to_string(block));
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    for (std::uint64_t i = 0; i < 4; ++i) ASSERT_EQ(write_blocks(rig, i, 1, 2), 0);
    expect_failed_while_damaged(rig, stored(rig, block).record_offset + 30, blocks_of(0, 4, 2));
  }
}

TEST(RecoveryDamage, ADamagedRecordThatMayHaveHeldDirtyDataFailsTheDevice) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  ASSERT_EQ(write_blocks(rig, 1, 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(write_blocks(rig, 2, 1, 1), 0);
  // The last clean one: what follows is dirty, so that nothing tells what it was.
  expect_failed_while_damaged(rig, stored(rig, 1).record_offset + 30, blocks_of(0, 3, 1));
}

TEST(RecoveryDamage, ADamagedRecordOfADiscardFailsTheDevice) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(rig.discard(0, 2 * kBlockSize), 0);
  ASSERT_EQ(write_blocks(rig, 2, 2, 2), 0);
  Bytes expected(4 * kBlockSize);
  put(expected, 2 * kBlockSize, blocks_of(2, 2, 2));
  expect_failed_while_damaged(rig, stored(rig, 0).record_offset + 30, expected);
}

// A batch that others follow was durable as a whole before them, so that a crash cannot have torn it.
TEST(RecoveryDamage, ADamagedRecordInTheMiddleOfAnAcknowledgedBatchFailsTheDevice) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
  ASSERT_EQ(write_blocks(rig, 4, 1, 2), 0);
  expect_failed_while_damaged(rig, stored(rig, 1).record_offset + 30, blocks_of(0, 5, 2));
}

// After a crash the end of the log may be torn. After an orderly close it cannot be.
TEST(RecoveryDamage, ADamagedLastRecordIsNotTakenForATornOneAfterAnOrderlyClose) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  expect_failed_while_damaged(rig, stored(rig, 1).record_offset + 30, blocks_of(0, 2, 2));
}

TEST(RecoveryDamage, ADamagedRecordOfTheLastBatchIsNotTakenForATornOneAfterAnOrderlyClose) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
  expect_failed_while_damaged(rig, stored(rig, 1).record_offset + 30, blocks_of(0, 4, 2));
}

TEST(RecoveryDamage, ADirtyBlockWithADamagedCellGivesEioAfterAnOrderlyClose) {
  for (const Granularity granularity : {Granularity::cache_line, Granularity::page}) {
    SCOPED_TRACE(to_string(granularity));
    RigShape shape;
    shape.granularity = granularity;
    EngineRig rig(shape);
    fill_backing(rig, 1);
    ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
    ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
    ASSERT_EQ(rig.flush(), 0);
    damage(rig, stored(rig, 0).cell_offset + 30);
    rig.reopen();
    EXPECT_EQ(read_error(rig, 0), EIO) << "the backing's value is old, and the write was flushed";
    EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 2));
  }
}

TEST(RecoveryDamage, AMissingSegmentOfDirtyDataFailsTheDevice) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, 3 * slots, 2), 0);
  const Geometry& g = rig.cache().cache_dev().geometry();
  const SegmentId middle = stored(rig, slots).segment;
  // As if it had never been used.
  for (const std::uint64_t table : {g.segment_table, g.segment_table_copy}) {
    put(rig.cache_image(), table + middle * kRecordSize, Bytes(kRecordSize));
  }
  rig.reopen();
  expect_failed(rig);
  EXPECT_EQ(rig.device().damaged_records(), slots);
}

TEST(RecoveryDamage, DamageStaysInsideItsLogicalDevice) {
  EngineRig rig{RigShape()};
  const auto image = std::make_shared<BackingImage>(2 * kMiB);
  const auto backing = [&] { return std::make_unique<FakeBackingDev>(image, "/fake/other", "fake:2"); };
  const Bytes bytes = blocks_of(100, 2, 1);
  {
    const auto other = rig.cache().add("other", backing());
    ASSERT_TRUE(other.ok());
    Outcome written;
    (*other)->write(100 * kBlockSize, bytes, written.completion());
    ASSERT_TRUE(written.done);
    ASSERT_EQ(written.error, 0);
    for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(write_blocks(rig, i, 1, 2), 0);
  }
  damage(rig, stored(rig, 1).record_offset + 30);
  rig.reopen();
  expect_failed(rig);
  const auto other = rig.cache().attach(rig.cache().cache_dev().devices().at(1), backing());
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE((*other)->failed());
  Bytes found(bytes.size());
  Outcome read;
  (*other)->read(100 * kBlockSize, found, read.completion());
  ASSERT_TRUE(read.done);
  EXPECT_EQ(read.error, 0);
  EXPECT_EQ(found, bytes);
  EXPECT_EQ((*other)->drain(0), 0);
}

// --- Metadata in two copies

// Damages the first copy, the second, and both.
void expect_two_copies(const std::function<std::pair<std::uint64_t, std::uint64_t>(EngineRig&)>& copies) {
  for (const int damaged : {1, 2, 3}) {
    SCOPED_TRACE(damaged == 3 ? "both copies" : "copy " + std::to_string(damaged));
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
    ASSERT_EQ(rig.drain(), 0);
    ASSERT_EQ(write_blocks(rig, 0, 2, 3), 0);
    const auto [first, second] = copies(rig);
    rig.close();
    if ((damaged & 1) != 0) damage(rig, first + 40);
    if ((damaged & 2) != 0) damage(rig, second + 40);
    rig.open();
    if (damaged == 3) {
      expect_failed(rig);
      rig.reopen();
      expect_failed(rig);
      continue;
    }
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 3));
    EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
    EXPECT_EQ(rig.device().dirty_bytes(), 2 * kBlockSize);
    ASSERT_EQ(rig.drain(), 0);
    rig.reopen();
    EXPECT_EQ(rig.device().dirty_bytes(), 0U);
    EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 3));
  }
}

TEST(RecoveryDamage, OfTheDirtyTailOneCopyIsEnoughAndNoneFailsTheDevice) {
  expect_two_copies([](EngineRig& rig) {
    const Geometry& g = rig.cache().cache_dev().geometry();
    const std::uint64_t at = rig.device().place() * kRecordSize;
    return std::pair(g.device_states + at, g.device_states_copy + at);
  });
}

TEST(RecoveryDamage, OfASegmentsEntryOneCopyIsEnoughAndNoneFailsTheDevice) {
  expect_two_copies([](EngineRig& rig) {
    const Geometry& g = rig.cache().cache_dev().geometry();
    const std::uint64_t at = stored(rig, 0).segment * kRecordSize;
    return std::pair(g.segment_table + at, g.segment_table_copy + at);
  });
}

// --- Closed in order, or not: each logical device for itself

// Which of the engine's exits came last makes no difference to what a failed device lacks.
TEST(RecoveryDamage, AFailedDeviceIsStillFailedAfterItsProcessWasKilled) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  const std::uint64_t last = stored(rig, 1).record_offset + 30;
  rig.close();
  damage(rig, last);
  rig.open();
  ASSERT_NO_FATAL_FAILURE(expect_failed(rig));
  rig.kill();
  ASSERT_NO_FATAL_FAILURE(expect_failed(rig));
  rig.reopen();
  ASSERT_NO_FATAL_FAILURE(expect_failed(rig));
  damage(rig, last);
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 2));
}

TEST(RecoveryDamage, AFailedDeviceDoesNotMakeTheOthersCountAsCrashed) {
  EngineRig rig{RigShape()};
  const auto image = std::make_shared<BackingImage>(2 * kMiB);
  const auto backing = [&] { return std::make_unique<FakeBackingDev>(image, "/fake/other", "fake:2"); };
  const auto write_other = [](CachedDevice& other, std::uint64_t block) {
    Outcome written;
    const Bytes bytes = blocks_of(block, 1, 1);
    other.write(block * kBlockSize, bytes, written.completion());
    ASSERT_EQ(written.error, 0);
  };
  const auto attach_other = [&] { return rig.cache().attach(rig.cache().cache_dev().devices().at(1), backing()); };
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  damage(rig, stored(rig, 0).record_offset + 30);
  {
    const auto other = rig.cache().add("other", backing());
    ASSERT_TRUE(other.ok());
    ASSERT_NO_FATAL_FAILURE(write_other(**other, 100));
  }
  rig.reopen();
  ASSERT_TRUE(rig.device().failed());
  {
    const auto other = attach_other();
    ASSERT_TRUE(other.ok());
    ASSERT_FALSE((*other)->failed());
    ASSERT_NO_FATAL_FAILURE(write_other(**other, 101));
  }
  const std::uint64_t last = stored(rig, 101).record_offset + 30;
  rig.close();
  damage(rig, last);
  rig.open();
  const auto other = attach_other();
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE((*other)->failed()) << "its last record was taken for a torn one, though it was closed in order";
  EXPECT_EQ((*other)->damaged_records(), 1U);
}

TEST(RecoveryDamage, ADeviceThatIsNotAttachedStaysClosedInOrder) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  const std::uint64_t last = stored(rig, 1).record_offset + 30;
  rig.close();
  auto image = MemorySpace::copy_image(rig.cache_image());
  for (int opened = 0; opened < 2; ++opened) {
    auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
    ASSERT_TRUE(cache_dev.ok());
    ASSERT_TRUE(Cache::open(std::move(*cache_dev), CacheOptions()).ok());
  }
  rig.cache_image() = *image;
  damage(rig, last);
  rig.open();
  expect_failed(rig);
}

// A segment at the front is missing as one at the end may be: after an orderly close both are known to have been there.
TEST(RecoveryDamage, AMissingSegmentAtEitherEndFailsTheDeviceAfterAnOrderlyClose) {
  for (const bool front : {true, false}) {
    SCOPED_TRACE(front ? "the first" : "the last");
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    const std::uint64_t slots = slots_per_segment(rig);
    ASSERT_EQ(write_blocks(rig, 0, 3 * slots, 2), 0);
    const SegmentId missing = stored(rig, front ? 0 : 2 * slots).segment;
    rig.close();
    {
      auto image = MemorySpace::copy_image(rig.cache_image());
      auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
      ASSERT_TRUE(cache_dev.ok());
      ASSERT_TRUE(SegmentPool(**cache_dev).release(missing).ok());
      rig.cache_image() = *image;
    }
    rig.open();
    expect_failed(rig);
    EXPECT_EQ(rig.device().damaged_records(), slots);
  }
}

// --- And what a crash does explain

TEST(RecoveryDamage, ATornBatchIsNoDamageAndLeavesWhatWasAcknowledged) {
  for (std::uint64_t writes = 0; writes <= 8; ++writes) {
    for (const std::size_t torn_bytes : {0, 24}) {
      SCOPED_TRACE(std::to_string(writes) + " writes and " + std::to_string(torn_bytes) + " bytes");
      EngineRig rig{RigShape()};
      ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
      rig.space().cut_after(writes, torn_bytes);
      write_blocks(rig, 0, 4, 2);  // four payloads, then four records
      rig.power_cut();
      EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(rig.device().damaged_records(), 0U);
      const std::uint64_t arrived = writes < 4 ? 0 : writes - 4;
      Bytes expected = blocks_of(0, 4, 1);
      put(expected, 0, blocks_of(0, arrived, 2));
      EXPECT_EQ(read_blocks(rig, 0, 4), expected);
      ASSERT_EQ(write_blocks(rig, 3, 3, 3), 0);
      put(expected, 3 * kBlockSize, blocks_of(3, 1, 3));
      rig.kill();
      EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(read_blocks(rig, 0, 4), expected);
      EXPECT_EQ(read_blocks(rig, 4, 2), blocks_of(4, 2, 3));
    }
  }
}

}  // namespace
}  // namespace pcache
