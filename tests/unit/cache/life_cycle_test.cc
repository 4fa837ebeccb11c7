// Adding a logical device, removing it, and keeping what it holds for later.

#include <gtest/gtest.h>

#include "tests/support/stored.h"

namespace pcache {
namespace {

RigShape on(Granularity granularity) {
  RigShape shape;
  shape.granularity = granularity;
  return shape;
}

// Dirty, overwritten, discarded, cached clean, and written back in part.
void use(EngineRig& rig) {
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 200, 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  read_blocks(rig, 300, 50);
  ASSERT_EQ(write_blocks(rig, 100, 80, 3), 0);
  ASSERT_EQ(rig.discard(170 * kBlockSize, 20 * kBlockSize), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(write_blocks(rig, 120, 10, 4), 0);
  ASSERT_EQ(rig.device().write_back(10 * kBlockSize).step, CachedDevice::WriteBack::Step::part);
}

class Kept : public testing::TestWithParam<Granularity> {};

TEST_P(Kept, DirtyDataSurvivesWhateverHappensUntilItIsAddedAgain) {
  EngineRig rig(on(GetParam()));
  ASSERT_NO_FATAL_FAILURE(use(rig));
  const Bytes expected = read_blocks(rig, 0, 400);
  const std::uint64_t dirty = rig.device().dirty_bytes();
  const Bytes backing = rig.backing_image().durable;
  ASSERT_TRUE(rig.park().ok());
  EXPECT_EQ(rig.device().stats().state, "parked");
  rig.reopen();
  rig.kill();
  rig.power_cut([](std::size_t) { return false; });
  EXPECT_EQ(rig.device().stats().state, "parked");
  EXPECT_EQ(rig.device().dirty_bytes(), dirty);
  EXPECT_EQ(rig.backing_image().durable, backing);
  ASSERT_TRUE(rig.unpark().ok());
  EXPECT_EQ(rig.device().dirty_bytes(), dirty);
  EXPECT_EQ(read_blocks(rig, 0, 400), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().durable, 0, expected.size()), expected);
}

// With a count that is too high there seems to be space when there is none.
TEST_P(Kept, SegmentsAreCountedOnceHoweverOftenItIsAddedAgain) {
  EngineRig rig(on(GetParam()));
  ASSERT_NO_FATAL_FAILURE(use(rig));
  const std::uint32_t clean = rig.cache().clean_segments();
  ASSERT_GT(clean, 0U);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(rig.park().ok());
    ASSERT_TRUE(rig.unpark().ok());
    EXPECT_LE(rig.cache().clean_segments(), clean);
  }
  ASSERT_TRUE(rig.remove_and_add().ok());
  EXPECT_EQ(rig.cache().clean_segments(), 0U);
}

// What changes in the log of one that is kept is no damage.
TEST_P(Kept, OthersMayTakeItsCleanSegments) {
  EngineRig rig(on(GetParam()));
  ASSERT_NO_FATAL_FAILURE(use(rig));
  const Bytes expected = read_blocks(rig, 0, 400);
  ASSERT_TRUE(rig.park().ok());
  ASSERT_TRUE(rig.device().reclaim_front(0)) << "as reclaim does when others need space";
  for (int i = 0; i < 4; ++i) rig.device().reclaim_front(0);
  if (GetParam() == Granularity::page) rig.kill();
  ASSERT_TRUE(rig.unpark().ok());
  ASSERT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(read_blocks(rig, 0, 400), expected);
}

INSTANTIATE_TEST_SUITE_P(Media, Kept, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& media) { return std::string(to_string(media.param)); });

// What the backing has and could lose is cached as if it could not.
TEST(Added, WhatTheBackingHadBeforeIsDurableBeforeItIsCached) {
  EngineRig rig(RigShape{});
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 5, 2), 0);
  ASSERT_EQ(write_blocks(rig, 10, 5, 2), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(rig.device().write_back(5 * kBlockSize).step, CachedDevice::WriteBack::Step::part);
  ASSERT_TRUE(rig.remove_and_add().ok());
  const Bytes found = read_blocks(rig, 0, 20);
  rig.power_cut();
  EXPECT_EQ(read_blocks(rig, 0, 20), found);
  EXPECT_EQ(backing_blocks(rig, 0, 20), found) << "the cache has something else than the backing";
}

TEST(Added, ABackingThatFailsItsFlushIsNotAdded) {
  EngineRig rig(RigShape{});
  auto image = std::make_shared<BackingImage>(kMiB);
  auto backing = std::make_unique<FakeBackingDev>(image, "/fake/second", "fake:2");
  backing->fail({.flushes = 1});
  const auto added = rig.cache().add("second", std::move(backing));
  EXPECT_EQ(added.status().code(), Errc::failed);
  EXPECT_NE(added.status().message().find("/fake/second"), std::string::npos) << added.status().message();
  EXPECT_EQ(rig.cache().cache_dev().devices().size(), 1U);
}

}  // namespace
}  // namespace pcache
