// What a write leaves: its own bytes, the rest of the blocks that it touches, and the old data when it fails.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/stored.h"

namespace pcache {
namespace {

TEST(WritePath, UnalignedWriteKeepsTheRestOfBlocksInTheCache) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  Bytes expected = blocks_of(0, 3, 1);
  put(expected, 4000, filled(5000, 9));
  ASSERT_EQ(rig.write(4000, filled(5000, 9)), 0);
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  EXPECT_EQ(rig.backing().counts().reads, 0U);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
}

TEST(WritePath, UnalignedWriteKeepsTheRestOfBlocksOnTheBacking) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, 3 * kBlockSize);
  put(expected, 4000, filled(5000, 9));
  ASSERT_EQ(rig.write(4000, filled(5000, 9)), 0);
  EXPECT_EQ(rig.backing().counts().reads, 2U) << "the first and the last block have a rest, the one between has none";
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 3), expected);
}

TEST(WritePath, UnalignedWriteToTheLastBlockOfADeviceThatEndsInsideIt) {
  RigShape shape;
  shape.device_bytes = kMiB + 3 * kSectorSize;
  EngineRig rig(shape);
  Bytes expected = fill_backing(rig, 1);
  put(expected, kMiB + 700, filled(100, 9));
  ASSERT_EQ(rig.write(kMiB + 700, filled(100, 9)), 0);
  EXPECT_EQ(read_bytes(rig, kMiB, 3 * kSectorSize), part(expected, kMiB, 3 * kSectorSize));
  rig.reopen();
  EXPECT_EQ(read_bytes(rig, kMiB, 3 * kSectorSize), part(expected, kMiB, 3 * kSectorSize));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.backing_image().durable == expected);
}

TEST(WritePath, WholeBlockWriteOvertakesAPartialWriteThatWaitsForItsBase) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  const Bytes piece = filled(100, 9);
  Outcome partial;
  rig.backing().hold(true);
  rig.device().write(500, piece, partial.completion());
  EXPECT_EQ(rig.backing().held(), 1U);
  EXPECT_EQ(write_blocks(rig, 0, 1, 2), 0);
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(partial.done);
  EXPECT_EQ(partial.error, 0);
  Bytes expected = blocks_of(0, 1, 2);
  put(expected, 500, piece);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

// The block that overtook has left the cache when the base arrives, which was read before it reached the backing.
TEST(WritePath, BaseReadBeforeAnOvertakingWriteIsNotUsedEvenWhenTheBlockWasEvictedSince) {
  EngineRig rig{RigShape()};
  const Bytes old = part(fill_backing(rig, 1), 0, kBlockSize);
  const Bytes piece = filled(100, 9);
  Outcome partial;
  rig.backing().hold(true);
  rig.device().write(500, piece, partial.completion());
  EXPECT_EQ(rig.backing().held(), 1U);
  rig.backing().hold(false);
  EXPECT_EQ(write_blocks(rig, 0, 1, 2), 0);
  EXPECT_EQ(write_blocks(rig, 100, slots_per_segment(rig), 2), 0);  // on into the next segment
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.device().reclaim_front(0));

  rig.backing().hold(true);
  put(rig.backing_image().current, 0, old);
  EXPECT_TRUE(rig.backing().release_one());
  put(rig.backing_image().current, 0, blocks_of(0, 1, 2));
  EXPECT_FALSE(partial.done);
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(partial.done);
  EXPECT_EQ(partial.error, 0);
  Bytes expected = blocks_of(0, 1, 2);
  put(expected, 500, piece);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(WritePath, DiscardOvertakesAPartialWriteThatWaitsForItsBase) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  const Bytes piece = filled(100, 9);
  Outcome partial;
  rig.backing().hold(true);
  rig.device().write(500, piece, partial.completion());
  EXPECT_EQ(rig.backing().held(), 1U);
  EXPECT_EQ(rig.discard(0, kBlockSize), 0);
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(partial.done);
  EXPECT_EQ(partial.error, 0);
  Bytes expected(kBlockSize);
  put(expected, 500, piece);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(WritePath, PartialWritesThatWaitForOneBaseAreAllKept) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, kBlockSize);
  const Bytes pieces[] = {filled(100, 7), filled(100, 8), filled(100, 9)};
  Outcome outcomes[3];
  rig.backing().hold(true);
  for (std::size_t i = 0; i < 3; ++i) {
    rig.device().write(i * 1000, pieces[i], outcomes[i].completion());
    put(expected, i * 1000, pieces[i]);
  }
  EXPECT_EQ(rig.backing().held(), 1U) << "they share one read";
  rig.backing().hold(false);
  rig.backing().release_all();
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, 0);
  }
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(WritePath, FailedReadOfTheBaseGivesEioAndLeavesTheOldData) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, kBlockSize);
  rig.backing().fail({.reads = 1});
  EXPECT_EQ(rig.write(500, filled(100, 9)), EIO);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
  ASSERT_EQ(rig.write(500, filled(100, 9)), 0);
  put(expected, 500, filled(100, 9));
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(WritePath, WriteLargerThanASegmentContinuesInTheNext) {
  EngineRig rig{RigShape()};
  const std::uint64_t count = 2 * slots_per_segment(rig) + 5;
  ASSERT_EQ(write_blocks(rig, 3, count, 1), 0);
  EXPECT_EQ(rig.cache().pool().in_use().size(), 3U);
  EXPECT_EQ(read_blocks(rig, 3, count), blocks_of(3, count, 1));
  EXPECT_EQ(rig.device().dirty_bytes(), count * kBlockSize);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 3, count), blocks_of(3, count, 1));
}

