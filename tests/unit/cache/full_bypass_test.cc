// Writes that go around a log that is full.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kFree = 1800;  // a block that fill() does not come to

class FullBypass : public testing::Test {
 protected:
  void start(WritebackOrder order, std::size_t device_bytes = 8 << 20) {
    RigShape shape;
    shape.own_clock = true;
    shape.device_bytes = device_bytes;
    shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(order));
    rig_ = std::make_unique<EngineRig>(shape);
    set_policy(FullPolicy::bypass);
    fill_backing(*rig_, 1);
  }
  void set_policy(FullPolicy policy) {
    Settings change;
    change.set(Setting::full_policy, static_cast<std::uint64_t>(policy));
    ASSERT_TRUE(rig_->device().configure(change).ok());
  }
  EngineRig& rig() { return *rig_; }
  std::uint64_t around() { return rig_->device().stats().bypassed_full_bytes; }

  // Every slot that writes may take is dirty. Returns how many there are.
  std::uint64_t fill(CachedDevice& device) {
    const std::uint64_t count = room_for_blocks(rig());
    EXPECT_LT(count, kFree - 16);
    for (std::uint64_t block = 0; block < count; ++block) {
      const Bytes bytes = blocks_of(block, 1, 2);
      Outcome outcome;
      device.write(block * kBlockSize, bytes, outcome.completion());
      EXPECT_TRUE(outcome.done && outcome.error == 0) << block;
    }
    return count;
  }
  std::uint64_t fill() { return fill(rig().device()); }

  struct Write {
    Bytes bytes;
    Outcome outcome;
  };
  Write& write(std::uint64_t offset, Bytes bytes) { return write(offset, std::move(bytes), rig().device()); }
  Write& write(std::uint64_t offset, Bytes bytes, CachedDevice& device) {
    writes_.push_back(std::make_unique<Write>(Write{std::move(bytes), {}}));
    device.write(offset, writes_.back()->bytes, writes_.back()->outcome.completion());
    return *writes_.back();
  }
  Write& write_block(std::uint64_t block, std::uint64_t version) {
    return write(block * kBlockSize, blocks_of(block, 1, version));
  }

 private:
  std::vector<std::unique_ptr<Write>> writes_;  // outlive the rig, which ends them
  std::unique_ptr<EngineRig> rig_;
};

TEST_F(FullBypass, AWriteThatFindsNoSpaceGoesAroundAndIsDurableWhenItIsAcknowledged) {
  start(WritebackOrder::none);
  const std::uint64_t count = fill();
  rig().backing().hold(true);
  Write& w = write_block(kFree, 3);
  EXPECT_FALSE(w.outcome.done);
  ASSERT_TRUE(rig().backing().release_one());
  EXPECT_FALSE(w.outcome.done) << "acknowledged before the backing's flush";
  ASSERT_TRUE(rig().backing().release_one());
  ASSERT_TRUE(w.outcome.done);
  rig().backing().hold(false);
  EXPECT_EQ(w.outcome.error, 0);
  EXPECT_EQ(around(), kBlockSize);
  EXPECT_EQ(rig().device().stats().bypassed_bytes, 0U);
  EXPECT_EQ(rig().device().dirty_bytes(), count * kBlockSize);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), w.bytes);
  rig().power_cut();
  EXPECT_EQ(read_blocks(rig(), kFree, 1), w.bytes);
  EXPECT_TRUE(read_blocks(rig(), 0, count) == blocks_of(0, count, 2));
  EXPECT_EQ(rig().drain(), 0);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), w.bytes);
  EXPECT_EQ(backing_blocks(rig(), kFree, 1), w.bytes);
}

