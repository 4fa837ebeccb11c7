// What a read returns from the cache, from the backing, and from cells that are damaged.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/stored.h"

namespace pcache {
namespace {

TEST(ReadPath, AMissIsKeptAndServedFromTheCacheAfterwards) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  EXPECT_EQ(read_blocks(rig, 4, 10), part(content, 4 * kBlockSize, 10 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
  EXPECT_EQ(read_bytes(rig, 5 * kBlockSize + 17, 9000), part(content, 5 * kBlockSize + 17, 9000));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 4, 10), part(content, 4 * kBlockSize, 10 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
}

TEST(ReadPath, OnlyWhatIsNotCachedComesFromTheBacking) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, 5 * kBlockSize);
  ASSERT_EQ(write_blocks(rig, 2, 1, 2), 0);
  put(expected, 2 * kBlockSize, blocks_of(2, 1, 2));
  rig.backing().hold(true);
  Bytes bytes(5 * kBlockSize);
  Outcome outcome;
  rig.device().read(0, bytes, outcome.completion());
  EXPECT_EQ(rig.backing().held(), 2U) << "two blocks before the cached one and two after it";
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(rig.device().stats().read_misses, 4U);
  EXPECT_EQ(rig.device().stats().read_hits, 1U);
}

TEST(ReadPath, ConcurrentMissesOnOneRangeMakeOneBackingRead) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes whole(16 * kBlockSize), same(16 * kBlockSize), inside(3 * kBlockSize), odd(1000);
  Outcome outcomes[4];
  rig.device().read(0, whole, outcomes[0].completion());
  rig.device().read(0, same, outcomes[1].completion());
  rig.device().read(4 * kBlockSize, inside, outcomes[2].completion());
  rig.device().read(3 * kBlockSize - 500, odd, outcomes[3].completion());
  EXPECT_EQ(rig.backing().held(), 1U);
  for (const Outcome& outcome : outcomes) EXPECT_FALSE(outcome.done);
  rig.backing().hold(false);
  rig.backing().release_all();
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, 0);
  }
  EXPECT_EQ(whole, part(content, 0, whole.size()));
  EXPECT_EQ(same, whole);
  EXPECT_EQ(inside, part(content, 4 * kBlockSize, inside.size()));
  EXPECT_EQ(odd, part(content, 3 * kBlockSize - 500, odd.size()));
  EXPECT_EQ(read_blocks(rig, 0, 16), whole);
  EXPECT_EQ(rig.backing().counts().reads, 1U);
}

TEST(ReadPath, AMissThatOverlapsOneInFlightReadsOnlyTheRest) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes first(4 * kBlockSize), second(4 * kBlockSize);
  Outcome outcomes[2];
  rig.device().read(0, first, outcomes[0].completion());
  rig.device().read(2 * kBlockSize, second, outcomes[1].completion());
  EXPECT_EQ(rig.backing().held(), 2U);
  EXPECT_TRUE(rig.backing().release_one());
  EXPECT_TRUE(outcomes[0].done);
  EXPECT_FALSE(outcomes[1].done) << "half of it is still being read";
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(outcomes[1].done);
  EXPECT_EQ(first, part(content, 0, first.size()));
  EXPECT_EQ(second, part(content, 2 * kBlockSize, second.size()));
  EXPECT_EQ(rig.device().stats().read_fills, 6U) << "no block is filled twice";
}

TEST(ReadPath, AMissOvertakenByAWriteReturnsTheWriteAndIsNeverCached) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes early(3 * kBlockSize), late(3 * kBlockSize);
  Outcome early_done, late_done;
  rig.device().read(0, early, early_done.completion());
  EXPECT_EQ(write_blocks(rig, 1, 1, 2), 0);
  rig.device().read(0, late, late_done.completion());
  EXPECT_EQ(rig.backing().held(), 1U) << "the blocks that were not written are shared";
  rig.backing().hold(false);
  rig.backing().release_all();

  ASSERT_TRUE(early_done.done);
  EXPECT_EQ(early_done.error, 0);
  Bytes expected = part(content, 0, 3 * kBlockSize);
  put(expected, kBlockSize, blocks_of(1, 1, 2));
  EXPECT_EQ(early, expected);
  ASSERT_TRUE(late_done.done);
  EXPECT_EQ(late_done.error, 0);
  EXPECT_EQ(late, expected);
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  EXPECT_EQ(rig.device().stats().read_fills, 2U);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
}

// Makes the backing's next read one that overlapped a write: the first half of `block` is still `old`.
void tear_next_read(EngineRig& rig, std::uint64_t block, const Bytes& old) {
  rig.backing().on_read = [&rig, block, old](std::uint64_t offset, std::span<std::byte> found) {
    std::copy_n(old.begin(), kBlockSize / 2, found.begin() + static_cast<std::ptrdiff_t>(block * kBlockSize - offset));
    rig.backing().on_read = nullptr;
  };
}

