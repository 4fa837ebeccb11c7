// Where blocks that were read once have to prove themselves, on a cache device that is full.

#include "cache/probation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/stored.h"

namespace pcache {
namespace {

RigShape larger_than_its_cache() {
  RigShape shape;
  shape.cache_bytes = 12 << 20;
  shape.device_bytes = 64 << 20;
  return shape;
}

// Reads from the end of the device on until something is on probation. Returns how many blocks were read.
std::uint64_t fill_until_probation(EngineRig& rig) {
  const std::uint64_t blocks = larger_than_its_cache().device_bytes / kBlockSize;
  std::uint64_t read = 0;
  while (rig.device().probation().segments() == 0 && read < blocks / 2) {
    ++read;
    EXPECT_EQ(read_error(rig, blocks - read), 0);
  }
  EXPECT_EQ(rig.device().probation().segments(), 1U);
  return read;
}

TEST(Probation, ClaimsSlotsInARowAndGrowsOnlyWhereItMay) {
  EngineRig rig{RigShape()};
  SegmentPool& pool = rig.cache().pool();
  const std::uint32_t free = pool.free_count();
  const std::uint32_t slots = slots_per_segment(rig);
  Probation probation(pool, slots);
  SlotId first = kNoSlot;
  EXPECT_EQ(probation.claim(5, false, first), 0U);
  ASSERT_EQ(probation.claim(5, true, first), 5U);
  const SlotId begin = first;
  EXPECT_EQ(begin % slots, 0U);
  EXPECT_EQ(pool.free_count(), free - 1);
  ASSERT_EQ(probation.claim(slots, false, first), slots - 5) << "no more than the segment has";
  EXPECT_EQ(first, begin + 5);
  EXPECT_EQ(probation.claim(1, false, first), 0U);
  ASSERT_TRUE(probation.oldest());
  EXPECT_TRUE(probation.oldest()->full);
  ASSERT_EQ(probation.claim(1, true, first), 1U);
  EXPECT_NE(first / slots, begin / slots);
  EXPECT_EQ(probation.segments(), 2U);

  EXPECT_EQ(probation.seal_oldest(), begin / slots);
  probation.give_back_oldest();
  EXPECT_FALSE(probation.oldest()->full);
  const SegmentId youngest = *probation.seal_oldest();
  EXPECT_EQ(probation.claim(1, false, first), 0U) << "what is sealed takes nothing";
  EXPECT_EQ(probation.oldest()->id, youngest);
  probation.give_back_oldest();
  EXPECT_EQ(probation.seal_oldest(), std::nullopt);
  EXPECT_EQ(pool.free_count(), free);
}

TEST(Probation, IsForWhatIsReadOnceTheCacheIsFull) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  const std::uint64_t read = fill_until_probation(rig);
  EXPECT_LE(rig.cache().pool().free_count(), rig.cache().reserve() + 3) << "until then it goes to the log";
  EXPECT_EQ(rig.device().stats().evicted_bytes, 0U);
  EXPECT_EQ(rig.device().stats().cached_bytes, read * kBlockSize);
  const std::uint64_t before = rig.backing().counts().reads;
  const std::uint64_t last = content.size() / kBlockSize - read;
  EXPECT_EQ(read_blocks(rig, last, 1), part(content, last * kBlockSize, kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, before);
}

TEST(Probation, WhatWasReadAgainGoesToTheLogAndTheRestIsForgotten) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  fill_until_probation(rig);
  for (std::uint64_t block = 0; block < 20; ++block) ASSERT_EQ(read_error(rig, block), 0);
  for (std::uint64_t block = 5; block < 8; ++block) ASSERT_EQ(read_error(rig, block), 0);
  const std::uint64_t evicted = rig.device().stats().evicted_bytes;
  ASSERT_TRUE(rig.device().reclaim_probation());
  EXPECT_FALSE(rig.device().reclaim_probation());
  EXPECT_EQ(rig.device().stats().promoted_bytes, 3 * kBlockSize);
  EXPECT_EQ(rig.device().stats().evicted_bytes, evicted + 18 * kBlockSize) << "17 of these, and the one before";
  const std::uint64_t before = rig.backing().counts().reads;
  EXPECT_EQ(read_blocks(rig, 5, 3), part(content, 5 * kBlockSize, 3 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, before);
  EXPECT_EQ(all_stored(rig, 5).size(), 1U);
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 5, 3), part(content, 5 * kBlockSize, 3 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, 0U) << "it survives the process";
}

TEST(Probation, WhatComesBackSoonAfterItWasForgottenGoesToTheLog) {
  EngineRig rig(larger_than_its_cache());
  fill_backing(rig, 1);
  fill_until_probation(rig);
  ASSERT_EQ(read_error(rig, 3), 0);
  ASSERT_TRUE(all_stored(rig, 3).empty());
  ASSERT_TRUE(rig.device().reclaim_probation());
  EXPECT_EQ(rig.device().stats().ghost_hits, 0U);
  ASSERT_EQ(read_error(rig, 3), 0);
  EXPECT_EQ(rig.device().stats().ghost_hits, 1U);
  EXPECT_EQ(all_stored(rig, 3).size(), 1U);
  EXPECT_EQ(rig.device().probation().segments(), 0U);
}

TEST(Probation, ARestartForgetsItAndFreesItsSegments) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  fill_until_probation(rig);
  ASSERT_EQ(read_error(rig, 3), 0);
  for (const bool killed : {true, false}) {
    const std::size_t logged = rig.cache().pool().in_use().size();
    if (killed) {
      rig.kill();
    } else {
      rig.reopen();
    }
    EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().pool().total() - logged);
    EXPECT_EQ(rig.device().damaged_records(), 0U);
    EXPECT_EQ(read_blocks(rig, 3, 1), part(content, 3 * kBlockSize, kBlockSize));
  }
}

