// What a logical device says of what it did, and how long that took.

#include <gtest/gtest.h>

#include "cache/op_timer.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

LatencyStats latency(const LogicDevActivity& activity, const std::string& name) {
  for (const LatencyStats& latency : activity.latencies) {
    if (latency.name == name) return latency;
  }
  ADD_FAILURE() << "there is no latency called " << name;
  return {};
}

TEST(Activity, OneInSixteenOperationsIsMeasuredWithItsPhases) {
  EngineRig rig{RigShape()};
  for (int i = 0; i < 32; ++i) ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  LogicDevActivity activity = rig.device().activity();
  EXPECT_EQ(activity.stats.writes, 32U);
  EXPECT_EQ(latency(activity, "write").count, 2U);
  EXPECT_EQ(latency(activity, "read").count, 0U);
  EXPECT_EQ(latency(activity, "pmem").count, 2U);
  EXPECT_EQ(latency(activity, "index").count, 2U);
  EXPECT_LE(latency(activity, "pmem").sum_ns + latency(activity, "index").sum_ns, latency(activity, "write").sum_ns);
  for (int i = 0; i < 32; ++i) read_blocks(rig, 0, 1);
  activity = rig.device().activity();
  EXPECT_EQ(latency(activity, "read").count, 2U);
  EXPECT_EQ(latency(activity, "pmem").count, 4U);
  EXPECT_GE(latency(activity, "write").max_ns, latency(activity, "write").percentile_ns(0.5));
}

TEST(Activity, WhatTheBackingTakesIsAlwaysMeasured) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  read_blocks(rig, 0, 1);
  ASSERT_EQ(write_blocks(rig, 10, 1, 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  const LogicDevActivity activity = rig.device().activity();
  EXPECT_EQ(latency(activity, "backing_read").count, 1U);
  EXPECT_EQ(latency(activity, "backing_write").count, 1U);
  EXPECT_EQ(latency(activity, "backing_flush").count, 1U);
}

TEST(Activity, WhatGoesToTheBackingDirectlyIsMeasuredThereToo) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_TRUE(rig.device().begin_switch({Mode::writearound, false}).ok());
  const LogicDevActivity before = rig.device().activity();
  ASSERT_EQ(rig.write(10 * kBlockSize + 100, filled(kBlockSize, 7)), 0);  // part of a sector, whole ones, and a part
  ASSERT_EQ(rig.flush(), 0);
  const LogicDevActivity after = rig.device().activity();
  const auto more = [&](const char* phase) { return latency(after, phase).count - latency(before, phase).count; };
  EXPECT_EQ(more("backing_read"), 2U);
  EXPECT_EQ(more("backing_write"), 3U);
  EXPECT_EQ(more("backing_flush"), 1U);
}

// The end of a measured operation comes from another place than its beginning.
TEST(Activity, AMissIsMeasuredUntilItsEnd) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  rig.backing().hold(true);
  std::vector<Outcome> outcomes(16);
  std::vector<Bytes> buffers(16, Bytes(kBlockSize));
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    rig.device().read(i * 300 * kBlockSize % (rig.device().size_bytes() - kBlockSize) / kBlockSize * kBlockSize,
                      buffers[i], outcomes[i].completion());
  }
  EXPECT_EQ(latency(rig.device().activity(), "read").count, 0U);
  rig.backing().hold(false);
  rig.backing().release_all();
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.done && outcome.error == 0);
  EXPECT_EQ(latency(rig.device().activity(), "read").count, 1U);
}

TEST(Activity, AWriteThatWaitsForSpaceIsMeasured) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, room_for_blocks(rig), 1), 0);
  ASSERT_EQ(write_blocks(rig, 0, slots_per_segment(rig), 2), 0);
  const LogicDevActivity activity = rig.device().activity();
  EXPECT_EQ(latency(activity, "space").count, activity.stats.space_waits);
  EXPECT_GE(latency(activity, "space").count, 1U);
}

TEST(Activity, ResettingItBeginsAnewAndLeavesStatusAlone) {
  EngineRig rig{RigShape()};
  for (int i = 0; i < 16; ++i) ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  rig.device().reset_activity();
  EXPECT_EQ(rig.device().activity().stats.writes, 0U);
  EXPECT_EQ(latency(rig.device().activity(), "write").count, 0U);
  EXPECT_EQ(rig.device().activity().stats.dirty_bytes, kBlockSize) << "that is no counter";
  EXPECT_EQ(rig.device().stats().writes, 16U);
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  EXPECT_EQ(rig.device().activity().stats.writes, 1U);
  EXPECT_EQ(rig.device().stats().writes, 17U);
}

}  // namespace
}  // namespace pcache