TEST(ReadPath, AMissDuringWhichItsBlockIsWrittenBackIsNotTorn) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes early(3 * kBlockSize);
  Outcome outcome;
  rig.device().read(0, early, outcome.completion());
  rig.backing().hold(false);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  tear_next_read(rig, 1, part(content, kBlockSize, kBlockSize));
  EXPECT_TRUE(rig.backing().release_one());
  ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  Bytes expected = part(content, 0, 3 * kBlockSize);
  put(expected, kBlockSize, blocks_of(1, 1, 2));
  EXPECT_EQ(early, expected);
  EXPECT_EQ(rig.backing().counts().reads, 1U) << "the block is in the cache";
}

// Of the block that overtook, nothing is in the cache any more when the old content arrives.
TEST(ReadPath, AMissOvertakenByAWriteIsFetchedAgainWhenTheBlockWasEvictedSince) {
  EngineRig rig{RigShape()};
  const Bytes old = part(fill_backing(rig, 1), 0, kBlockSize);
  rig.backing().hold(true);
  Bytes early(kBlockSize);
  Outcome outcome;
  rig.device().read(0, early, outcome.completion());
  rig.backing().hold(false);
  EXPECT_EQ(write_blocks(rig, 0, 1, 2), 0);
  EXPECT_EQ(write_blocks(rig, 100, slots_per_segment(rig), 2), 0);
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.device().reclaim_front(0));
  tear_next_read(rig, 0, old);
  EXPECT_TRUE(rig.backing().release_one());
  EXPECT_TRUE(outcome.done);
  EXPECT_EQ(early, blocks_of(0, 1, 2));
  EXPECT_EQ(rig.backing().counts().reads, 2U);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(rig.backing().counts().reads, 2U);
}

TEST(ReadPath, AReaderAfterAWriteDoesNotJoinTheMissThatTheWriteOvertook) {
  EngineRig rig{RigShape()};
  const Bytes old = part(fill_backing(rig, 1), 0, kBlockSize);
  rig.backing().hold(true);
  Bytes early(kBlockSize), late(kBlockSize);
  Outcome early_done, late_done;
  rig.device().read(0, early, early_done.completion());
  rig.backing().hold(false);
  EXPECT_EQ(write_blocks(rig, 0, 1, 2), 0);
  EXPECT_EQ(write_blocks(rig, 100, slots_per_segment(rig), 2), 0);
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.device().reclaim_front(0));
  rig.device().read(0, late, late_done.completion());
  EXPECT_TRUE(late_done.done) << "it reads the backing itself";
  EXPECT_EQ(late, blocks_of(0, 1, 2));

  tear_next_read(rig, 0, old);
  rig.backing().release_all();
  ASSERT_TRUE(early_done.done);
  EXPECT_EQ(early, blocks_of(0, 1, 2));
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
}

TEST(ReadPath, ABackingErrorDoesNotConcernBlocksThatWereWrittenMeanwhile) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes early(kBlockSize), both(2 * kBlockSize);
  Outcome early_done, both_done;
  rig.device().read(0, early, early_done.completion());
  rig.device().read(0, both, both_done.completion());
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  rig.backing().fail({.reads = 2});
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(early_done.done);
  EXPECT_EQ(early_done.error, 0);
  EXPECT_EQ(early, blocks_of(0, 1, 2));
  ASSERT_TRUE(both_done.done);
  EXPECT_EQ(both_done.error, EIO);
}

TEST(ReadPath, ABackingErrorGoesToTheWaitingReadersOnlyAndIsNotCached) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  ASSERT_EQ(read_blocks(rig, 8, 1), part(content, 8 * kBlockSize, kBlockSize));
  rig.backing().hold(true);
  Bytes first(4 * kBlockSize), second(2 * kBlockSize), other(kBlockSize);
  Outcome outcomes[3];
  rig.device().read(0, first, outcomes[0].completion());
  rig.device().read(kBlockSize, second, outcomes[1].completion());
  rig.device().read(20 * kBlockSize, other, outcomes[2].completion());
  EXPECT_EQ(rig.backing().held(), 2U);
  rig.backing().fail({.reads = 1});
  rig.backing().hold(false);
  rig.backing().release_all();
  for (const Outcome& outcome : outcomes) ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcomes[0].error, EIO);
  EXPECT_EQ(outcomes[1].error, EIO);
  EXPECT_EQ(outcomes[2].error, 0);
  EXPECT_EQ(other, part(content, 20 * kBlockSize, kBlockSize));
  EXPECT_EQ(rig.device().stats().read_fills, 2U);
  EXPECT_EQ(rig.device().stats().backing_read_errors, 1U) << "of the backing, whoever waited for it";

  EXPECT_EQ(read_blocks(rig, 0, 9), part(content, 0, 9 * kBlockSize));
  EXPECT_EQ(read_blocks(rig, 0, 9), part(content, 0, 9 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 4U);
}

