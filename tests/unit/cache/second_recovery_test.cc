// What one recovery left out, a later one must not find; and what was never committed is never found.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/stored.h"

namespace pcache {
namespace {

RigShape on_page_media() {
  RigShape shape;
  shape.granularity = Granularity::page;
  return shape;
}

// Keeps the pages of records and loses those of cells that were not synced.
bool holds_no_cells(const Geometry& g, std::size_t page) {
  const std::uint64_t offset = page * kBlockSize;
  return offset < g.first_segment || (offset - g.first_segment) % g.segment_size < g.cells_offset;
}

TEST(SecondRecovery, RecordsThatDidNotCountDoNotComeBack) {
  EngineRig rig(on_page_media());
  const Geometry g = rig.cache().cache_dev().geometry();
  ASSERT_EQ(write_blocks(rig, 0, 8, 1), 0);
  ASSERT_EQ(rig.flush(), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);  // not flushed
  rig.power_cut([&](std::size_t page) { return holds_no_cells(g, page); });
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));
  ASSERT_EQ(write_blocks(rig, 3, 1, 3), 0);
  ASSERT_EQ(rig.flush(), 0);
  for (const bool in_order : {true, false}) {
    SCOPED_TRACE(in_order ? "closed in order" : "killed");
    in_order ? rig.reopen() : rig.kill();
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, 1));
    EXPECT_EQ(read_blocks(rig, 3, 1), blocks_of(3, 1, 3));
    EXPECT_EQ(read_blocks(rig, 4, 4), blocks_of(4, 4, 1));
  }
}

TEST(SecondRecovery, ACacheThatWasOnlyLookedIntoIsNotClosedInOrder) {
  EngineRig rig(on_page_media());
  const Geometry g = rig.cache().cache_dev().geometry();
  ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
  ASSERT_EQ(rig.flush(), 0);
  ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
  ASSERT_EQ(write_blocks(rig, 8, 4, 2), 0);
  rig.power_cut([&](std::size_t page) { return holds_no_cells(g, page); });
  {
    // As a mount does that is refused after the cache device was opened.
    auto copy = MemorySpace::copy_image(rig.cache_image());
    auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(copy, Granularity::page));
    ASSERT_TRUE(cache_dev.ok());
    ASSERT_TRUE(Cache::open(std::move(*cache_dev), CacheOptions()).ok());
    auto again = CacheDev::open(std::make_unique<MemorySpace>(copy, Granularity::page), CacheDev::Access::inspect);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ((*again)->closed((*again)->devices().front().place), std::nullopt);
  }
}

TEST(SecondRecovery, RecordsOfAWriteThatFailedAreNotFound) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  const Geometry& g = rig.cache().cache_dev().geometry();
  rig.space().fail_writes(g.record_offset(stored(rig, 0).segment, 5), kRecordSize);
  EXPECT_EQ(rig.write(kBlockSize, blocks_of(1, 4, 2)), EIO);
  rig.space().heal();
  ASSERT_EQ(write_blocks(rig, 2, 1, 3), 0);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 1));
  EXPECT_EQ(read_blocks(rig, 2, 1), blocks_of(2, 1, 3));
  EXPECT_EQ(read_blocks(rig, 3, 1), Bytes(kBlockSize)) << "the backing's";
}

TEST(SecondRecovery, ASegmentTableThatContradictsItselfFailsTheDevice) {
  EngineRig rig{RigShape()};
  const Geometry g = rig.cache().cache_dev().geometry();
  ASSERT_EQ(write_blocks(rig, 0, slots_per_segment(rig) + 8, 1), 0);
  const std::uint32_t tag = rig.cache().cache_dev().tag();
  auto segments = rig.cache().pool().in_use();
  ASSERT_EQ(segments.size(), 2U);
  rig.close();
  for (auto& [id, entry] : segments) {
    if (entry.chain == 0) continue;
    entry.first_lsn = std::uint64_t{1} << 30;
    entry.header.sequence += 10;
    seal(entry, tag, id);
    std::memcpy(&rig.cache_image()[g.segment_table + id * kRecordSize], &entry, sizeof entry);
    std::memcpy(&rig.cache_image()[g.segment_table_copy + id * kRecordSize], &entry, sizeof entry);
  }
  rig.open();
  EXPECT_TRUE(rig.device().failed());
  EXPECT_EQ(read_error(rig, 0), EIO);
}

TEST(Drain, FailsWhereADirtyBlockIsLost) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  damage(rig, stored(rig, 1).cell_offset);
  EXPECT_EQ(rig.drain(), EIO);
  EXPECT_EQ(rig.device().stats().lost_bytes, kBlockSize);
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  EXPECT_EQ(rig.drain(), 0);
}

TEST(Sharing, ADeadBackingDoesNotStopAnotherDevicesWrites) {
  auto image = MemorySpace::make_image(16 << 20);
  MemorySpace space(image);
  ASSERT_TRUE(CacheDev::format(space, {{9}, "shared", 256 << 10}).ok());
  auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
  ASSERT_TRUE(cache_dev.ok());
  auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
  ASSERT_TRUE(cache.ok());
  auto dead_backing =
      std::make_unique<FakeBackingDev>(std::make_shared<BackingImage>(32 << 20), "/fake/dead", "fake:1");
  FakeBackingDev* const dies = dead_backing.get();
  auto dead = (*cache)->add("dead", std::move(dead_backing));
  auto healthy = (*cache)->add(
      "healthy", std::make_unique<FakeBackingDev>(std::make_shared<BackingImage>(32 << 20), "/fake/healthy", "fake:2"));
  ASSERT_TRUE(dead.ok() && healthy.ok());
  dies->fail({1 << 30, 1 << 30, 1 << 30, 1 << 30, EIO});

  const auto step = [&] {
    for (auto* device : {&**dead, &**healthy}) {
      (void)(*cache)->commit({device});
      device->writeback_step();
    }
    (*cache)->reclaim_step();
  };
  const auto write = [&](CachedDevice& device, std::uint64_t block) {
    const Bytes bytes = blocks_of(block, 1, 1);
    Outcome outcome;
    device.write(block * kBlockSize, bytes, outcome.completion());
    for (int i = 0; i < 20 && !outcome.done; ++i) step();
    EXPECT_TRUE(outcome.done) << "block " << block << " waits for ever";
    return outcome.error;
  };
  std::uint64_t block = 0;
  while (block < 6000 && write(**dead, block) == 0) ++block;
  ASSERT_LT(block, 6000U) << "the dead device never fills the cache";
  for (block = 0; block < 1000 && !testing::Test::HasFailure(); ++block) ASSERT_EQ(write(**healthy, block), 0);
}

}  // namespace
}  // namespace pcache
