// How space becomes free again, and what happens to writes that wait for it.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/support/stored.h"

namespace pcache {
namespace {

// Version 1 of blocks from 0 on, dirty, in every slot that writes may take. Returns how many.
std::uint64_t fill_cache(EngineRig& rig) {
  const std::uint64_t slots = room_for_blocks(rig);
  EXPECT_EQ(write_blocks(rig, 0, slots, 1), 0);
  EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().reserve());
  EXPECT_EQ(rig.device().stats().space_waits, 0U);
  return slots;
}

TEST(Reclaim, ADirtySegmentIsNotFreed) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots + 1, 1), 0);
  EXPECT_FALSE(rig.device().reclaim_front(0));
  ASSERT_TRUE(rig.commit().ok());
  EXPECT_FALSE(rig.device().reclaim_front(0)) << "closed and durable, but not on the backing";
  EXPECT_EQ(rig.device().stats().evicted_bytes, 0U);
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.cache().pool().in_use().size(), 1U);
  EXPECT_EQ(read_blocks(rig, 0, slots + 1), blocks_of(0, slots + 1, 1));
}

TEST(Reclaim, ASegmentThatIsDirtyInItsLastSlotOnlyIsNotFreed) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots - 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(write_blocks(rig, slots - 1, 2, 1), 0);
  EXPECT_FALSE(rig.device().reclaim_front(0));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(read_blocks(rig, 0, slots + 1), blocks_of(0, slots + 1, 1));
}

TEST(Reclaim, ASegmentWithADirtyDiscardIsNotFreed) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 9);
  ASSERT_EQ(rig.discard(0, kBlockSize), 0);
  ASSERT_EQ(write_blocks(rig, 1, slots_per_segment(rig), 1), 0);
  EXPECT_FALSE(rig.device().reclaim_front(0));
  EXPECT_EQ(read_blocks(rig, 0, 1), Bytes(kBlockSize));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(read_blocks(rig, 0, 1), Bytes(kBlockSize));
}

TEST(Reclaim, TheHeadIsNotFreed) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, slots_per_segment(rig), 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_FALSE(rig.device().reclaim_front(0));
  EXPECT_TRUE(rig.device().victims().empty());
}

// The first segment has version 1 of the blocks from 0 on, clean; blocks 5 to 14 were read since.
void fill_segment_with_ten_hot_blocks(EngineRig& rig) {
  ASSERT_EQ(write_blocks(rig, 0, slots_per_segment(rig), 1), 0);
  ASSERT_EQ(write_blocks(rig, 100, 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(read_blocks(rig, 5, 10), blocks_of(5, 10, 1));
}

TEST(Reclaim, ACellThatTakesNothingCostsOneHotBlock) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_NO_FATAL_FAILURE(fill_segment_with_ten_hot_blocks(rig));
  rig.space().fail_writes(stored(rig, 100).cell_offset + kCellSize, 8);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.device().stats().bad_cells, 1U);
  EXPECT_EQ(rig.device().stats().relocated_bytes, 9 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, slots), blocks_of(0, slots, 1));
}

TEST(Reclaim, HotCleanBlocksSurviveAndColdOnesGo) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_NO_FATAL_FAILURE(fill_segment_with_ten_hot_blocks(rig));
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.device().stats().relocated_bytes, 10 * kBlockSize);
  EXPECT_EQ(rig.device().stats().evicted_bytes, (slots - 10) * kBlockSize);
  EXPECT_EQ(rig.device().stats().cached_bytes, 11 * kBlockSize);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);

  EXPECT_EQ(read_blocks(rig, 5, 10), blocks_of(5, 10, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 5, 10), blocks_of(5, 10, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
  EXPECT_EQ(read_blocks(rig, 4, 1), blocks_of(4, 1, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
}

TEST(Reclaim, OfASegmentThatIsAllHotAnEighthGoes) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots + 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(read_blocks(rig, 0, slots), blocks_of(0, slots, 1));
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.device().stats().relocated_bytes, (slots - slots / 8) * kBlockSize);
  EXPECT_EQ(rig.device().stats().evicted_bytes, slots / 8 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, slots), blocks_of(0, slots, 1));
}