// Each hides what is on probation, also from those who look through all of it.
TEST(Probation, WritesAndDiscardsHideIt) {
  EngineRig rig(larger_than_its_cache());
  fill_backing(rig, 1);
  fill_until_probation(rig);
  for (std::uint64_t block = 0; block < 8; ++block) ASSERT_EQ(read_error(rig, block), 0);
  ASSERT_EQ(write_blocks(rig, 2, 1, 2), 0);
  ASSERT_EQ(rig.write(3 * kBlockSize + 100, filled(10, 7)), 0);
  ASSERT_EQ(rig.discard(4 * kBlockSize, kBlockSize), 0);
  Bytes expected = blocks_of(0, 8, 1);
  put(expected, 2 * kBlockSize, blocks_of(2, 1, 2));
  put(expected, 3 * kBlockSize + 100, filled(10, 7));
  put(expected, 4 * kBlockSize, Bytes(kBlockSize));
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  while (rig.device().reclaim_probation()) {
  }
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);

  fill_until_probation(rig);
  ASSERT_EQ(read_error(rig, 40), 0);
  ASSERT_EQ(rig.discard(0, larger_than_its_cache().device_bytes), 0);
  EXPECT_EQ(rig.device().stats().cached_bytes, 0U);
  EXPECT_EQ(read_blocks(rig, 40, 1), Bytes(kBlockSize));
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 0, 50), Bytes(50 * kBlockSize));
}

