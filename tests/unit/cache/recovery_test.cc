// What opening a cache device makes of what a crash left.

#include <gtest/gtest.h>

#include <vector>

#include "base/units.h"
#include "tests/support/engine_rig.h"

namespace pcache {
namespace {

std::vector<std::byte> filled(std::size_t bytes, int value) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(value));
}

// The page cache survives the process. What a new process found there it takes as given, so it has to be on the medium
// before newer epochs can be: or else a power cut leaves a log with a hole that no crash explains.
TEST(Recovery, MakesDurableWhatAKilledProcessLeftInThePageCache) {
  RigShape shape;
  shape.granularity = Granularity::page;
  EngineRig rig(shape);
  const std::uint32_t slots = rig.cache().cache_dev().geometry().slots_per_segment;
  ASSERT_EQ(rig.write(0, filled(2 * slots * kBlockSize, 1)), 0);  // epoch 1: two segments
  const std::uint64_t first_segment = rig.cache().pool().in_use().front().id;
  rig.kill();
  ASSERT_EQ(rig.write(0, filled(kBlockSize, 2)), 0);  // epoch 2, being flushed when the power goes
  rig.device().close_epoch();
  ASSERT_EQ(rig.write(0, filled(kBlockSize, 3)), 0);  // epoch 3
  const Geometry g = rig.cache().cache_dev().geometry();
  rig.power_cut([&](std::size_t page) {
    const std::uint64_t offset = page * kBlockSize;
    return offset < g.segment_offset(first_segment) || offset >= g.segment_offset(first_segment) + g.segment_size;
  });
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  std::vector<std::byte> block(kBlockSize);
  ASSERT_EQ(rig.read(0, block), 0);
  EXPECT_EQ(block, filled(kBlockSize, 3));
}

}  // namespace
}  // namespace pcache