// It has entered the gate, and leaves it when it ends.
TEST_F(FullBypass, AWriteToTheBackingThatWaitsForSpaceForItsRecordWaitsAsItIs) {
  start(WritebackOrder::none);
  ASSERT_TRUE(rig().switch_mode({Mode::writethrough, false}).ok());
  const std::uint64_t segment = slots_per_segment(rig());
  ASSERT_EQ(write_blocks(rig(), 0, segment + 1, 2), 0);  // with a second segment it takes none of the reserve
  auto other = rig().cache().add(
      "other", std::make_unique<FakeBackingDev>(std::make_shared<BackingImage>(16 << 20), "/fake/other", "fake:2"));
  ASSERT_TRUE(other.ok());
  Settings waits;
  waits.set(Setting::full_policy, static_cast<std::uint64_t>(FullPolicy::throttle));
  ASSERT_TRUE((*other)->configure(waits).ok());
  const Write* filled = nullptr;
  for (std::uint64_t block = 0; block < 4000 && (filled == nullptr || filled->outcome.done); ++block) {
    filled = &write(block * kBlockSize, blocks_of(block, 1, 2), **other);
  }
  ASSERT_FALSE(filled->outcome.done);
  // Copies take what room there is left.
  for (std::uint64_t block = segment + 1; block < 2 * segment; ++block) {
    ASSERT_EQ(write_blocks(rig(), block, 1, 2), 0);
  }
  const Write& w = write_block(0, 3);
  ASSERT_FALSE(w.outcome.done);
  ASSERT_TRUE(rig().cache().commit({other->get()}).ok());
  ASSERT_TRUE((*other)->writeback_step());
  while (rig().cache().reclaim_step()) {
  }
  ASSERT_TRUE(w.outcome.done) << "it waits for itself";
  EXPECT_EQ(w.outcome.error, 0);
  EXPECT_EQ(read_blocks(rig(), 0, 1), w.bytes);
  EXPECT_EQ(rig().device().direct_operations(), 0U);
  EXPECT_EQ(write_blocks(rig(), 0, 1, 2), 0);
}

TEST_F(FullBypass, PartsOfSectorsAndBlocksGoAroundToo) {
  start(WritebackOrder::none);
  fill();
  Bytes expected = read_blocks(rig(), kFree, 4);
  const Bytes bytes = filled(2 * kBlockSize, 0x77);
  ASSERT_EQ(write(kFree * kBlockSize + 700, bytes).outcome.error, 0);
  put(expected, 700, bytes);
  EXPECT_EQ(around(), 2 * kBlockSize);
  EXPECT_EQ(read_blocks(rig(), kFree, 4), expected);
  rig().power_cut();
  EXPECT_EQ(read_blocks(rig(), kFree, 4), expected);
}

// What is read is cached where there is room; a copy must not survive the write around it.
TEST_F(FullBypass, AReadThatIsUnderWayKeepsNothingOfTheOldBlock) {
  start(WritebackOrder::none);
  fill();
  rig().backing().hold(true);
  Bytes bytes(kBlockSize);
  Outcome read;
  rig().device().read(kFree * kBlockSize, bytes, read.completion());
  Write& w = write_block(kFree, 3);
  rig().backing().hold(false);
  rig().backing().release_all();
  ASSERT_TRUE(w.outcome.done && read.done);
  EXPECT_TRUE(bytes == blocks_of(kFree, 1, 1) || bytes == w.bytes);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), w.bytes);
}

TEST_F(FullBypass, AWriteOfABlockThatIsDirtyWaitsForItsWriteback) {
  for (const bool discarded : {false, true}) {
    start(WritebackOrder::none);
    if (discarded) {
      ASSERT_EQ(rig().discard(kFree * kBlockSize, kBlockSize), 0);
    } else {
      ASSERT_EQ(write_blocks(rig(), kFree, 1, 2), 0);
    }
    for (std::uint64_t block = 0; block < room_for_blocks(rig()) - 1; ++block) {
      ASSERT_EQ(write_blocks(rig(), block, 1, 2), 0);
    }
    Write& w = write_block(kFree, 3);
    EXPECT_FALSE(w.outcome.done);
    EXPECT_EQ(around(), 0U);
    ASSERT_TRUE(rig().commit().ok());
    ASSERT_TRUE(rig().device().writeback_step());
    EXPECT_EQ(backing_blocks(rig(), kFree, 1), discarded ? Bytes(kBlockSize) : blocks_of(kFree, 1, 2));
    while (rig().cache().reclaim_step()) {
    }
    ASSERT_TRUE(w.outcome.done);
    EXPECT_EQ(w.outcome.error, 0);
    EXPECT_EQ(rig().drain(), 0);
    EXPECT_EQ(read_blocks(rig(), kFree, 1), w.bytes);
    EXPECT_EQ(backing_blocks(rig(), kFree, 1), w.bytes);
  }
}

