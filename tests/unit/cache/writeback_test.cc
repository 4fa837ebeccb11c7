// What reaches the backing, in which order, and what becomes of data that cannot get there.

#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <utility>

#include "tests/support/stored.h"

namespace pcache {
namespace {

std::uint64_t clean_epoch(EngineRig& rig) { return rig.device().stats().clean_epoch; }

class WritebackOrder : public testing::TestWithParam<RigShape> {};

// Overwrites inside epochs and across them, discards, and parts of blocks; the backing goes from one flush boundary to
// the next and is nothing else at any of its flushes.
TEST_P(WritebackOrder, EachBackingFlushFindsTheStateOfTheNextFlushBoundary) {
  EngineRig rig(GetParam());
  Bytes content = fill_backing(rig, 1);
  std::vector<Bytes> boundaries;
  rig.on_epoch_closed = [&] { boundaries.push_back(content); };
  std::mt19937_64 random(1);
  constexpr std::uint64_t kBlocks = 2048;  // of which the writes take some, to overwrite each other
  for (std::uint64_t epoch = 0; epoch < 8; ++epoch) {
    for (std::uint64_t i = 0; i < 30; ++i) {
      const std::uint64_t block = random() % 40 * (kBlocks / 40) % (content.size() / kBlockSize - 8);
      const std::uint64_t offset = block * kBlockSize + (i % 5 == 0 ? random() % kBlockSize : 0);
      if (i % 7 == 6) {
        ASSERT_EQ(rig.discard(offset, 3 * kBlockSize), 0);
        put(content, offset, Bytes(3 * kBlockSize));
      } else {
        const Bytes bytes =
            i % 5 == 0 ? filled(1000, static_cast<int>(i)) : blocks_of(block, 1 + i % 4, 100 * epoch + i);
        ASSERT_EQ(rig.write(offset, bytes), 0);
        put(content, offset, bytes);
      }
    }
    ASSERT_EQ(rig.flush(), 0);
  }

  std::size_t flushed = 0;
  rig.backing().on_write = [&](std::uint64_t, std::uint64_t length) {
    if (length != 0) return;
    ASSERT_LT(flushed, boundaries.size());
    EXPECT_TRUE(rig.backing_image().current == boundaries[flushed]) << "at flush " << flushed;
    ++flushed;
  };
  while (rig.device().writeback_step()) {
    ASSERT_GT(flushed, 0U);
    EXPECT_TRUE(rig.backing_image().durable == boundaries[flushed - 1]);
    EXPECT_EQ(clean_epoch(rig), flushed);
  }
  EXPECT_EQ(flushed, 8U);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Shapes, WritebackOrder,
                         testing::Values(RigShape(),
                                         RigShape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}},
                                         RigShape{12 * kMiB, 256 * kKiB, 6 * kMiB, Granularity::page, {}}),
                         [](const auto& shape) { return shape.param.name(); });

TEST(Writeback, AnEpochsOwnValueIsWrittenAndNotANewerOne) {
  EngineRig rig{RigShape()};
  for (std::uint64_t version = 1; version <= 3; ++version) {
    ASSERT_EQ(write_blocks(rig, 0, 2, version), 0);
    if (version == 3) break;  // is in the open epoch, and nobody's to write back
    ASSERT_TRUE(rig.commit().ok());
  }
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 2), blocks_of(0, 2, 1));
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 2), blocks_of(0, 2, 2));
  EXPECT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 2), blocks_of(0, 2, 2));
  EXPECT_EQ(rig.device().dirty_bytes(), 2 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 3));
}