TEST(Reclaim, ADamagedHotBlockIsNotRelocated) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots + 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(read_blocks(rig, 3, 2), blocks_of(3, 2, 1));
  damage(rig, stored(rig, 3).cell_offset + 8);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.device().stats().relocated_bytes, kBlockSize);
  EXPECT_EQ(rig.device().stats().checksum_errors, 1U);
  EXPECT_EQ(read_blocks(rig, 3, 2), blocks_of(3, 2, 1));
  EXPECT_EQ(rig.backing().counts().reads, 1U);
}

TEST(Reclaim, AHotBlockThatWasOverwrittenIsNotBroughtBack) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(read_blocks(rig, 0, 4), blocks_of(0, 4, 1));
  ASSERT_EQ(write_blocks(rig, 0, 2, 2), 0);
  ASSERT_EQ(rig.discard(2 * kBlockSize, kBlockSize), 0);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(rig.device().stats().relocated_bytes, kBlockSize);
  EXPECT_EQ(rig.device().dirty_bytes(), 2 * kBlockSize);
  for (int restarts = 0; restarts < 2; ++restarts) {
    EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 2));
    EXPECT_EQ(read_blocks(rig, 2, 1), Bytes(kBlockSize));
    EXPECT_EQ(read_blocks(rig, 3, 1), blocks_of(3, 1, 1));
    rig.kill();
  }
}

TEST(Reclaim, APinnedSegmentIsNotReleasedUntilUnpinned) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots + 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  const Stored first = stored(rig, 0);
  rig.cache().pool().pin(first.segment);
  std::atomic<bool> finished{false};
  bool freed = false;
  std::thread reclaim([&] {
    freed = rig.device().reclaim_front(0);
    finished = true;
  });
  // All its blocks are forgotten: what is left to do is to wait.
  while (rig.device().stats().evicted_bytes != slots * kBlockSize) std::this_thread::yield();
  for (int i = 0; i < 2000; ++i) std::this_thread::yield();
  EXPECT_FALSE(finished);
  EXPECT_TRUE(in_use(rig, first.segment));
  EXPECT_EQ(write_blocks(rig, 200, 3 * slots, 2), 0);  // nobody else gets it either
  const auto begin = rig.cache_image().begin() + static_cast<std::ptrdiff_t>(first.cell_offset);
  EXPECT_EQ(Bytes(begin, begin + kCellSize), blocks_of(0, 1, 1));
  EXPECT_FALSE(finished);
  rig.cache().pool().unpin(first.segment);
  reclaim.join();
  EXPECT_TRUE(freed);
  EXPECT_FALSE(in_use(rig, first.segment));
}

TEST(Reclaim, AWriteThatNeedsSpaceWaitsAndIsCompletedOnceASegmentIsFree) {
  const Bytes bytes = blocks_of(0, 1, 2);
  Outcome waiting;
  RigShape shape;
  shape.own_clock = true;
  EngineRig rig{shape};
  const std::uint64_t count = fill_cache(rig);
  rig.device().write(0, bytes, waiting.completion());
  EXPECT_FALSE(waiting.done);
  EXPECT_EQ(rig.device().stats().space_waits, 1U);
  EXPECT_EQ(rig.device().stats().waiting_writes, 1U);
  rig.advance(70);
  EXPECT_EQ(rig.device().stats().longest_wait_ms, 70U);
  EXPECT_TRUE(read_blocks(rig, 0, count) == blocks_of(0, count, 1)) << "the old data is readable meanwhile";
  EXPECT_FALSE(rig.cache().reclaim_step()) << "all is dirty";
  EXPECT_FALSE(waiting.done);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_FALSE(waiting.done);
  EXPECT_TRUE(rig.cache().reclaim_step());
  ASSERT_TRUE(waiting.done);
  EXPECT_EQ(waiting.error, 0);
  EXPECT_EQ(rig.device().stats().waiting_writes, 0U);
  EXPECT_EQ(rig.device().stats().longest_wait_ms, 0U);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_TRUE(read_blocks(rig, 1, count - 1) == blocks_of(1, count - 1, 1));
}