TEST_F(FullBypass, InTheOrderOfEpochsNothingOvertakesWhatIsDirty) {
  start(WritebackOrder::epoch);
  fill();
  Write& w = write_block(kFree, 3);
  EXPECT_FALSE(w.outcome.done);
  EXPECT_EQ(around(), 0U);
  EXPECT_EQ(backing_blocks(rig(), kFree, 1), blocks_of(kFree, 1, 1));
  ASSERT_TRUE(rig().commit().ok());
  ASSERT_TRUE(rig().device().writeback_step());
  while (rig().cache().reclaim_step()) {
  }
  EXPECT_TRUE(w.outcome.done);
}

TEST_F(FullBypass, ADeviceThatIsCleanGoesAroundWhatAnotherOneFilled) {
  start(WritebackOrder::epoch);
  const auto other = rig().cache().add(
      "other", std::make_unique<FakeBackingDev>(std::make_shared<BackingImage>(8 << 20), "/fake/other", "fake:2"));
  ASSERT_TRUE(other.ok());
  for (std::uint64_t block = 0;; ++block) {
    ASSERT_LT(block, kFree);
    const Bytes bytes = blocks_of(block, 1, 2);
    auto outcome = std::make_unique<Outcome>();
    (*other)->write(block * kBlockSize, bytes, outcome->completion());
    if (outcome->done) continue;
    (*other)->stop();
    ASSERT_EQ(outcome->error, EIO);
    break;
  }
  Write* w = nullptr;
  // Its own stream may take a segment of the reserve first.
  for (std::uint64_t block = kFree; around() == 0 && block < kFree + 2; ++block) {
    w = &write_block(block, 3);
    EXPECT_EQ(rig().drain(), 0);
  }
  ASSERT_NE(w, nullptr);
  EXPECT_TRUE(w->outcome.done);
}

TEST_F(FullBypass, TheLastBlockWhenItIsNotAWholeOneWaits) {
  start(WritebackOrder::none, (8 << 20) - 1024);
  fill();
  const std::uint64_t last = (8 << 20) / kBlockSize - 1;
  Write& w = write(last * kBlockSize, filled(512, 3));
  EXPECT_FALSE(w.outcome.done);
  EXPECT_EQ(around(), 0U);
}

TEST_F(FullBypass, WritesOfOneBlockTakeTurnsWhereverTheyGo) {
  start(WritebackOrder::none);
  fill();
  rig().backing().hold(true);
  Write& first = write_block(kFree, 3);
  Write& second = write_block(kFree, 4);
  EXPECT_EQ(rig().backing().held(), 1U) << "two writes of one block are under way";
  Write& third = write_block(kFree, 5);
  rig().backing().hold(false);
  rig().backing().release_all();
  ASSERT_TRUE(first.outcome.done && second.outcome.done && third.outcome.done);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), third.bytes);
  EXPECT_EQ(rig().drain(), 0);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), third.bytes);
  EXPECT_EQ(backing_blocks(rig(), kFree, 1), third.bytes);
}