TEST(WritePath, WriteLargerThanTheCacheIsStoredPieceByPiece) {
  const RigShape shape;
  EngineRig rig(shape);
  const std::uint64_t count = shape.device_bytes / kBlockSize;
  ASSERT_GT(count, std::uint64_t{rig.cache().pool().total()} * slots_per_segment(rig));
  ASSERT_EQ(write_blocks(rig, 0, count, 1), 0);
  EXPECT_GT(rig.device().stats().space_waits, 0U);
  EXPECT_TRUE(read_blocks(rig, 0, count) == blocks_of(0, count, 1));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.backing_image().durable == blocks_of(0, count, 1));
}

TEST(WritePath, WriteOverSeveralStreamsIsReadBackFromAllOfThem) {
  const RigShape shape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}};
  EngineRig rig(shape);
  const std::uint64_t count = 12 * kMiB / kBlockSize;
  ASSERT_EQ(write_blocks(rig, 100, count, 1), 0);
  EXPECT_TRUE(read_blocks(rig, 100, count) == blocks_of(100, count, 1));
  rig.reopen();
  EXPECT_TRUE(read_blocks(rig, 100, count) == blocks_of(100, count, 1));
}

TEST(WritePath, WriteThatTheMediumFailsGivesEioAndLeavesTheOldData) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  rig.space().fail_writes(stored(rig, 1).record_offset + kRecordSize, kRecordSize);
  EXPECT_EQ(write_blocks(rig, 0, 2, 2), EIO);
  rig.space().heal();
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 1));
  EXPECT_EQ(rig.device().dirty_bytes(), 2 * kBlockSize);
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 1));
  ASSERT_EQ(write_blocks(rig, 0, 2, 3), 0);
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 3));
}

TEST(WritePath, CellsThatTakeNothingAreLeftOut) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  const Stored last = stored(rig, 1);
  // The first one, some inside of a batch, and the last ones of the segment.
  for (const std::uint64_t next : {1, 4, 5, 9, 60, 61}) rig.space().fail_writes(last.cell_offset + next * kCellSize, 8);
  ASSERT_EQ(write_blocks(rig, 0, 100, 2), 0);
  ASSERT_EQ(rig.write(kBlockSize + 5, filled(10, 7)), 0);
  EXPECT_EQ(rig.device().stats().bad_cells, 6U);
  Bytes expected = blocks_of(0, 100, 2);
  put(expected, kBlockSize + 5, filled(10, 7));
  EXPECT_TRUE(read_blocks(rig, 0, 100) == expected);
  for (const bool cut : {false, true}) {
    if (cut) {
      rig.power_cut();
    } else {
      rig.reopen();
    }
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(rig.device().damaged_records(), 0U);
    EXPECT_TRUE(read_blocks(rig, 0, 100) == expected);
  }
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(backing_blocks(rig, 0, 100) == expected);
}

TEST(WritePath, AMediumThatTakesNoDataAtAllFailsTheWrite) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  const Geometry& g = rig.cache().cache_dev().geometry();
  for (std::uint32_t i = 0; i < g.segment_count; ++i) {
    rig.space().fail_writes(g.cell_offset(i, 0), g.slots_per_segment * kCellSize);
  }
  EXPECT_EQ(write_blocks(rig, 0, 2, 2), EIO);
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 1));
}

TEST(WritePath, RangesThatReachBeyondTheDeviceAreRefused) {
  const RigShape shape;
  EngineRig rig(shape);
  EXPECT_EQ(rig.write(shape.device_bytes - kBlockSize, filled(kBlockSize + 1, 1)), EINVAL);
  EXPECT_EQ(rig.write(~std::uint64_t{0} - 10, filled(kBlockSize, 1)), EINVAL);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  EXPECT_EQ(rig.write(shape.device_bytes, {}), 0) << "nothing at the very end is inside";
}

TEST(WritePath, WritesAreRefusedWhileAskedForAndTheOldDataCanBeDrained) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  rig.device().refuse_writes(true);
  EXPECT_EQ(write_blocks(rig, 0, 1, 2), EIO);
  EXPECT_EQ(rig.discard(0, kBlockSize), EIO);
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 1), blocks_of(0, 1, 1));
  rig.device().refuse_writes(false);
  EXPECT_EQ(write_blocks(rig, 0, 1, 3), 0);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 3));
}

}  // namespace
}  // namespace pcache
