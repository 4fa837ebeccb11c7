#include "base/latency_histogram.h"

#include <gtest/gtest.h>

#include "pcache/stats.h"

namespace pcache {
namespace {

TEST(LatencyHistogram, BucketsFollowEachOtherAndHoldWhatTheySay) {
  std::uint64_t lower = 0;
  for (std::size_t bucket = 0; bucket + 1 < LatencyHistogram::kBuckets; ++bucket) {
    const std::uint64_t upper = LatencyHistogram::upper_bound(bucket);
    ASSERT_GT(upper, lower);
    EXPECT_EQ(LatencyHistogram::bucket_of(lower), bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(upper - 1), bucket);
    EXPECT_LE(upper - lower, lower / 4 + 1) << "a bound is too far from what it stands for";
    lower = upper;
  }
  EXPECT_EQ(LatencyHistogram::bucket_of(lower), LatencyHistogram::kBuckets - 1);
  EXPECT_EQ(LatencyHistogram::bucket_of(~std::uint64_t{0}), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogram, CountsUntilItIsReset) {
  LatencyHistogram histogram;
  for (const std::uint64_t ns : {100U, 110U, 5000U}) histogram.add(ns);
  EXPECT_EQ(histogram.sum(), 5210U);
  EXPECT_EQ(histogram.max(), 5000U);
  EXPECT_EQ(histogram.count(LatencyHistogram::bucket_of(100)), 2U);
  EXPECT_EQ(histogram.count(LatencyHistogram::bucket_of(5000)), 1U);
  histogram.reset();
  EXPECT_EQ(histogram.sum() + histogram.max() + histogram.count(LatencyHistogram::bucket_of(100)), 0U);
}

TEST(LatencyStats, PercentilesAreBoundsOfBucketsAndNeverAboveTheLongest) {
  const LatencyStats stats{"read", 100, 0, 950, {{128, 50}, {256, 49}, {1024, 1}}};
  EXPECT_EQ(stats.percentile_ns(0.5), 128U);
  EXPECT_EQ(stats.percentile_ns(0.51), 256U);
  EXPECT_EQ(stats.percentile_ns(0.99), 256U);
  EXPECT_EQ(stats.percentile_ns(0.999), 950U);
  EXPECT_EQ(stats.percentile_ns(1), 950U);
  EXPECT_EQ(LatencyStats().percentile_ns(0.99), 0U);
}

}  // namespace
}  // namespace pcache