TEST_F(FullBypass, AWriteForTheLogWaitsForOneAroundItOnTheSameBlock) {
  start(WritebackOrder::none);
  const std::uint64_t count = fill();
  ASSERT_TRUE(rig().commit().ok());
  rig().backing().hold(true);
  Write& first = write_block(kFree, 3);
  ASSERT_EQ(rig().backing().held(), 1U);
  rig().backing().hold(false);  // what comes from now on is not held
  ASSERT_TRUE(rig().device().writeback_step());
  while (rig().cache().reclaim_step()) {
  }
  Write& second = write_block(kFree, 4);
  EXPECT_FALSE(second.outcome.done) << "it is in the log, and the backing gets the older one after that";
  EXPECT_EQ(write_blocks(rig(), kFree + 1, 1, 4), 0) << "others go on";
  rig().backing().release_all();
  ASSERT_TRUE(first.outcome.done && second.outcome.done);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), second.bytes);
  EXPECT_EQ(rig().device().dirty_bytes(), 2 * kBlockSize);
  EXPECT_EQ(rig().drain(), 0);
  EXPECT_EQ(backing_blocks(rig(), kFree, 1), second.bytes);
  EXPECT_EQ(backing_blocks(rig(), 0, count), blocks_of(0, count, 2));
}

TEST_F(FullBypass, WhatTheBackingFailsIsNotAcknowledgedAndLeavesWhatWasThere) {
  start(WritebackOrder::none);
  fill();
  rig().backing().fail({.writes = 1});
  EXPECT_EQ(write_block(kFree, 3).outcome.error, EIO);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), blocks_of(kFree, 1, 1));
  rig().backing().fail({.flushes = 1});
  EXPECT_EQ(write_block(kFree, 4).outcome.error, EIO);
  EXPECT_EQ(write_block(kFree, 5).outcome.error, 0);
  EXPECT_EQ(read_blocks(rig(), kFree, 1), blocks_of(kFree, 1, 5));
}

TEST_F(FullBypass, AFlushThatFailsFailsAllThatWasWrittenByThen) {
  start(WritebackOrder::none);
  fill();
  rig().backing().hold(true);
  Write& first = write_block(kFree, 3);
  Write& second = write_block(kFree + 1, 3);
  ASSERT_TRUE(rig().backing().release_one());  // the first one, whose flush is held now
  ASSERT_TRUE(rig().backing().release_one());  // the second one, which comes too late for that
  ASSERT_EQ(rig().backing().held(), 1U);
  rig().backing().fail({.flushes = 1});
  rig().backing().hold(false);
  rig().backing().release_all();
  EXPECT_EQ(first.outcome.error, EIO);
  EXPECT_EQ(second.outcome.error, EIO) << "the next flush knows nothing of it";
}

// What it left is seen by readers. If a user flushes after that, no power cut may bring the older value back, from the
// backing or out of the cache.
TEST_F(FullBypass, WhatAFailedOneLeftIsDurableAfterTheNextFlush) {
  for (const bool evicted : {false, true}) {
    start(WritebackOrder::none);
    fill();
    rig().backing().fail({.flushes = 1});
    Write& w = write_block(kFree, 3);
    ASSERT_EQ(w.outcome.error, EIO);
    ASSERT_EQ(rig().drain(), 0);
    while (rig().cache().reclaim_step()) {
    }
    const Bytes seen = read_blocks(rig(), kFree, 1);
    ASSERT_EQ(rig().flush(), 0);
    if (evicted) {
      while (rig().device().reclaim_front(0)) {
      }
    }
    rig().power_cut();
    EXPECT_EQ(read_blocks(rig(), kFree, 1), seen);
  }
}

// Whatever the policy is by then.
TEST_F(FullBypass, WhatAKilledDaemonLeftIsDurableAfterTheNextFlush) {
  for (const FullPolicy next : {FullPolicy::bypass, FullPolicy::throttle}) {
    for (const bool flush_fails : {false, true}) {
      start(WritebackOrder::none);
      fill();
      rig().backing().hold(true);
      Write& w = write_block(kFree, 3);
      ASSERT_TRUE(rig().backing().release_one());
      ASSERT_FALSE(w.outcome.done) << "its flush is held";
      set_policy(next);
      rig().backing().fail({.flushes = 1});
      rig().backing().hold(false);
      rig().backing().release_all();  // the rig cannot kill what is under way: it fails
      ASSERT_EQ(w.outcome.error, EIO);
      rig().kill();
      if (flush_fails) rig().backing().fail({.flushes = 1});
      const Bytes seen = read_blocks(rig(), kFree, 1);
      EXPECT_EQ(seen, w.bytes);
      if (rig().flush() != 0) continue;
      rig().power_cut();
      EXPECT_EQ(read_blocks(rig(), kFree, 1), seen) << "policy " << static_cast<int>(next);
    }
  }
}

