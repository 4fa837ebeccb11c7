// Where no order is asked for, closed epochs are written back as one.

#include <gtest/gtest.h>

#include "tests/support/stored.h"

namespace pcache {
namespace {

class JoinedEpochs : public testing::TestWithParam<Granularity> {
 protected:
  RigShape shape(WritebackOrder order) {
    RigShape shape;
    shape.granularity = GetParam();
    shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(order));
    return shape;
  }
  static std::uint64_t clean_epoch(EngineRig& rig) { return rig.device().stats().clean_epoch; }
};

TEST_P(JoinedEpochs, WithoutOrderAllGoTogetherAndTheTailMovesOverThemAfterTheFlush) {
  EngineRig rig(shape(WritebackOrder::none));
  fill_backing(rig, 9);
  for (std::uint64_t version = 1; version <= 5; ++version) {
    ASSERT_EQ(write_blocks(rig, 10 + version, 2, version), 0);
    ASSERT_EQ(write_blocks(rig, 100, 1, version), 0);
    ASSERT_EQ(rig.flush(), 0);
  }
  ASSERT_EQ(write_blocks(rig, 100, 1, 6), 0);  // in the open epoch
  const Bytes expected = read_blocks(rig, 0, 100);

  rig.backing().fail({.flushes = 1});
  EXPECT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(clean_epoch(rig), 0U);
  EXPECT_EQ(rig.device().dirty_bytes(), 7 * kBlockSize);
  rig.backing_image().power_cut();
  rig.kill();
  EXPECT_EQ(rig.device().dirty_bytes(), 7 * kBlockSize);

  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(rig.backing().counts().flushes, 1U);
  EXPECT_EQ(rig.backing().counts().written_bytes, 7 * kBlockSize);
  EXPECT_GE(clean_epoch(rig), 5U);
  EXPECT_EQ(part(rig.backing_image().durable, 0, 100 * kBlockSize), expected);
  EXPECT_EQ(read_blocks(rig, 100, 1), blocks_of(100, 1, 6));
}

TEST_P(JoinedEpochs, ADiscardCountsInTheOrderOfTheLogWhateverEpochItIsOf) {
  EngineRig rig(shape(WritebackOrder::none));
  Bytes expected = fill_backing(rig, 9);
  const auto write = [&](std::uint64_t block, std::uint64_t version) {
    ASSERT_EQ(write_blocks(rig, block, 1, version), 0);
    ASSERT_EQ(rig.flush(), 0);
    put(expected, block * kBlockSize, blocks_of(block, 1, version));
  };
  const auto discard = [&](std::uint64_t block, std::uint64_t count) {
    ASSERT_EQ(rig.discard(block * kBlockSize, count * kBlockSize), 0);
    ASSERT_EQ(rig.flush(), 0);
    put(expected, block * kBlockSize, Bytes(count * kBlockSize));
  };
  write(5, 1);
  discard(4, 3);
  write(6, 1);
  discard(8, 2);
  write(5, 2);
  discard(5, 1);
  write(9, 1);
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_FALSE(rig.device().writeback_step());
  EXPECT_TRUE(rig.backing_image().durable == expected);
}

TEST_P(JoinedEpochs, AreNoMoreThanAPartOfTheCache) {
  EngineRig rig(shape(WritebackOrder::none));
  const std::uint64_t slots = rig.cache().slots().size();
  const std::uint64_t epochs = slots / 16 / 8 * 3;  // of 8 blocks, three times as many as may go together
  for (std::uint64_t i = 0; i < epochs; ++i) {
    ASSERT_EQ(write_blocks(rig, 8 * i, 8, 1), 0);
    ASSERT_EQ(rig.flush(), 0);
  }
  std::uint64_t steps = 0;
  while (rig.device().writeback_step()) {
    EXPECT_LE(rig.backing().counts().written_bytes, (slots / 16 + 8) * ++steps * kBlockSize);
  }
  EXPECT_GE(steps, 3U);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Media, JoinedEpochs, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& medium) { return std::string(to_string(medium.param)); });

}  // namespace
}  // namespace pcache