TEST(Writeback, OverwritesInsideOneEpochAreOneBackingWrite) {
  EngineRig rig{RigShape()};
  for (std::uint64_t version = 1; version <= 5; ++version) ASSERT_EQ(write_blocks(rig, 7, 1, version), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(rig.backing().counts().writes, 1U);
  EXPECT_EQ(rig.backing().counts().written_bytes, kBlockSize);
  EXPECT_EQ(rig.backing().counts().flushes, 1U);
  EXPECT_EQ(backing_blocks(rig, 7, 1), blocks_of(7, 1, 5));
}

TEST(Writeback, NeighboursAreOneBackingWriteInWhateverOrderTheyCame) {
  EngineRig rig{RigShape()};
  for (std::uint64_t i = 0; i < 16; ++i) ASSERT_EQ(write_blocks(rig, 20 + i * 5 % 16, 1, 1), 0);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(write_blocks(rig, 42 - i, 1, 1), 0);
  ASSERT_TRUE(rig.commit().ok());
  std::vector<std::pair<std::uint64_t, std::uint64_t>> written;
  rig.backing().on_write = [&](std::uint64_t offset, std::uint64_t length) {
    if (length != 0) written.push_back({offset / kBlockSize, length / kBlockSize});
  };
  ASSERT_TRUE(rig.device().writeback_step());
  std::sort(written.begin(), written.end());
  EXPECT_EQ(written, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{20, 16}, {40, 3}}));
  EXPECT_EQ(backing_blocks(rig, 20, 16), blocks_of(20, 16, 1));
  EXPECT_EQ(backing_blocks(rig, 40, 3), blocks_of(40, 3, 1));
}

TEST(Writeback, NothingIsWrittenBeyondADeviceThatEndsInsideABlock) {
  RigShape shape;
  shape.device_bytes = kMiB + kSectorSize;
  EngineRig rig(shape);
  Bytes bytes = blocks_of(255, 2, 1);
  bytes.resize(kBlockSize + kSectorSize);
  ASSERT_EQ(rig.write(255 * kBlockSize, bytes), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.backing().counts().written_bytes, kBlockSize + kSectorSize);
  EXPECT_EQ(part(rig.backing_image().durable, 255 * kBlockSize, bytes.size()), bytes);
}

TEST(Writeback, AnEpochThatIsNotDurableYetIsNotWrittenBack) {
  RigShape shape;
  shape.granularity = Granularity::page;
  EngineRig rig(shape);
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  rig.device().close_epoch();
  EXPECT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(rig.backing().counts().writes, 0U);
  ASSERT_EQ(rig.flush(), 0);
  EXPECT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(backing_blocks(rig, 0, 1), blocks_of(0, 1, 1));
}

TEST(Writeback, WhatFailsMovesNoTailLeavesTheDataDirtyAndIsDoneAgainByTheNextStep) {
  const FakeBackingDev::Failures kinds[] = {{.flushes = 1}, {.writes = 1}, {.zeroes = 1}};
  for (const auto& failures : kinds) {
    SCOPED_TRACE(failures.flushes != 0 ? "flush" : failures.writes != 0 ? "write" : "zeroes");
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    const Bytes durable = rig.backing_image().durable;
    ASSERT_EQ(write_blocks(rig, 0, 3, 2), 0);
    ASSERT_EQ(write_blocks(rig, 10, 3, 2), 0);
    ASSERT_EQ(rig.discard(20 * kBlockSize, 2 * kBlockSize), 0);
    ASSERT_TRUE(rig.commit().ok());
    ASSERT_EQ(write_blocks(rig, 0, 1, 3), 0);
    ASSERT_TRUE(rig.commit().ok());

    rig.backing().fail(failures);
    EXPECT_FALSE(rig.device().writeback_step());
    EXPECT_EQ(clean_epoch(rig), 0U);
    EXPECT_EQ(rig.cache().cache_dev().clean_epoch(rig.device().place()).value(), 0U);
    EXPECT_EQ(rig.device().dirty_bytes(), 6 * kBlockSize);
    EXPECT_EQ(rig.device().stats().writeback_errors, 1U);
    EXPECT_TRUE(rig.backing_image().durable == durable);

    EXPECT_TRUE(rig.device().writeback_step());
    EXPECT_EQ(clean_epoch(rig), 1U);
    EXPECT_EQ(rig.cache().cache_dev().clean_epoch(rig.device().place()).value(), 1U);
    EXPECT_EQ(rig.device().dirty_bytes(), kBlockSize);
    EXPECT_FALSE(rig.device().backing_failing());
    const Bytes& now = rig.backing_image().durable;
    EXPECT_EQ(part(now, 0, 3 * kBlockSize), blocks_of(0, 3, 2));
    EXPECT_EQ(part(now, 10 * kBlockSize, 3 * kBlockSize), blocks_of(10, 3, 2));
    EXPECT_EQ(part(now, 20 * kBlockSize, 2 * kBlockSize), Bytes(2 * kBlockSize));
    EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 3));
  }
}