TEST(Reclaim, APartialWriteAndADiscardWaitForSpaceToo) {
  const Bytes piece = filled(100, 9);
  Outcome outcomes[2];
  EngineRig rig{RigShape()};
  const std::uint64_t count = fill_cache(rig);
  rig.device().write(50, piece, outcomes[0].completion());
  rig.device().discard(2 * kBlockSize, kBlockSize, outcomes[1].completion());
  for (const Outcome& outcome : outcomes) EXPECT_FALSE(outcome.done);
  EXPECT_TRUE(read_blocks(rig, 0, count) == blocks_of(0, count, 1));
  while (!(outcomes[0].done && outcomes[1].done)) ASSERT_TRUE(rig.step());
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, 0);
  Bytes expected = blocks_of(0, 3, 1);
  put(expected, 50, piece);
  put(expected, 2 * kBlockSize, Bytes(kBlockSize));
  EXPECT_EQ(read_blocks(rig, 0, 3), expected);
}

TEST(Reclaim, WritesThatWaitGoOnInTheOrderTheyCame) {
  const Bytes bytes[] = {blocks_of(0, 1, 2), blocks_of(0, 1, 3), blocks_of(0, 1, 4)};
  Outcome outcomes[3];
  EngineRig rig{RigShape()};
  fill_cache(rig);
  for (std::size_t i = 0; i < 3; ++i) rig.device().write(0, bytes[i], outcomes[i].completion());
  while (!outcomes[2].done) ASSERT_TRUE(rig.step());
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, 0);
  }
  EXPECT_EQ(read_blocks(rig, 0, 1), bytes[2]);
}

TEST(Reclaim, WritesThatWaitGetEioOnceTheBackingFailedRepeatedlyAndTheOldDataStaysReadable) {
  const Bytes bytes[] = {blocks_of(0, 1, 2), blocks_of(1, 1, 2)};
  Outcome outcomes[2];
  EngineRig rig{RigShape()};
  const std::uint64_t count = fill_cache(rig);
  rig.backing().fail({.writes = 1000});
  for (std::size_t i = 0; i < 2; ++i) rig.device().write(i * kBlockSize, bytes[i], outcomes[i].completion());
  ASSERT_TRUE(rig.commit().ok());
  for (int failures = 0; failures < 3; ++failures) {
    EXPECT_FALSE(rig.cache().reclaim_step());
    for (const Outcome& outcome : outcomes) EXPECT_FALSE(outcome.done) << "after " << failures << " failures";
    ASSERT_FALSE(rig.device().writeback_step());
  }
  EXPECT_TRUE(rig.device().backing_failing());
  rig.cache().reclaim_step();
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, EIO);
  }
  EXPECT_TRUE(read_blocks(rig, 0, count) == blocks_of(0, count, 1));
  EXPECT_EQ(rig.device().dirty_bytes(), count * kBlockSize);

  rig.backing().fail({});
  ASSERT_EQ(write_blocks(rig, 0, 1, 3), 0);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 3));
  EXPECT_FALSE(rig.device().backing_failing());
}