TEST(ReadPath, ACleanBlockWithADamagedCellIsReadFromTheBackingAgainAndHealed) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  ASSERT_EQ(read_blocks(rig, 0, 3), part(content, 0, 3 * kBlockSize));
  damage(rig, stored(rig, 1).cell_offset + 1234);
  EXPECT_EQ(read_blocks(rig, 0, 3), part(content, 0, 3 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 2U);
  EXPECT_EQ(rig.device().stats().checksum_errors, 1U);
  EXPECT_EQ(read_blocks(rig, 0, 3), part(content, 0, 3 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 2U) << "healed";
  EXPECT_EQ(rig.device().stats().checksum_errors, 1U);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 3), part(content, 0, 3 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 0U) << "for good";
}

TEST(ReadPath, ACleanBlockThatTheMediumCannotReadComesFromTheBacking) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  rig.space().fail_reads(stored(rig, 1).cell_offset, 1);
  EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
  EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
}

TEST(ReadPath, ACellThatTakesNothingKeepsABlockOutOfTheCacheOnlyOnce) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  rig.space().fail_writes(stored(rig, 1).cell_offset + kCellSize, 8);
  for (const std::uint64_t reads : {1U, 2U, 2U}) {
    EXPECT_EQ(read_blocks(rig, 2, 1), part(content, 2 * kBlockSize, kBlockSize));
    EXPECT_EQ(rig.backing().counts().reads, reads);
  }
  EXPECT_EQ(rig.device().stats().read_fills, 1U);
  EXPECT_EQ(rig.device().stats().bad_cells, 1U);
}

TEST(ReadPath, PartOfADamagedCleanBlockIsVerifiedAsAWhole) {
  EngineRig rig{RigShape()};
  const Bytes content = fill_backing(rig, 1);
  ASSERT_EQ(read_blocks(rig, 0, 1), part(content, 0, kBlockSize));
  damage(rig, stored(rig, 0).cell_offset + 4000);
  EXPECT_EQ(read_bytes(rig, 10, 100), part(content, 10, 100));
  EXPECT_EQ(rig.device().stats().checksum_errors, 1U);
  EXPECT_EQ(rig.backing().counts().reads, 2U);
}

TEST(ReadPath, ADamagedCleanBlockIsNoBaseForAPartialWrite) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, kBlockSize);
  ASSERT_EQ(read_blocks(rig, 0, 1), expected);
  damage(rig, stored(rig, 0).cell_offset + 4000);
  ASSERT_EQ(rig.write(100, filled(10, 9)), 0);
  put(expected, 100, filled(10, 9));
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

TEST(ReadPath, ADirtyBlockWithADamagedCellGivesEioAndTheOthersStayReadable) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
  damage(rig, stored(rig, 1).cell_offset);
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
  EXPECT_EQ(read_blocks(rig, 4, 1), blocks_of(4, 1, 1));
  EXPECT_EQ(rig.write(kBlockSize + 100, filled(10, 9)), EIO) << "its rest is gone";
  EXPECT_EQ(rig.backing().counts().reads, 1U) << "what the backing has of the damaged block is old";
  EXPECT_FALSE(rig.device().failed());
  rig.reopen();
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
}

TEST(ReadPath, AMissIsServedWhenThereIsNoSpaceToKeepIt) {
  const RigShape shape;
  EngineRig rig(shape);
  const Bytes content = fill_backing(rig, 1);
  const std::uint64_t slots = room_for_blocks(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots, 2), 0);
  ASSERT_EQ(rig.cache().pool().free_count(), rig.cache().reserve());
  EXPECT_EQ(read_blocks(rig, slots, 4), part(content, slots * kBlockSize, 4 * kBlockSize));
  EXPECT_EQ(rig.device().stats().read_fills, 0U);
  EXPECT_TRUE(read_blocks(rig, 0, slots) == blocks_of(0, slots, 2));
}

TEST(ReadPath, RangesThatReachBeyondTheDeviceAreRefused) {
  const RigShape shape;
  EngineRig rig(shape);
  Bytes bytes(kBlockSize + 1);
  EXPECT_EQ(rig.read(shape.device_bytes - kBlockSize, bytes), EINVAL);
  EXPECT_EQ(rig.read(~std::uint64_t{0} - 10, bytes), EINVAL);
  EXPECT_EQ(rig.backing().counts().reads, 0U);
}

}  // namespace
}  // namespace pcache