// In a mode that writes around the log anyway there is nothing to go around, also while a record waits for space.
TEST_F(FullBypass, InADirectModeARecordThatFindsNoSpaceWaitsForIt) {
  for (const Mode mode : {Mode::writethrough, Mode::writearound}) {
    start(WritebackOrder::none);
    Settings share;
    share.set(Setting::share_max, kPercent | 5);
    ASSERT_TRUE(rig().device().configure(share).ok());
    ASSERT_TRUE(rig().device().begin_switch({Mode::writethrough, false}).ok());
    std::uint64_t block = 0;
    const auto cached = [&] { return rig().device().stats().cached_bytes / kBlockSize; };
    for (; cached() == block; ++block) ASSERT_EQ(write_block(block, 2).outcome.error, 0);
    ASSERT_TRUE(rig().device().begin_switch({mode, false}).ok());
    Write& waiting = write_block(0, 3);
    Write& other = write_block(kFree, 3);
    EXPECT_EQ(read_blocks(rig(), kFree + 1, 1), blocks_of(kFree + 1, 1, 1));
    for (int i = 0; i < 1000 && !waiting.outcome.done; ++i) rig().step();
    EXPECT_EQ(waiting.outcome.error, 0);
    EXPECT_EQ(other.outcome.error, 0);
    EXPECT_EQ(read_blocks(rig(), 0, 1), waiting.bytes);
    ASSERT_TRUE(rig().device().begin_switch({Mode::writeback, false}).ok()) << "it waits for what has left";
  }
}

// The backing tells of a failure once. If a write around the log hears it, what writeback wrote may be gone all the
// same.
TEST_F(FullBypass, AFlushThatFailsMeanwhileFailsTheWritebackUnderWay) {
  start(WritebackOrder::none);
  const std::uint64_t count = fill();
  ASSERT_TRUE(rig().commit().ok());
  ASSERT_EQ(rig().device().write_back(kBlockSize).step, CachedDevice::WriteBack::Step::part);
  rig().backing().fail({.flushes = 1});
  EXPECT_EQ(write_block(kFree, 3).outcome.error, EIO);
  while (rig().device().write_back(1 << 30).step == CachedDevice::WriteBack::Step::part) {
  }
  EXPECT_EQ(rig().device().dirty_bytes(), count * kBlockSize) << "it counts as clean";
  EXPECT_EQ(rig().device().stats().writeback_errors, 1U);
  EXPECT_EQ(rig().flush(), EIO) << "the user's next flush says so";
  EXPECT_EQ(rig().drain(), 0);
  EXPECT_EQ(rig().device().dirty_bytes(), 0U);
}

// The writeback under way fails as well, but the user has been told.
TEST_F(FullBypass, AFlushThatFailsIsToldOnce) {
  start(WritebackOrder::none);
  const std::uint64_t count = fill();
  rig().backing().fail({.flushes = 1});
  ASSERT_EQ(write_block(kFree, 3).outcome.error, EIO);  // from here on a user's flush is the backing's too
  ASSERT_TRUE(rig().commit().ok());
  ASSERT_EQ(rig().device().write_back(kBlockSize).step, CachedDevice::WriteBack::Step::part);
  rig().backing().fail({.flushes = 1});
  EXPECT_EQ(rig().flush(), EIO);
  while (rig().device().write_back(1 << 30).step == CachedDevice::WriteBack::Step::part) {
  }
  EXPECT_EQ(rig().device().dirty_bytes(), count * kBlockSize) << "it counts as clean";
  EXPECT_EQ(rig().flush(), 0) << "told twice";
  rig().backing().fail({.flushes = 1});
  EXPECT_EQ(rig().drain(), EIO);
  EXPECT_EQ(rig().flush(), EIO) << "a later one is not told";
}

}  // namespace
}  // namespace pcache
