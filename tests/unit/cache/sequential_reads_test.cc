// Which reads count as one that goes through the device in order.

#include "cache/sequential_reads.h"

#include <gtest/gtest.h>

#include <random>

namespace pcache {
namespace {

constexpr std::uint64_t kSlack = SequentialReads::kSlackBlocks;

TEST(SequentialReadsTest, ARunGrowsWithEachReadThatContinuesIt) {
  SequentialReads reads;
  EXPECT_EQ(reads.note(1000, 8), 8U);
  EXPECT_EQ(reads.note(1008, 8), 16U);
  EXPECT_EQ(reads.note(1016, 100), 116U);
}

TEST(SequentialReadsTest, WhatIsCachedInBetweenAndReadsInAnotherOrderDoNotEndIt) {
  SequentialReads reads;
  EXPECT_EQ(reads.note(1000, 10), 10U);
  EXPECT_EQ(reads.note(1030, 10), 40U) << "20 blocks were hits";
  EXPECT_EQ(reads.note(1060, 20), 80U);
  EXPECT_EQ(reads.note(1040, 20), 80U) << "sent earlier, came later";
  EXPECT_EQ(reads.note(1080 + kSlack, 1), 81 + kSlack);
}

TEST(SequentialReadsTest, AJumpBeginsARunOfItsOwn) {
  SequentialReads reads;
  EXPECT_EQ(reads.note(1000, 10), 10U);
  EXPECT_EQ(reads.note(1010 + kSlack + 1, 10), 10U);
  EXPECT_EQ(reads.note(990, 5), 5U) << "before its beginning";
  EXPECT_EQ(reads.note(0, 4), 4U);
}

TEST(SequentialReadsTest, AsManyRunsAsThereAreTrackersGoOnBesideEachOther) {
  SequentialReads reads;
  for (std::uint64_t step = 0; step < 100; ++step) {
    for (std::uint64_t run = 0; run < SequentialReads::kTrackers; ++run) {
      ASSERT_EQ(reads.note(run * 1'000'000 + step * 32, 32), (step + 1) * 32);
    }
  }
  EXPECT_EQ(reads.note(99'000'000, 1), 1U) << "takes the place of the one that rested longest";
  EXPECT_EQ(reads.note(1'000'000 + 3200, 32), 3232U);
  EXPECT_EQ(reads.note(3200, 32), 32U);
}

TEST(SequentialReadsTest, RandomReadsAreNone) {
  SequentialReads reads;
  std::mt19937_64 random(1);
  std::uint64_t longest = 0;
  for (int i = 0; i < 100'000; ++i) longest = std::max(longest, reads.note(random() % 100'000'000, 1));
  EXPECT_LE(longest, 4 * kSlack);
}

}  // namespace
}  // namespace pcache
