// Discarded ranges read as zeroes, at once and for good, whatever the backing still says.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/stored.h"

namespace pcache {
namespace {

Bytes zeroes(std::uint64_t blocks) { return Bytes(blocks * kBlockSize); }

TEST(Discard, ReadsAsZeroesAtOnceAndOverRestartsBeforeAndAfterWriteback) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 10, 4, 2), 0);
  ASSERT_EQ(rig.discard(8 * kBlockSize, 8 * kBlockSize), 0);
  EXPECT_EQ(read_blocks(rig, 8, 8), zeroes(8));
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 8, 8), zeroes(8));
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 8, 8), zeroes(8));
  EXPECT_EQ(backing_blocks(rig, 8, 1), blocks_of(8, 1, 1)) << "not written back yet";
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(read_blocks(rig, 8, 8), zeroes(8));
  EXPECT_EQ(backing_blocks(rig, 8, 8), zeroes(8));
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 8, 8), zeroes(8));
  EXPECT_EQ(read_blocks(rig, 0, 8), part(content, 0, 8 * kBlockSize));
  EXPECT_EQ(read_blocks(rig, 16, 8), part(content, 16 * kBlockSize, 8 * kBlockSize));
}

TEST(Discard, OfAWholeDeviceReachesAllStreams) {
  const RigShape shape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}};
  EngineRig rig(shape);
  fill_backing(rig, 1);
  const std::uint64_t count = shape.device_bytes / kBlockSize;
  ASSERT_EQ(write_blocks(rig, 0, count / 2, 2), 0);
  ASSERT_EQ(rig.discard(0, shape.device_bytes), 0);
  EXPECT_TRUE(read_blocks(rig, 0, count) == zeroes(count));
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  rig.kill();
  EXPECT_TRUE(read_blocks(rig, 0, count) == zeroes(count));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.backing().counts().zeroes, 1U) << "the streams' records are of one range";
  EXPECT_TRUE(rig.backing_image().durable == zeroes(count));
}

TEST(Discard, AWriteAfterItIsKept) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(rig.discard(0, 16 * kBlockSize), 0);
  ASSERT_EQ(write_blocks(rig, 5, 1, 2), 0);
  ASSERT_EQ(rig.write(9 * kBlockSize + 30, filled(10, 9)), 0);
  Bytes expected = zeroes(16);
  put(expected, 5 * kBlockSize, blocks_of(5, 1, 2));
  put(expected, 9 * kBlockSize + 30, filled(10, 9));
  EXPECT_EQ(read_blocks(rig, 0, 16), expected);
  EXPECT_EQ(rig.backing().counts().reads, 0U) << "the rest of a discarded block is known";
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 16), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 16), expected);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 16), expected);
}

TEST(Discard, OfABlockThatIsWrittenAgainAndDiscardedAgain) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    ASSERT_EQ(rig.discard(0, 4 * kBlockSize), 0);
    ASSERT_EQ(write_blocks(rig, 1, 2, 2 + epoch), 0);
    ASSERT_EQ(rig.discard(2 * kBlockSize, 5 * kBlockSize), 0);
    ASSERT_TRUE(rig.commit().ok());
  }
  Bytes expected = zeroes(7);
  put(expected, kBlockSize, blocks_of(1, 1, 4));
  EXPECT_EQ(read_blocks(rig, 0, 7), expected);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 7), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 7), expected);
}

TEST(Discard, OvertakesAMissInFlight) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes early(4 * kBlockSize);
  Outcome outcome;
  rig.device().read(0, early, outcome.completion());
  EXPECT_EQ(rig.discard(kBlockSize, 2 * kBlockSize), 0);
  EXPECT_EQ(read_blocks(rig, 1, 2), zeroes(2)) << "a reader that comes later does not join";
  EXPECT_EQ(rig.backing().held(), 1U);
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  Bytes expected = part(content, 0, early.size());
  put(expected, kBlockSize, zeroes(2));
  EXPECT_EQ(early, expected);
  EXPECT_EQ(read_blocks(rig, 1, 2), zeroes(2)) << "what was read is not kept";
  EXPECT_EQ(rig.device().stats().read_fills, 2U);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 1, 2), zeroes(2));
}

// The range is longer than the list of misses, which is gone through the other way then.
TEST(Discard, OfManyBlocksOvertakesEveryMissInFlight) {
  const RigShape shape;
  EngineRig rig(shape);
  fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes bytes[3] = {Bytes(kBlockSize), Bytes(kBlockSize), Bytes(kBlockSize)};
  Outcome outcomes[3];
  const std::uint64_t blocks[] = {0, 300, 1000};
  for (std::size_t i = 0; i < 3; ++i) {
    rig.device().read(blocks[i] * kBlockSize, bytes[i], outcomes[i].completion());
  }
  EXPECT_EQ(rig.discard(0, 900 * kBlockSize), 0);
  rig.backing().hold(false);
  rig.backing().release_all();
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(outcomes[i].done);
    EXPECT_EQ(bytes[i], blocks[i] < 900 ? zeroes(1) : blocks_of(blocks[i], 1, 1));
  }
  EXPECT_EQ(read_blocks(rig, 0, 1), zeroes(1));
  EXPECT_EQ(read_blocks(rig, 300, 1), zeroes(1));
  EXPECT_EQ(read_blocks(rig, 1000, 1), blocks_of(1000, 1, 1));
  EXPECT_EQ(rig.device().stats().read_fills, 1U);
}