// A device may drop what it could not flush and report success the next time.
TEST(Writeback, AfterAFailedFlushTheWholeEpochIsWrittenAgain) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 8, 1), 0);
  ASSERT_TRUE(rig.commit().ok());
  rig.backing().fail({.flushes = 1});
  ASSERT_FALSE(rig.device().writeback_step());
  rig.backing_image().power_cut();
  ASSERT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(part(rig.backing_image().durable, 0, 8 * kBlockSize), blocks_of(0, 8, 1));
}

TEST(Writeback, AfterAFailedFlushARestartStillHasTheDataDirty) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 8, 1), 0);
  ASSERT_TRUE(rig.commit().ok());
  rig.backing().fail({.flushes = 1});
  ASSERT_FALSE(rig.device().writeback_step());
  rig.power_cut();
  EXPECT_EQ(rig.device().dirty_bytes(), 8 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().durable, 0, 8 * kBlockSize), blocks_of(0, 8, 1));
}

TEST(Writeback, DrainReportsABackingThatFailsAndSucceedsOnceItWorks) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 1, 1), 0);
  rig.backing().fail({.flushes = 1});
  EXPECT_EQ(rig.drain(), EIO);
  EXPECT_EQ(rig.device().dirty_bytes(), kBlockSize);
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
}

// The dirty tail is behind: epochs that the backing has are written again, over what it holds by then.
TEST(Writeback, ACrashBetweenTheBackingsFlushAndTheDirtyTailReplaysHarmlessly) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  ASSERT_EQ(rig.discard(10 * kBlockSize, kBlockSize), 0);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 10, 1, 2), 0);
  ASSERT_TRUE(rig.commit().ok());
  Bytes first = blocks_of(0, 3, 1);
  Bytes second = first;
  put(second, kBlockSize, blocks_of(1, 1, 2));

  for (std::uint64_t epoch = 1; epoch <= 2; ++epoch) {
    const Bytes& expected = epoch == 1 ? first : second;
    rig.space().cut_after(0);
    ASSERT_TRUE(rig.device().writeback_step());
    ASSERT_TRUE(rig.space().was_cut());
    ASSERT_EQ(part(rig.backing_image().durable, 0, 3 * kBlockSize), expected);
    rig.power_cut();
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(clean_epoch(rig), epoch - 1);
    EXPECT_EQ(read_blocks(rig, 0, 3), second);
    EXPECT_EQ(read_blocks(rig, 10, 1), blocks_of(10, 1, 2));
    ASSERT_TRUE(rig.device().writeback_step());
    EXPECT_EQ(part(rig.backing_image().durable, 0, 3 * kBlockSize), expected);
    EXPECT_EQ(clean_epoch(rig), epoch);
  }
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  rig.reopen();
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  EXPECT_EQ(read_blocks(rig, 0, 3), second);
}

// --- Dirty blocks that cannot be read

struct LostBlock : testing::Test {
  // Block 1 of four is dirty and damaged, and the epoch written back. The backing had version 1 of all.
  void SetUp() override {
    fill_backing(rig, 1);
    ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
    damage(rig, stored(rig, 1).cell_offset + 99);
    ASSERT_TRUE(rig.commit().ok());
    ASSERT_TRUE(rig.device().writeback_step());
  }

  EngineRig rig{RigShape()};
};

