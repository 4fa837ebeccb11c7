// Hits take no memory: what goes on in a cache that has been full for long cannot fail for want of it, nor wait for it.

#include <gtest/gtest.h>

#include <random>

#include "tests/faults/allocations.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

class SteadyState : public testing::TestWithParam<Granularity> {
 protected:
  static RigShape shape() {
    RigShape shape;
    shape.cache_bytes = 12 << 20;
    shape.device_bytes = 16 << 20;
    shape.granularity = GetParam();
    return shape;
  }

  EngineRig rig_{shape()};
  std::mt19937_64 random_{1};
};

TEST_P(SteadyState, WritesAndReadHitsAllocateNothingAcrossSegmentsAndEpochs) {
  const std::uint64_t blocks = shape().device_bytes / kBlockSize;
  const Bytes bytes = blocks_of(0, 32, 1);
  Bytes buffer(8 * kBlockSize);
  // From the second round on the cache has been full before.
  std::uint64_t written = 0;
  std::uint64_t hits = 0;
  std::uint64_t allocated = 0;
  for (int round = 0; round < 1000; ++round) {
    ASSERT_TRUE(rig_.make_room(2));  // for a segment of each stream, which is more than the writes of a round need
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t count = 1 + random_() % 20;
      const std::uint64_t offset = random_() % (blocks - count) * kBlockSize;
      Outcome outcome;
      const std::uint64_t before = allocations_of_this_thread();
      rig_.device().write(offset, {bytes.data(), count * kBlockSize}, outcome.completion());
      allocated += allocations_of_this_thread() - before;
      ASSERT_TRUE(outcome.done && outcome.error == 0);
      written += count;

      const std::uint64_t some = 1 + random_() % (buffer.size() / kBlockSize);
      const std::uint64_t at = random_() % (blocks - some) * kBlockSize + random_() % kBlockSize;
      const std::uint64_t missed = rig_.device().stats().read_misses;
      Outcome read;
      const std::uint64_t before_read = allocations_of_this_thread();
      rig_.device().read(at, {buffer.data(), (some - 1) * kBlockSize}, read.completion());
      const std::uint64_t after_read = allocations_of_this_thread();
      ASSERT_TRUE(read.done && read.error == 0);
      if (rig_.device().stats().read_misses != missed) continue;
      allocated += after_read - before_read;
      ++hits;

      // A part of a block that is cached.
      Outcome part;
      const std::uint64_t before_part = allocations_of_this_thread();
      rig_.device().write(offset + 100, {bytes.data(), 1000}, part.completion());
      allocated += allocations_of_this_thread() - before_part;
      ASSERT_TRUE(part.done && part.error == 0);
    }
    ASSERT_EQ(allocated, 0U) << "in round " << round;
    rig_.device().close_epoch();
  }
  EXPECT_GT(hits, 200U);
  EXPECT_GT(written / slots_per_segment(rig_), 5 * rig_.cache().pool().total())
      << "segments were used again and again";
}

// A backing that stalls lets epochs pile up, each with little in it.
TEST_P(SteadyState, WritesAllocateNothingHoweverManyEpochsWait) {
  const Bytes bytes = blocks_of(0, 1, 1);
  for (std::uint64_t epoch = 0; epoch < 300; ++epoch) {
    Outcome outcome;
    const std::uint64_t before = allocations_of_this_thread();
    rig_.device().write(random_() % 1000 * kBlockSize, bytes, outcome.completion());
    ASSERT_EQ(allocations_of_this_thread(), before) << "epoch " << epoch;
    ASSERT_TRUE(outcome.done && outcome.error == 0);
    ASSERT_TRUE(rig_.commit().ok());
  }
  EXPECT_EQ(rig_.drain(), 0);
  rig_.reopen();
  EXPECT_EQ(rig_.device().dirty_bytes(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Media, SteadyState, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& media) { return to_string(media.param); });

}  // namespace
}  // namespace pcache
