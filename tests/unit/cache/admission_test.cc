// What of the blocks that were read from the backing is kept, and what is counted.

#include <gtest/gtest.h>

#include "tests/support/stored.h"

namespace pcache {
namespace {

void configure(EngineRig& rig, Setting setting, std::uint64_t value) {
  Settings settings;
  settings.set(setting, value);
  ASSERT_TRUE(rig.device().configure(settings).ok());
}

TEST(AdmissionTest, EveryBlockIsAdmittedUnlessSomethingElseIsSaid) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(read_blocks(rig, 0, 512), blocks_of(0, 512, 1));
  EXPECT_EQ(rig.device().stats().read_fills, 512U);
  EXPECT_EQ(rig.device().stats().cached_bytes, 512 * kBlockSize);
}

TEST(AdmissionTest, WithSecondTouchABlockIsKeptWhenItIsReadAgain) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  configure(rig, Setting::admission, static_cast<std::uint64_t>(Admission::second_touch));
  ASSERT_EQ(read_blocks(rig, 10, 5), blocks_of(10, 5, 1));
  EXPECT_EQ(rig.device().stats().cached_bytes, 0U);
  EXPECT_EQ(rig.device().stats().not_admitted_first_touch, 5U);
  ASSERT_EQ(read_blocks(rig, 12, 6), blocks_of(12, 6, 1));
  EXPECT_EQ(rig.device().stats().cached_bytes, 3 * kBlockSize);
  EXPECT_EQ(rig.device().stats().not_admitted_first_touch, 8U);
  EXPECT_EQ(rig.device().stats().read_fills, 3U);
  EXPECT_EQ(rig.device().stats().ghost_hits, 3U);
  const std::uint64_t before = rig.backing().counts().reads;
  EXPECT_EQ(read_blocks(rig, 12, 3), blocks_of(12, 3, 1));
  EXPECT_EQ(rig.backing().counts().reads, before);
  rig.reopen();
  ASSERT_EQ(read_blocks(rig, 100, 1), blocks_of(100, 1, 1));
  EXPECT_EQ(rig.device().stats().not_admitted_first_touch, 1U) << "the setting is still in force";
}

TEST(AdmissionTest, WithSecondTouchWritesAreCachedAtOnce) {
  EngineRig rig{RigShape()};
  configure(rig, Setting::admission, static_cast<std::uint64_t>(Admission::second_touch));
  ASSERT_EQ(write_blocks(rig, 3, 1, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(read_blocks(rig, 3, 1), blocks_of(3, 1, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
}

TEST(AdmissionTest, OfASequentialReadOnlyTheBeginningIsKept) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  configure(rig, Setting::sequential_bypass, 64 * kKiB);
  for (std::uint64_t block = 0; block < 600; block += 4) {
    ASSERT_EQ(read_blocks(rig, block, 4), blocks_of(block, 4, 1));
  }
  EXPECT_EQ(rig.device().stats().read_fills, 16U) << "64 KiB";
  EXPECT_EQ(rig.device().stats().not_admitted_sequential, 584U);
  ASSERT_EQ(read_blocks(rig, 1000, 16), blocks_of(1000, 16, 1));
  EXPECT_EQ(rig.device().stats().read_fills, 32U) << "exactly as long is not longer";
  ASSERT_EQ(read_blocks(rig, 1200, 17), blocks_of(1200, 17, 1));
  EXPECT_EQ(rig.device().stats().read_fills, 32U) << "one long request";
}

TEST(AdmissionTest, SequentialWritesAreCached) {
  EngineRig rig{RigShape()};
  configure(rig, Setting::sequential_bypass, 64 * kKiB);
  ASSERT_EQ(write_blocks(rig, 0, 256, 1), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.device().stats().cached_bytes, 256 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, 256), blocks_of(0, 256, 1));
  EXPECT_EQ(rig.backing().counts().reads, 0U);
}

TEST(AdmissionTest, WhatCannotBeKeptForLackOfSpaceIsCounted) {
  EngineRig rig{RigShape()};
  const std::uint64_t room = room_for_blocks(rig);
  ASSERT_EQ(write_blocks(rig, 0, room, 1), 0);  // all is dirty
  ASSERT_EQ(read_blocks(rig, room, 3), Bytes(3 * kBlockSize));
  EXPECT_EQ(rig.device().stats().not_admitted_no_space, 3U);
  EXPECT_EQ(rig.device().stats().read_fills, 0U);
}

TEST(AdmissionTest, ARequestOfWhichAPartIsCachedIsAPartialHit) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 1, 1, 1), 0);
  ASSERT_EQ(write_blocks(rig, 10, 1, 1), 0);
  ASSERT_EQ(read_error(rig, 1), 0);
  ASSERT_EQ(read_error(rig, 20), 0);
  EXPECT_EQ(rig.device().stats().partial_hits, 0U);
  Bytes buffer(2 * kBlockSize);
  ASSERT_EQ(rig.read(0, buffer), 0);
  EXPECT_EQ(rig.device().stats().partial_hits, 1U) << "the second block";
  ASSERT_EQ(rig.read(10 * kBlockSize, buffer), 0);
  EXPECT_EQ(rig.device().stats().partial_hits, 2U) << "the first block";
  ASSERT_EQ(rig.read(10 * kBlockSize, buffer), 0);
  EXPECT_EQ(rig.device().stats().partial_hits, 2U) << "both are there now";
}

}  // namespace
}  // namespace pcache