TEST_F(LostBlock, IsLostAtWritebackWhileItsNeighboursReachTheBacking) {
  EXPECT_EQ(backing_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(backing_blocks(rig, 1, 1), blocks_of(1, 1, 1)) << "nothing unverified is written";
  EXPECT_EQ(backing_blocks(rig, 2, 2), blocks_of(2, 2, 2));
  EXPECT_EQ(rig.device().stats().lost_bytes, kBlockSize);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
  EXPECT_EQ(rig.write(kBlockSize + 5, filled(10, 9)), EIO) << "its rest is gone";
  EXPECT_EQ(rig.drain(), EIO);
}

TEST_F(LostBlock, StaysLostOverRestarts) {
  rig.reopen();
  EXPECT_EQ(read_error(rig, 1), EIO);
  rig.kill();
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
  EXPECT_FALSE(rig.device().failed());
  EXPECT_EQ(rig.drain(), EIO);
  EXPECT_EQ(read_error(rig, 1), EIO);
}

TEST_F(LostBlock, IsStillReportedAfterARestart) {
  rig.reopen();
  ASSERT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(rig.device().stats().lost_bytes, kBlockSize);
}

TEST_F(LostBlock, IsCuredByRewritingIt) {
  ASSERT_EQ(write_blocks(rig, 1, 1, 3), 0);
  EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 3));
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 3));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 1, 1), blocks_of(1, 1, 3));
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 3));
}

TEST_F(LostBlock, IsCuredByDiscardingIt) {
  ASSERT_EQ(rig.discard(kBlockSize, kBlockSize), 0);
  EXPECT_EQ(read_blocks(rig, 1, 1), Bytes(kBlockSize));
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 1, 1), Bytes(kBlockSize));
  ASSERT_EQ(rig.drain(), 0);
  rig.reopen();
  EXPECT_EQ(read_blocks(rig, 1, 1), Bytes(kBlockSize));
}

TEST(Writeback, ADamagedBlockThatWasOverwrittenSinceIsNotLost) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 2, 1), 0);
  damage(rig, stored(rig, 0).cell_offset);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(rig.device().stats().lost_bytes, 0U);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(backing_blocks(rig, 0, 1), blocks_of(0, 1, 2));
  EXPECT_EQ(backing_blocks(rig, 1, 1), blocks_of(1, 1, 1));
}

TEST(Writeback, ACrashAfterABlockWasMarkedLostAndBeforeTheDirtyTailKeepsItLost) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 3, 2), 0);
  damage(rig, stored(rig, 1).cell_offset);
  ASSERT_TRUE(rig.commit().ok());
  rig.backing().fail({.flushes = 1});
  ASSERT_FALSE(rig.device().writeback_step());
  rig.power_cut();
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 2, 1), blocks_of(2, 1, 2));
  ASSERT_EQ(rig.drain(), EIO);
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(backing_blocks(rig, 1, 1), blocks_of(1, 1, 1));
  EXPECT_EQ(backing_blocks(rig, 2, 1), blocks_of(2, 1, 2));
}

// The backing has an old value of it, and only the record says that this is not what was written.
TEST(Writeback, ABlockThatWasMarkedLostBeforeTheDirtyTailMovedIsLostAfterAPowerCut) {
  RigShape shape;
  shape.granularity = Granularity::page;
  EngineRig rig{shape};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 3, 2), 0);
  damage(rig, stored(rig, 1).cell_offset);
  ASSERT_TRUE(rig.commit().ok());
  ASSERT_TRUE(rig.device().writeback_step());
  rig.power_cut([](std::size_t) { return false; });
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(read_blocks(rig, 2, 1), blocks_of(2, 1, 2));
  EXPECT_EQ(rig.device().stats().lost_bytes, kBlockSize);
}

// Or nothing could be written back any more, and no space would ever become free.
TEST(Writeback, ABlockCanBeMarkedLostWhenTheCacheIsFull) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = room_for_blocks(rig);
  ASSERT_EQ(write_blocks(rig, 0, slots, 1), 0);
  ASSERT_EQ(rig.cache().pool().free_count(), rig.cache().reserve());
  damage(rig, stored(rig, 1).cell_offset);
  ASSERT_TRUE(rig.commit().ok());
  EXPECT_TRUE(rig.device().writeback_step());
  EXPECT_EQ(read_error(rig, 1), EIO);
  EXPECT_EQ(backing_blocks(rig, 2, slots - 2), blocks_of(2, slots - 2, 1));
}

}  // namespace
}  // namespace pcache
