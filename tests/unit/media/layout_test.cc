#include "media/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <vector>

#include "base/units.h"

namespace pcache {
namespace {

constexpr std::uint64_t kMaxSlots = 0xfffffffe;  // the highest 32-bit number means "none"

void check(const Geometry& g, std::uint64_t size, std::uint64_t segment_size) {
  SCOPED_TRACE(testing::Message() << size << " bytes, segments of " << segment_size);
  EXPECT_EQ(g.size_bytes, size);
  EXPECT_EQ(g.segment_size, segment_size);
  EXPECT_GE(g.segment_count, kMinSegments);
  EXPECT_LE(g.slot_count(), kMaxSlots);

  EXPECT_LE(g.segment_count, g.segment_limit);
  EXPECT_LE(g.segment_limit * std::uint64_t{g.slots_per_segment}, kMaxSlots);
  const std::uint64_t table = std::uint64_t{g.segment_limit} * kRecordSize;
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> areas = {
      {0, 2 * kMediaPage},
      {g.device_records, kMaxDevices * kMediaPage},
      {g.device_records_copy, kMaxDevices * kMediaPage},
      {g.device_states, kMaxDevices * kRecordSize},
      {g.device_states_copy, kMaxDevices * kRecordSize},
      {g.segment_table, table},
      {g.segment_table_copy, table},
      {g.first_segment, g.segment_count * segment_size},
  };
  std::uint64_t end = 0;
  for (const auto& [offset, length] : areas) {
    EXPECT_EQ(offset % kMediaPage, 0U);
    EXPECT_GE(offset, end) << "areas overlap";
    end = offset + length;
  }
  EXPECT_LE(end, size) << "the last segment reaches beyond the device";
  EXPECT_EQ(g.first_segment % kSegmentAlign, 0U);

  // Inside a segment: records, then cells, up to its end.
  EXPECT_GE(g.slots_per_segment, 1U);
  EXPECT_EQ(g.cells_offset % kMediaPage, 0U);
  EXPECT_GE(g.cells_offset, g.slots_per_segment * kRecordSize);
  EXPECT_EQ(g.cells_offset + g.slots_per_segment * kCellSize, segment_size);
  const std::uint64_t more = g.slots_per_segment + 1;
  EXPECT_GT(align_up(more * kRecordSize, kMediaPage) + more * kCellSize, segment_size) << "one more slot would fit";

  const std::uint32_t last = g.segment_count - 1;
  const std::uint32_t last_slot = g.slots_per_segment - 1;
  EXPECT_EQ(g.cell_offset(last, last_slot) + kCellSize, g.first_segment + g.segment_count * segment_size);
  EXPECT_LE(g.record_offset(last, last_slot) + kRecordSize, g.cell_offset(last, 0));
}

TEST(Geometry, HoldsForAllSizes) {
  std::mt19937_64 random(1);
  for (std::uint64_t segment = kMinSegmentSize; segment <= kMaxSegmentSize; segment *= 2) {
    std::vector<std::uint64_t> sizes = {kMiB, 4 * kMiB, 1024 * kMiB, 1024 * kGiB, 32 * 1024 * kGiB};
    for (std::uint64_t i = 0; i < 40; ++i) {
      sizes.push_back((kMinSegments + i) * segment + kSegmentAlign - kMiB + i * 31 * kKiB);
      sizes.push_back(random() % (std::uint64_t{1} << (24 + i / 2)) + 1);
    }
    for (const std::uint64_t size : sizes) {
      const auto g = compute_geometry(size, segment);
      if (g) {
        check(*g, size, segment);
      } else {
        EXPECT_LT(size, 2 * kMiB + kSegmentAlign + kMinSegments * segment) << "refused although there is room";
      }
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Geometry, WastesLessThanASegmentAndTheTables) {
  for (const std::uint64_t size : {64 * kMiB, kGiB, 100 * kGiB, 1024 * kGiB}) {
    const auto g = compute_geometry(size, default_segment_size(size));
    ASSERT_TRUE(g);
    const std::uint64_t used = g->first_segment + g->segment_count * g->segment_size;
    EXPECT_LT(size - used, g->segment_size) << size;
    EXPECT_LE(g->first_segment,
              align_up(kMiB + 2 * (kTableRoom * g->segment_count * kRecordSize + kMediaPage), kSegmentAlign));
  }
}

TEST(Geometry, HasRoomToGrowAndLeavesEverythingInItsPlace) {
  for (const std::uint64_t size : {64 * kMiB, kGiB, 100 * kGiB, 1024 * kGiB}) {
    const auto g = compute_geometry(size, default_segment_size(size));
    ASSERT_TRUE(g);
    EXPECT_GE(g->segment_limit, kTableRoom * g->segment_count) << size;
    const auto larger = geometry_with(3 * size, g->segment_size, g->first_segment);
    ASSERT_TRUE(larger) << size;
    check(*larger, 3 * size, g->segment_size);
    EXPECT_EQ(larger->first_segment, g->first_segment);
    EXPECT_EQ(larger->segment_table_copy, g->segment_table_copy);
    EXPECT_EQ(larger->segment_limit, g->segment_limit);
    EXPECT_EQ(larger->segment_count, (3 * size - g->first_segment) / g->segment_size);
    const auto smaller = geometry_with(size / 2, g->segment_size, g->first_segment);
    ASSERT_TRUE(smaller) << size;
    check(*smaller, size / 2, g->segment_size);
    EXPECT_EQ(smaller->segment_table_copy, g->segment_table_copy);
  }
  const auto most = compute_geometry(64 * kMiB, kMiB);
  const auto beyond = geometry_with(100 * 1024 * kGiB, kMiB, most->first_segment);
  ASSERT_TRUE(beyond);
  EXPECT_EQ(beyond->segment_count, beyond->segment_limit) << "no more than the table has room for";
}

TEST(Geometry, RefusesAFirstSegmentThatIsInNoPlaceForOne) {
  for (const std::uint64_t first :
       {std::uint64_t{0}, kMiB, 3 * kMiB, 64 * kMiB, 66 * kMiB, ~std::uint64_t{0} - 2 * kMiB + 1}) {
    EXPECT_FALSE(geometry_with(64 * kMiB, kMiB, first)) << first;
  }
}

TEST(Geometry, RefusesSegmentSizes) {
  for (const std::uint64_t segment :
       {std::uint64_t{0}, std::uint64_t{1}, kMinSegmentSize / 2, 3 * kMiB, kMaxSegmentSize * 2, kMiB + 1}) {
    EXPECT_FALSE(compute_geometry(100 * kGiB, segment)) << segment;
  }
}

TEST(Geometry, RefusesWhatIsTooSmall) {
  EXPECT_FALSE(compute_geometry(0, kMinSegmentSize));
  EXPECT_FALSE(compute_geometry(kSegmentAlign + kMinSegments * kMinSegmentSize - 1, kMinSegmentSize));
  EXPECT_TRUE(compute_geometry(kSegmentAlign + kMinSegments * kMinSegmentSize, kMinSegmentSize));
}

TEST(Geometry, SlotNumbersFit) {
  const auto g = compute_geometry(std::uint64_t{1} << 50, kMaxSegmentSize);
  ASSERT_TRUE(g);
  EXPECT_LE(g->slot_count(), kMaxSlots);
  EXPECT_GT(g->slot_count() + g->slots_per_segment, kMaxSlots);
}

TEST(DefaultSegmentSize, IsAllowedAndLeavesEnoughSegments) {
  for (std::uint64_t size = 20 * kMiB; size < (std::uint64_t{1} << 46); size += size / 3) {
    const std::uint64_t segment = default_segment_size(size);
    EXPECT_GE(segment, kMinSegmentSize) << size;
    EXPECT_LE(segment, 16 * kMiB) << size;
    const auto g = compute_geometry(size, segment);
    ASSERT_TRUE(g) << size;
    if (size >= 64 * kMiB) {
      EXPECT_GE(g->segment_count, 60U) << size;
    }
  }
  EXPECT_EQ(default_segment_size(64 * kMiB), kMiB);
  EXPECT_EQ(default_segment_size(kGiB), 4 * kMiB);
  EXPECT_EQ(default_segment_size(1024 * kGiB), 16 * kMiB);
  EXPECT_EQ(default_segment_size(1), kMinSegmentSize);
}

}  // namespace
}  // namespace pcache