// A write of one stream, which has dirty segments, waits for space, and there is none but another stream's reserve.
TEST(Reclaim, AWriteIsNotWokenForAnotherStreamsReserveAndDoesNotHoldUpThatStream) {
  RigShape shape;
  shape.cache_bytes = 12 << 20;
  shape.device_bytes = 16 << 20;
  Outcome stuck;
  Outcome passing;
  EngineRig rig(shape);
  ASSERT_EQ(rig.device().stream_count(), 2U);
  std::vector<std::uint64_t> blocks[2];  // by stream
  for (std::uint64_t block = 0; block < shape.device_bytes / kBlockSize; ++block) {
    blocks[stream_of_block(block, 2)].push_back(block);
  }
  const std::uint64_t slots = slots_per_segment(rig);
  // Stream 1 fills its head, and stream 0 all else but the reserve of the two.
  for (std::uint64_t i = 0; i < slots; ++i) ASSERT_EQ(write_blocks(rig, blocks[1][i], 1, 1), 0);
  for (std::uint64_t i = 0; rig.cache().pool().free_count() > rig.cache().reserve() || i % slots != 0; ++i) {
    ASSERT_EQ(write_blocks(rig, blocks[0][i % 1000], 1, 1), 0);
  }
  const Bytes bytes = blocks_of(0, 1, 2);
  rig.device().write(blocks[0][0] * kBlockSize, bytes, stuck.completion());
  ASSERT_FALSE(stuck.done);
  EXPECT_FALSE(rig.cache().reclaim_step()) << "there is nothing to do, however often it is asked";
  EXPECT_EQ(rig.device().stats().space_waits, 1U);
  rig.device().write(blocks[1][slots] * kBlockSize, bytes, passing.completion());
  EXPECT_EQ(passing.error, 0);
  EXPECT_FALSE(stuck.done);
  while (!stuck.done) ASSERT_TRUE(rig.step());
  EXPECT_EQ(stuck.error, 0);
}

TEST(Reclaim, StopEndsWritesThatWaitWithEio) {
  const Bytes bytes = blocks_of(0, 1, 2);
  Outcome waiting;
  EngineRig rig{RigShape()};
  const std::uint64_t count = fill_cache(rig);
  rig.device().write(0, bytes, waiting.completion());
  ASSERT_FALSE(waiting.done);
  rig.device().stop();
  ASSERT_TRUE(waiting.done);
  EXPECT_EQ(waiting.error, EIO);
  EXPECT_EQ(write_blocks(rig, 0, 1, 3), EIO);
  EXPECT_EQ(read_error(rig, 0), EIO);
  rig.reopen();
  EXPECT_TRUE(read_blocks(rig, 0, count) == blocks_of(0, count, 1));
}

TEST(Reclaim, AFreedSegmentDoesNotComeBackFromItsEarlierLife) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots + 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  put(rig.backing_image().current, 0, blocks_of(0, slots, 7));
  rig.backing_image().durable = rig.backing_image().current;
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 0, slots), blocks_of(0, slots, 7));
  EXPECT_EQ(rig.device().damaged_records(), 0U);
}

// --- Lost blocks have no other copy: their record must not go with their segment.

// Block 1 is lost and recorded as such in the first segment, of which the remaining slots are filled.
void lose_block(EngineRig& rig) {
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  damage(rig, stored(rig, 1).cell_offset);
  ASSERT_EQ(rig.drain(), EIO);
  ASSERT_EQ(read_error(rig, 1), EIO);
  ASSERT_EQ(write_blocks(rig, 3, slots_per_segment(rig), 1), 0);
  ASSERT_EQ(rig.drain(), EIO);
}

TEST(Reclaim, ALostBlockStaysLostWhenItsSegmentIsFreed) {
  EngineRig rig{RigShape()};
  lose_block(rig);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  EXPECT_EQ(read_error(rig, 1), EIO);
  rig.power_cut();
  EXPECT_EQ(read_error(rig, 1), EIO);
}

// No other segment of the stream can become free before it, and the waiting write has taken all the space there is.
TEST(Reclaim, ALostBlockDoesNotKeepAFullCacheFull) {
  const RigShape shape;
  const std::uint64_t count = shape.device_bytes / kBlockSize - 2;
  const Bytes bytes = blocks_of(2, count, 2);
  Outcome outcome;
  EngineRig rig(shape);
  lose_block(rig);
  rig.device().write(2 * kBlockSize, bytes, outcome.completion());
  while (!outcome.done && rig.step()) {
  }
  ASSERT_TRUE(outcome.done) << "no step finds anything to do, and the write waits for ever";
  EXPECT_EQ(outcome.error, 0);
  EXPECT_TRUE(read_blocks(rig, 2, count) == bytes);
  EXPECT_EQ(read_error(rig, 1), EIO);
}

}  // namespace
}  // namespace pcache