TEST(Discard, OfDirtyDataIsAllThatWritebackWrites) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  ASSERT_EQ(rig.discard(0, 8 * kBlockSize), 0);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(rig.backing().counts().writes, 0U);
  EXPECT_EQ(rig.backing().counts().zeroes, 1U);
  EXPECT_EQ(backing_blocks(rig, 0, 8), zeroes(8));
}

TEST(Discard, OfPartOfARunLeavesItsNeighboursToBeWrittenBack) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  ASSERT_EQ(rig.discard(3 * kBlockSize, 2 * kBlockSize), 0);
  EXPECT_EQ(rig.device().dirty_bytes(), 6 * kBlockSize);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.backing().counts().written_bytes, 6 * kBlockSize);
  Bytes expected = blocks_of(0, 8, 2);
  put(expected, 3 * kBlockSize, zeroes(2));
  EXPECT_EQ(backing_blocks(rig, 0, 8), expected);
}

TEST(Discard, InALaterEpochDoesNotReachTheBackingWithAnEarlierOne) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(rig.discard(0, 2 * kBlockSize), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 2), blocks_of(0, 2, 1));
  EXPECT_EQ(read_blocks(rig, 0, 2), zeroes(2));
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 2), zeroes(2));
}

// Writeback of the first epoch must not forget what a later one discarded.
TEST(Discard, ReadsAsZeroesWhileAnEarlierEpochBecomesClean) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(rig.discard(0, 2 * kBlockSize), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(write_blocks(rig, 0, 2, 2), 0);
  ASSERT_EQ(rig.discard(0, kBlockSize), 0);
  ASSERT_EQ(rig.discard(20 * kBlockSize, kBlockSize), 0);
  ASSERT_TRUE(rig.commit().ok());
  for (int epoch = 0; epoch < 2; ++epoch) {
    ASSERT_TRUE(rig.device().writeback_step());
    EXPECT_EQ(read_blocks(rig, 0, 1), zeroes(1));
    EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 2));
    EXPECT_EQ(read_blocks(rig, 20, 1), zeroes(1));
  }
  EXPECT_EQ(backing_blocks(rig, 20, 1), zeroes(1));
}

TEST(Discard, OfPartsOfBlocksKeepsTheRestOfThem) {
  for (const bool cached : {true, false}) {
    SCOPED_TRACE(cached ? "cached" : "on the backing");
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    if (cached) {
      ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
    }
    Bytes expected = blocks_of(0, 4, 1);
    put(expected, 100, Bytes(3 * kBlockSize + 50));
    ASSERT_EQ(rig.discard(100, 3 * kBlockSize + 50), 0);
    EXPECT_EQ(read_blocks(rig, 0, 4), expected);
    EXPECT_EQ(rig.backing().counts().reads, cached ? 0U : 2U);
    rig.reopen();
    EXPECT_EQ(read_blocks(rig, 0, 4), expected);
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(backing_blocks(rig, 0, 4), expected);
  }
}

TEST(Discard, InsideOneBlockZeroesThatPartOnly) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  Bytes expected = blocks_of(0, 1, 1);
  put(expected, 1000, Bytes(24));
  ASSERT_EQ(rig.discard(1000, 24), 0);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(Discard, ToTheEndOfADeviceThatEndsInsideABlock) {
  RigShape shape;
  shape.device_bytes = kMiB + 3 * kSectorSize;
  EngineRig rig(shape);
  Bytes expected = fill_backing(rig, 1);
  const std::uint64_t begin = kMiB - 2 * kBlockSize;
  put(expected, begin, Bytes(shape.device_bytes - begin));
  ASSERT_EQ(rig.discard(begin, shape.device_bytes - begin), 0);
  EXPECT_TRUE(read_bytes(rig, 0, shape.device_bytes) == expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.backing_image().durable == expected);
}

TEST(Discard, RangesThatReachBeyondTheDeviceAreRefused) {
  const RigShape shape;
  EngineRig rig(shape);
  EXPECT_EQ(rig.discard(shape.device_bytes - kBlockSize, 2 * kBlockSize), EINVAL);
  EXPECT_EQ(rig.discard(kBlockSize, ~std::uint64_t{0}), EINVAL);
  EXPECT_EQ(rig.device().stats().discards, 0U);
}

}  // namespace
}  // namespace pcache