TEST(Probation, ADamagedBlockIsReadFromTheBackingAgain) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  fill_until_probation(rig);
  ASSERT_EQ(read_error(rig, 3), 0);
  // The cells of probation are found by what is in them.
  const Bytes cell = part(content, 3 * kBlockSize, kBlockSize);
  const auto found = std::search(rig.cache_image().begin(), rig.cache_image().end(), cell.begin(), cell.end());
  ASSERT_NE(found, rig.cache_image().end());
  *found ^= std::byte{1};
  EXPECT_EQ(read_blocks(rig, 3, 1), cell);
  EXPECT_EQ(rig.device().stats().checksum_errors, 1U);
  ASSERT_EQ(read_error(rig, 3), 0);
  const auto again = std::search(rig.cache_image().begin(), rig.cache_image().end(), cell.begin(), cell.end());
  ASSERT_NE(again, rig.cache_image().end());
  *again ^= std::byte{1};
  ASSERT_TRUE(rig.device().reclaim_probation());
  EXPECT_EQ(rig.device().stats().checksum_errors, 2U) << "what is damaged is not kept";
  EXPECT_EQ(read_blocks(rig, 3, 1), cell);
}

TEST(Probation, ACellThatTakesNothingCostsItsBlockOnly) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  fill_until_probation(rig);
  const Geometry& g = rig.cache().cache_dev().geometry();
  const SegmentId segment = rig.device().probation().oldest()->id;
  rig.space().fail_writes(g.cell_offset(segment, 2), 8);  // one block is there
  EXPECT_EQ(read_blocks(rig, 0, 4), part(content, 0, 4 * kBlockSize));
  EXPECT_EQ(rig.device().stats().bad_cells, 1U);
  const std::uint64_t before = rig.backing().counts().reads;
  EXPECT_EQ(read_blocks(rig, 0, 4), part(content, 0, 4 * kBlockSize));
  EXPECT_EQ(rig.backing().counts().reads, before + 1);
}

TEST(Probation, ASegmentThatIsReadIsNotGivenBack) {
  EngineRig rig(larger_than_its_cache());
  fill_backing(rig, 1);
  fill_until_probation(rig);
  const SegmentId segment = rig.device().probation().oldest()->id;
  const std::uint32_t free = rig.cache().pool().free_count();
  rig.cache().pool().pin(segment);
  std::atomic<bool> finished{false};
  std::thread reclaim([&] {
    EXPECT_TRUE(rig.device().reclaim_probation());
    finished = true;
  });
  while (rig.device().stats().evicted_bytes == 0) std::this_thread::yield();
  for (int i = 0; i < 2000; ++i) std::this_thread::yield();
  EXPECT_FALSE(finished);
  EXPECT_EQ(rig.cache().pool().free_count(), free);
  rig.cache().pool().unpin(segment);
  reclaim.join();
  EXPECT_EQ(rig.cache().pool().free_count(), free + 1);
}

TEST(Probation, AScanDoesNotPushOutWhatIsReadAgain) {
  EngineRig rig(larger_than_its_cache());
  const Bytes content = fill_backing(rig, 1);
  const auto read_and_reclaim = [&](std::uint64_t block) {
    ASSERT_EQ(read_error(rig, block), 0);
    while (rig.cache().short_of_space()) ASSERT_TRUE(rig.cache().reclaim_step());
  };
  constexpr std::uint64_t kHot = 200;
  for (int rounds = 0; rounds < 2; ++rounds) {
    for (std::uint64_t block = 0; block < kHot; ++block) read_and_reclaim(block);
  }
  for (std::uint64_t block = kHot; block < content.size() / kBlockSize; ++block) read_and_reclaim(block);
  const std::uint64_t before = rig.device().stats().read_misses;
  EXPECT_EQ(read_blocks(rig, 0, kHot), part(content, 0, kHot * kBlockSize));
  EXPECT_LE(rig.device().stats().read_misses - before, kHot / 4) << "an eighth of a segment that is all hot goes";
}

TEST(Probation, RemovalGivesItsSegmentsBack) {
  EngineRig rig(larger_than_its_cache());
  fill_backing(rig, 1);
  fill_until_probation(rig);
  rig.device().stop();
  ASSERT_TRUE(rig.device().release_segments().ok());
  EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().pool().total());
}

}  // namespace
}  // namespace pcache
