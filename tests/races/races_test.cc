// Races as fixed interleavings: one thread stops at a point of the engine, others do their work, then it goes on.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/races/pauses.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

class Races : public testing::Test {
 protected:
  Races() { pauses_.reset(); }

  static constexpr const char* kMissPoints[] = {"miss.registered", "fetch.arrived", "fetch.filled"};
  static constexpr const char* kWritebackPoints[] = {"writeback.begun", "writeback.collected", "writeback.written",
                                                     "writeback.tail"};

  // Fills the oldest segment with `version` of the blocks from 0 on, clean, and goes on to the next one.
  static void fill_first_segment(EngineRig& rig, std::uint64_t version) {
    ASSERT_EQ(write_blocks(rig, 0, slots_per_segment(rig), version), 0);
    ASSERT_EQ(write_blocks(rig, 500, 1, version), 0);
    ASSERT_EQ(rig.drain(), 0);
  }

  Pauses& pauses_ = Pauses::instance();
};

// --- Reads and eviction

TEST_F(Races, AReaderWhoseSegmentIsReusedBeforeItsPinLooksAgain) {
  EngineRig rig{RigShape()};
  fill_first_segment(rig, 1);
  const SegmentId segment = stored(rig, 0).segment;
  Bytes bytes(kBlockSize);
  Outcome outcome;
  pauses_.stop_at("read.found");
  TestThread reader([&] { rig.device().read(0, bytes, outcome.completion()); });
  ASSERT_TRUE(pauses_.await({"read.found"}));
  ASSERT_TRUE(rig.device().reclaim_front(0));
  for (std::uint64_t i = 0; !in_use(rig, segment) && i < 500; ++i)
    ASSERT_EQ(write_blocks(rig, 600 + i % 100, 16, 2), 0);
  ASSERT_TRUE(in_use(rig, segment));
  pauses_.go("read.found");
  reader.join();
  ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(bytes, blocks_of(0, 1, 1));
  EXPECT_EQ(rig.device().stats().checksum_errors, 0U) << "it read a cell that was another block's by then";
}

TEST_F(Races, ASegmentIsNotReusedWhileAReaderHasItPinned) {
  EngineRig rig{RigShape()};
  fill_first_segment(rig, 1);
  const SegmentId segment = stored(rig, 0).segment;
  Bytes bytes(kBlockSize);
  Outcome outcome;
  pauses_.stop_at("read.pinned");
  TestThread reader([&] { rig.device().read(0, bytes, outcome.completion()); });
  ASSERT_TRUE(pauses_.await({"read.pinned"}));
  bool reclaimed = false;
  TestThread reclaim([&] { reclaimed = rig.device().reclaim_front(0); });
  ASSERT_TRUE(pauses_.await({"reclaim.pinned", "reclaim.unpinned"}));
  EXPECT_FALSE(pauses_.reached("reclaim.unpinned")) << "it did not wait";
  EXPECT_TRUE(in_use(rig, segment));
  pauses_.go("read.pinned");
  reader.join();
  reclaim.join();
  EXPECT_TRUE(reclaimed);
  EXPECT_FALSE(in_use(rig, segment));
  EXPECT_EQ(bytes, blocks_of(0, 1, 1));
}

// --- Misses and changes

TEST_F(Races, AMissDuringWhichItsBlockIsWrittenReturnsAndKeepsTheWrite) {
  for (const char* const point : kMissPoints) {
    SCOPED_TRACE(point);
    pauses_.reset();
    EngineRig rig{RigShape()};
    Bytes expected = part(fill_backing(rig, 1), 0, 3 * kBlockSize);
    put(expected, kBlockSize, blocks_of(1, 1, 2));
    Bytes bytes(3 * kBlockSize);
    Outcome outcome;
    pauses_.stop_at(point);
    TestThread reader([&] { rig.device().read(0, bytes, outcome.completion()); });
    ASSERT_TRUE(pauses_.await({point}));
    EXPECT_EQ(write_blocks(rig, 1, 1, 2), 0);
    pauses_.go(point);
    reader.join();
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(bytes, expected);
    EXPECT_EQ(read_blocks(rig, 0, 3), expected);
    rig.kill();
    EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  }
}

TEST_F(Races, AMissDuringWhichItsBlockIsDiscardedReturnsAndKeepsZeroes) {
  for (const char* const point : kMissPoints) {
    SCOPED_TRACE(point);
    pauses_.reset();
    EngineRig rig{RigShape()};
    Bytes expected = part(fill_backing(rig, 1), 0, 3 * kBlockSize);
    put(expected, kBlockSize, filled(kBlockSize, 0));
    Bytes bytes(3 * kBlockSize);
    Outcome outcome;
    pauses_.stop_at(point);
    TestThread reader([&] { rig.device().read(0, bytes, outcome.completion()); });
    ASSERT_TRUE(pauses_.await({point}));
    EXPECT_EQ(rig.discard(kBlockSize, kBlockSize), 0);
    pauses_.go(point);
    reader.join();
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(bytes, expected);
    EXPECT_EQ(read_blocks(rig, 0, 3), expected);
  }
}

// The base is the newest value when it is read, and an old one when the write is stored.
TEST_F(Races, ThePartOfABlockIsNotCompletedWithWhatAWriteOvertook) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  const Bytes piece = filled(100, 9);
  Outcome partial;
  pauses_.stop_at("part.read");
  TestThread writer([&] { rig.device().write(500, piece, partial.completion()); });
  ASSERT_TRUE(pauses_.await({"part.read"}));
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 500, slots_per_segment(rig), 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  pauses_.go("part.read");
  writer.join();
  ASSERT_TRUE(partial.done);
  EXPECT_EQ(partial.error, 0);
  Bytes expected = blocks_of(0, 1, 2);
  put(expected, 500, piece);
  EXPECT_EQ(read_blocks(rig, 0, 1), expected);
}

// The write is written back and evicted while the miss is under way, so that a later reader fetches the block anew.
TEST_F(Races, AMissThatAWriteOvertookLeavesALaterMissOfTheSameBlockAlone) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, 3 * kBlockSize);
  put(expected, kBlockSize, blocks_of(1, 1, 2));
  Bytes first(3 * kBlockSize), second(3 * kBlockSize), third(kBlockSize), fourth(kBlockSize);
  Outcome outcomes[4];
  pauses_.stop_at("miss.registered");
  TestThread reader([&] { rig.device().read(0, first, outcomes[0].completion()); });
  ASSERT_TRUE(pauses_.await({"miss.registered"}));
  rig.device().read(0, second, outcomes[1].completion());
  EXPECT_EQ(rig.backing().held(), 0U) << "it shares the first one's";
  ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig, 500, slots_per_segment(rig), 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  ASSERT_TRUE(rig.device().reclaim_front(0));
  rig.backing().hold(true);
  rig.device().read(kBlockSize, third, outcomes[2].completion());
  EXPECT_EQ(rig.backing().held(), 1U);
  rig.backing().hold(false);
  pauses_.go("miss.registered");
  reader.join();
  rig.device().read(kBlockSize, fourth, outcomes[3].completion());
  EXPECT_FALSE(outcomes[3].done) << "it shares the third one's";
  rig.backing().release_all();
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, 0);
  }
  EXPECT_EQ(first, expected);
  EXPECT_EQ(second, expected);
  EXPECT_EQ(third, blocks_of(1, 1, 2));
  EXPECT_EQ(fourth, blocks_of(1, 1, 2));
}

// --- Writeback and changes

TEST_F(Races, ABlockWrittenDuringItsWritebackStaysDirty) {
  for (const char* const point : kWritebackPoints) {
    SCOPED_TRACE(point);
    pauses_.reset();
    EngineRig rig{RigShape()};
    ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
    ASSERT_TRUE(rig.commit().ok());
    pauses_.stop_at(point);
    TestThread writeback([&] { EXPECT_TRUE(rig.device().writeback_step()); });
    ASSERT_TRUE(pauses_.await({point}));
    ASSERT_EQ(write_blocks(rig, 1, 1, 2), 0);
    pauses_.go(point);
    writeback.join();
    EXPECT_EQ(backing_blocks(rig, 0, 4), blocks_of(0, 4, 1)) << "the epoch's value and not a newer one";
    EXPECT_EQ(rig.device().dirty_bytes(), kBlockSize);
    EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 2));
    rig.kill();
    EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 2));
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(backing_blocks(rig, 1, 1), blocks_of(1, 1, 2));
  }
}

TEST_F(Races, ABlockDiscardedDuringItsWritebackStaysZero) {
  for (const char* const point : kWritebackPoints) {
    SCOPED_TRACE(point);
    pauses_.reset();
    EngineRig rig{RigShape()};
    fill_backing(rig, 3);
    ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
    ASSERT_EQ(rig.discard(8 * kBlockSize, kBlockSize), 0);
    ASSERT_TRUE(rig.commit().ok());
    pauses_.stop_at(point);
    TestThread writeback([&] { EXPECT_TRUE(rig.device().writeback_step()); });
    ASSERT_TRUE(pauses_.await({point}));
    ASSERT_EQ(rig.discard(kBlockSize, kBlockSize), 0);
    ASSERT_EQ(rig.discard(9 * kBlockSize, kBlockSize), 0);
    pauses_.go(point);
    writeback.join();
    EXPECT_EQ(backing_blocks(rig, 0, 4), blocks_of(0, 4, 1)) << "the epoch's value and not a newer one";
    EXPECT_EQ(read_blocks(rig, 1, 1), filled(kBlockSize, 0));
    EXPECT_EQ(read_blocks(rig, 8, 2), filled(2 * kBlockSize, 0));
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(backing_blocks(rig, 1, 1), filled(kBlockSize, 0));
    EXPECT_EQ(backing_blocks(rig, 8, 2), filled(2 * kBlockSize, 0));
  }
}

// --- Epochs and writes under way

TEST_F(Races, AnEpochsSyncCoversTheWritesThatEnteredIt) {
  EngineRig rig{RigShape{.granularity = Granularity::page, .ack = {}}};
  pauses_.stop_at("write.entered");
  TestThread writer([&] { EXPECT_EQ(write_blocks(rig, 0, 4, 1), 0); });
  ASSERT_TRUE(pauses_.await({"write.entered"}));
  Outcome flushed;
  TestThread flusher([&] { rig.device().flush(flushed.completion()); });
  ASSERT_TRUE(pauses_.await({"appends.awaited", "commit.appended"}));
  EXPECT_FALSE(pauses_.reached("commit.appended")) << "it did not wait for the write";
  pauses_.go("write.entered");
  writer.join();
  flusher.join();
  EXPECT_TRUE(flushed.done);
  EXPECT_EQ(flushed.error, 0);
  rig.power_cut([](std::size_t) { return false; });
  EXPECT_EQ(read_blocks(rig, 0, 4), blocks_of(0, 4, 1));
}

TEST_F(Races, WritebackOfAnEpochWaitsForTheWritesThatEnteredIt) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 100, 1, 1), 0);
  pauses_.stop_at("write.entered");
  TestThread writer([&] { EXPECT_EQ(write_blocks(rig, 0, 4, 1), 0); });
  ASSERT_TRUE(pauses_.await({"write.entered"}));
  EXPECT_EQ(rig.flush(), 0) << "it has nothing to do with a write that is not acknowledged";
  TestThread writeback([&] { EXPECT_TRUE(rig.device().writeback_step()); });
  ASSERT_TRUE(pauses_.await({"writeback.begun"}));
  pauses_.go("write.entered");
  writer.join();
  writeback.join();
  EXPECT_EQ(backing_blocks(rig, 0, 4), blocks_of(0, 4, 1));
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
}

// --- Reclaim and changes

TEST_F(Races, ABlockWrittenBeforeItsRelocationIsNotBroughtBack) {
  EngineRig rig{RigShape()};
  fill_first_segment(rig, 1);
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));  // hot
  pauses_.stop_at("reclaim.chosen");
  TestThread reclaim([&] { EXPECT_TRUE(rig.device().reclaim_front(0)); });
  ASSERT_TRUE(pauses_.await({"reclaim.chosen"}));
  ASSERT_EQ(write_blocks(rig, 3, 1, 2), 0);
  ASSERT_EQ(rig.discard(4 * kBlockSize, kBlockSize), 0);
  pauses_.go("reclaim.chosen");
  reclaim.join();
  Bytes expected = blocks_of(0, 8, 1);
  put(expected, 3 * kBlockSize, blocks_of(3, 1, 2));
  put(expected, 4 * kBlockSize, filled(kBlockSize, 0));
  EXPECT_EQ(rig.device().stats().relocated_bytes, 6 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  rig.kill();
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
}

// --- The end of a device

TEST_F(Races, RemovalWaitsForOperationsUnderWayAndAnswersThem) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  rig.backing().hold(true);
  Bytes bytes(kBlockSize), few(100);
  Outcome read, write;
  rig.device().read(0, bytes, read.completion());
  rig.device().write(10 * kBlockSize + 10, few, write.completion());
  ASSERT_EQ(rig.backing().held(), 2U);
  const std::shared_ptr<CachedDevice> device(std::shared_ptr<void>(), &rig.device());
  TestThread remover([&] {
    EXPECT_TRUE(rig.cache().remove(device).ok());
    pauses_.reach("removed");
  });
  ASSERT_TRUE(pauses_.await({"stop.waits", "removed"}));
  ASSERT_FALSE(pauses_.reached("removed")) << "it did not wait";
  EXPECT_FALSE(read.done);
  // The backing is gone once the last one has completed.
  EXPECT_TRUE(rig.backing().release_one());
  EXPECT_TRUE(rig.backing().release_one());
  remover.join();
  EXPECT_TRUE(read.done);
  EXPECT_EQ(read.error, 0);
  EXPECT_TRUE(write.done);
  EXPECT_EQ(write.error, EIO);
  EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().pool().total());
}

// Whatever an operation is doing when its device stops, it is answered, and the data is old or new.
// --- Modes

TEST_F(Races, AWriteThatEnteredTheLogIsPartOfWhatTheSwitchWritesBack) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  const Bytes data = blocks_of(3, 2, 2);
  Outcome outcome;
  pauses_.stop_at("write.entered");
  TestThread writer([&] { rig.device().write(3 * kBlockSize, data, outcome.completion()); });
  ASSERT_TRUE(pauses_.await({"write.entered"}));
  TestThread switcher([&] { (void)rig.device().begin_switch({Mode::writearound, false}); });
  ASSERT_TRUE(pauses_.await({"appends.awaited", "writeback.begun", "switch.held"}));
  pauses_.go("write.entered");
  writer.join();
  switcher.join();
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(rig.device().mode(), Mode::writearound);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
  EXPECT_EQ(backing_blocks(rig, 3, 2), data);
}

TEST_F(Races, WritesDuringASwitchWaitAndAreDoneInTheNewMode) {
  for (const auto& [from, to] : {std::pair{Mode::writeback, Mode::writearound},
                                 {Mode::writearound, Mode::writeback},
                                 {Mode::writethrough, Mode::passthrough},
                                 {Mode::passthrough, Mode::writethrough}}) {
    pauses_.reset();
    EngineRig rig{RigShape()};
    fill_backing(rig, 1);
    ASSERT_TRUE(rig.device().begin_switch({from, false}).ok());
    ASSERT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));
    ASSERT_EQ(write_blocks(rig, 0, 2, 2), 0);
    std::array<Outcome, 3> outcomes;
    const Bytes first = blocks_of(1, 2, 3);
    const Bytes second = blocks_of(2, 2, 4);
    pauses_.stop_at("switch.held");
    TestThread switcher([&, target = to] { (void)rig.device().begin_switch({target, false}); });
    ASSERT_TRUE(pauses_.await({"switch.held"}));
    rig.device().write(kBlockSize, first, outcomes[0].completion());
    rig.device().write(2 * kBlockSize, second, outcomes[1].completion());
    rig.device().discard(5 * kBlockSize, kBlockSize, outcomes[2].completion());
    for (const Outcome& outcome : outcomes) EXPECT_FALSE(outcome.done) << "it did not wait";
    pauses_.go("switch.held");
    switcher.join();
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, 0);
    EXPECT_EQ(rig.device().mode(), to);
    Bytes expected = blocks_of(0, 8, 1);
    put(expected, 0, blocks_of(0, 2, 2));
    put(expected, kBlockSize, first);
    put(expected, 2 * kBlockSize, second);
    put(expected, 5 * kBlockSize, Bytes(kBlockSize));
    EXPECT_EQ(read_blocks(rig, 0, 8), expected);
    EXPECT_EQ(backing_blocks(rig, 0, 8) == expected, is_direct(to));
    rig.kill();
    EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  }
}

// The space is there once an epoch more is clean, and the thread that would see to that is the one that switches.
TEST_F(Races, ASwitchMakesTheSpaceThatAWriteWhichItWaitsForWaitsFor) {
  for (const Mode to : {Mode::writeback, Mode::writethrough, Mode::passthrough}) {
    pauses_.reset();
    RigShape shape;
    shape.own_clock = true;
    shape.settings.set(Setting::share_max, kPercent | 10);
    EngineRig rig{shape};
    ASSERT_TRUE(rig.device().begin_switch({Mode::writethrough, false}).ok());
    const auto cached = [&] { return rig.device().stats().cached_bytes / kBlockSize; };
    std::uint64_t block = 0;
    for (; cached() == block; ++block) ASSERT_EQ(write_blocks(rig, block, 1, 2), 0);
    ASSERT_TRUE(rig.device().begin_switch({Mode::writearound, false}).ok());
    const Bytes data = blocks_of(0, 1, 3);
    Outcome waiting;
    rig.device().write(0, data, waiting.completion());
    ASSERT_FALSE(waiting.done) << "it did not wait";
    TestThread switcher([&] { (void)rig.device().begin_switch({to, false}); });
    ASSERT_TRUE(pauses_.await({"gate.awaited"}));
    for (int i = 0; i < 5000 && rig.device().direct_operations() != 0; ++i) {
      rig.cache().reclaim_step();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(rig.device().direct_operations(), 0U) << "the switch does not end";
    while (rig.device().direct_operations() != 0) rig.step();
    switcher.join();
    EXPECT_EQ(waiting.error, 0);
    EXPECT_EQ(rig.device().mode(), to);
    EXPECT_EQ(read_blocks(rig, 0, 1), data);
    rig.kill();
    EXPECT_EQ(read_blocks(rig, 0, 1), data);
  }
}

TEST_F(Races, WhatAReadBringsInWhileTheLogIsLeftIsGivenBackToo) {
  for (const bool back_at_once : {false, true}) {
    pauses_.reset();
    RigShape shape;
    shape.own_clock = true;
    EngineRig rig{shape};
    fill_backing(rig, 1);
    ASSERT_EQ(write_blocks(rig, 500, 1, 2), 0);
    pauses_.stop_at("switch.stored");
    TestThread switcher([&] { (void)rig.device().begin_switch({Mode::passthrough, false}); });
    ASSERT_TRUE(pauses_.await({"switch.stored"}));
    EXPECT_EQ(read_blocks(rig, 0, 2 * slots_per_segment(rig)), blocks_of(0, 2 * slots_per_segment(rig), 1));
    pauses_.go("switch.stored");
    switcher.join();
    ASSERT_EQ(rig.device().mode(), Mode::passthrough);
    ASSERT_NE(rig.cache().pool().free_count(), rig.cache().pool().total());
    ASSERT_TRUE(rig.device().begin_drain().has_value());
    if (back_at_once) {
      ASSERT_TRUE(rig.device().begin_switch({Mode::writeback, false}).ok());
      EXPECT_EQ(rig.device().mode(), Mode::writeback);
    } else {
      for (int i = 0; i < 100; ++i) {
        rig.advance(1000);
        (void)rig.device().background_step();
      }
      EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().pool().total());
    }
    EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));
    EXPECT_EQ(read_blocks(rig, 500, 1), blocks_of(500, 1, 2));
  }
}

// Between leaving the index and its segment being free a block is still in the log, where a crash would find it.
TEST_F(Races, AWriteAroundABlockThatIsBeingEvictedVoidsIt) {
  EngineRig rig{RigShape()};
  fill_first_segment(rig, 1);
  ASSERT_TRUE(rig.device().begin_switch({Mode::writearound, false}).ok());
  pauses_.stop_at("reclaim.unpinned");
  TestThread reclaim([&] { (void)rig.device().reclaim_front(0); });
  ASSERT_TRUE(pauses_.await({"reclaim.unpinned"}));
  ASSERT_EQ(write_blocks(rig, 0, 1, 2), 0);
  EXPECT_EQ(stored(rig, 0).record.type, RecordType::gone);
  pauses_.go("reclaim.unpinned");
  reclaim.join();
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 2));
}

// An acknowledgement that is late is for what the backing has.
TEST_F(Races, WhileTheLogIsLeftAWriteIsAcknowledgedWhenTheBackingHasIt) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
  const Bytes data = blocks_of(1, 2, 2);
  Outcome outcome;
  pauses_.stop_at("writeback.collected");
  TestThread switcher([&] { (void)rig.device().begin_switch({Mode::writethrough, false}); });
  ASSERT_TRUE(pauses_.await({"writeback.collected"}));
  rig.device().write(kBlockSize, data, outcome.completion());
  EXPECT_FALSE(outcome.done);
  EXPECT_EQ(read_blocks(rig, 1, 2), data) << "it is in the log already";
  pauses_.go("writeback.collected");
  switcher.join();
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(backing_blocks(rig, 1, 2), data);
}

// A flush that fails may take what the backing was just read for, or written, and no copy of that is to be kept.
TEST_F(Races, WhatIsReadOrWrittenWhileAFlushFailsIsNotKept) {
  for (const Mode mode : {Mode::writearound, Mode::writethrough}) {
    for (const std::string point : {"fetch.arrived", "direct.written"}) {
      SCOPED_TRACE(point);
      pauses_.reset();
      EngineRig rig{RigShape()};
      fill_backing(rig, 1);
      ASSERT_TRUE(rig.switch_mode({mode, false}).ok());
      const bool reads = point == "fetch.arrived";
      ASSERT_TRUE(!reads || write_blocks(rig, 5, 4, 2) == 0);
      if (mode == Mode::writethrough && reads) continue;  // it was kept, and is voided
      Bytes bytes = blocks_of(5, 4, 2);
      Outcome outcome;
      pauses_.stop_at(point);
      TestThread user([&] {
        if (reads) {
          rig.device().read(5 * kBlockSize, bytes, outcome.completion());
        } else {
          rig.device().write(5 * kBlockSize, bytes, outcome.completion());
        }
      });
      ASSERT_TRUE(pauses_.await({point}));
      rig.backing().fail({.flushes = 1, .drop = true});
      EXPECT_EQ(rig.flush(), EIO);
      const Bytes left = backing_blocks(rig, 5, 4);
      ASSERT_NE(left, blocks_of(5, 4, 2));
      pauses_.go(point);
      user.join();
      ASSERT_TRUE(outcome.done);
      EXPECT_EQ(read_blocks(rig, 5, 4), left);
    }
  }
}

// It asked the backing while nothing was logged; what is logged since may have been half written back.
TEST_F(Races, AReadDuringWhichTheModeIsSwitchedIsNotTorn) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_TRUE(rig.switch_mode({Mode::passthrough, false}).ok());
  const Bytes next = blocks_of(5, 1, 2);
  rig.backing().on_read = [&](std::uint64_t, std::span<std::byte> found) {
    std::copy_n(next.begin(), kBlockSize / 2, found.begin());
  };
  Bytes bytes(kBlockSize);
  Outcome outcome;
  pauses_.stop_at("fetch.arrived");
  TestThread reader([&] { rig.device().read(5 * kBlockSize, bytes, outcome.completion()); });
  ASSERT_TRUE(pauses_.await({"fetch.arrived"}));
  rig.backing().on_read = nullptr;
  ASSERT_TRUE(rig.switch_mode({Mode::writeback, false}).ok());
  ASSERT_EQ(rig.write(5 * kBlockSize, next), 0);
  ASSERT_EQ(rig.drain(), 0);
  pauses_.go("fetch.arrived");
  reader.join();
  ASSERT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(bytes, next);
}

// Where the mode was switched meanwhile nothing may be dirty.
TEST_F(Races, ASwitchDuringAResizeLeavesNothingDirtyInAModeThatHasNoDirtyData) {
  RigShape shape;
  shape.device_bytes = kMiB + 512;
  EngineRig rig(shape);
  fill_backing(rig, 1);
  rig.backing_image().grow(2 * kMiB);
  Status resized;
  pauses_.stop_at("resize.drained");
  TestThread resizer([&] { resized = rig.device().grow_to_backing(); });
  ASSERT_TRUE(pauses_.await({"resize.drained"}));
  ASSERT_TRUE(rig.switch_mode({Mode::writearound, false}).ok());
  pauses_.go("resize.drained");
  resizer.join();
  EXPECT_EQ(resized.code(), Errc::busy) << resized.message();
  EXPECT_EQ(rig.device().size_bytes(), shape.device_bytes);
  EXPECT_EQ(rig.device().dirty_bytes(), 0U);
}

// --- Writes around a log that is full

class RacesAroundALog : public Races {
 protected:
  static constexpr std::uint64_t kBlock = 1800;

  RacesAroundALog() : rig_(shape()) {
    fill_backing(rig_, 1);
    for (std::uint64_t block = 0; block < room_for_blocks(rig_); ++block) {
      EXPECT_EQ(write_blocks(rig_, block, 1, 2), 0);
    }
    EXPECT_TRUE(rig_.commit().ok());
  }
  void make_room() {
    ASSERT_TRUE(rig_.device().writeback_step());
    while (rig_.cache().reclaim_step()) {
    }
  }

  EngineRig rig_;
  const Bytes first_ = blocks_of(kBlock, 1, 3);
  const Bytes second_ = blocks_of(kBlock, 1, 4);
  Outcome around_;
  Outcome logged_;

 private:
  static RigShape shape() {
    RigShape shape;
    shape.device_bytes = 8 << 20;
    shape.settings.set(Setting::full_policy, static_cast<std::uint64_t>(FullPolicy::bypass));
    shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(WritebackOrder::none));
    return shape;
  }
};

TEST_F(RacesAroundALog, AWriteThatWasLoggedSinceTheLookSendsItToTheLogToo) {
  pauses_.stop_at("around.allowed");
  TestThread writer([&] { rig_.device().write(kBlock * kBlockSize, first_, around_.completion()); });
  ASSERT_TRUE(pauses_.await({"around.allowed"}));
  make_room();
  rig_.device().write(kBlock * kBlockSize, second_, logged_.completion());
  ASSERT_TRUE(logged_.done);
  pauses_.go("around.allowed");
  writer.join();
  while (rig_.cache().reclaim_step()) {
  }
  ASSERT_TRUE(around_.done);
  EXPECT_EQ(rig_.device().stats().bypassed_full_bytes, 0U);
  EXPECT_EQ(read_blocks(rig_, kBlock, 1), first_);
  EXPECT_EQ(rig_.drain(), 0);
  EXPECT_EQ(backing_blocks(rig_, kBlock, 1), first_);
}

class RacesAroundALogAtEachPoint : public RacesAroundALog, public testing::WithParamInterface<const char*> {};

TEST_P(RacesAroundALogAtEachPoint, WhatComesOnceItIsOnItsWayWaits) {
  pauses_.stop_at(GetParam());
  TestThread writer([&] { rig_.device().write(kBlock * kBlockSize, first_, around_.completion()); });
  ASSERT_TRUE(pauses_.await({GetParam()}));
  make_room();
  rig_.device().write(kBlock * kBlockSize, second_, logged_.completion());
  EXPECT_FALSE(logged_.done) << "the backing gets the older one after that";
  EXPECT_EQ(write_blocks(rig_, kBlock + 1, 1, 4), 0) << "others go on";
  pauses_.go(GetParam());
  writer.join();
  ASSERT_TRUE(around_.done && logged_.done);
  EXPECT_EQ(rig_.device().stats().bypassed_full_bytes, kBlockSize);
  EXPECT_EQ(read_blocks(rig_, kBlock, 1), second_);
  EXPECT_EQ(rig_.drain(), 0);
  EXPECT_EQ(backing_blocks(rig_, kBlock, 1), second_);
}

INSTANTIATE_TEST_SUITE_P(Points, RacesAroundALogAtEachPoint,
                         testing::Values("around.entered", "direct.written", "around.written"));

TEST_F(RacesAroundALog, ASwitchOfTheModeWaitsForIt) {
  pauses_.stop_at("around.written");
  TestThread writer([&] { rig_.device().write(kBlock * kBlockSize, first_, around_.completion()); });
  ASSERT_TRUE(pauses_.await({"around.written"}));
  TestThread switcher([&] { (void)rig_.device().begin_switch({Mode::writearound, false}); });
  ASSERT_TRUE(pauses_.await({"gate.awaited", "switch.held"}));
  EXPECT_FALSE(pauses_.reached("switch.held"));
  pauses_.go("around.written");
  writer.join();
  switcher.join();
  EXPECT_EQ(around_.error, 0);
  EXPECT_EQ(rig_.device().mode(), Mode::writearound);
  EXPECT_EQ(read_blocks(rig_, kBlock, 1), first_);
}

// --- Ends

TEST_F(Races, AnyOperationAtAnyOfItsPointsIsAnsweredWhenTheDeviceStops) {
  const Bytes data = blocks_of(1, 1, 2);
  const Bytes few = part(data, 100, 1000);
  Bytes buffer(3 * kBlockSize);
  struct Kind {
    const char* name;
    std::function<void(EngineRig&, Outcome&)> start;
  };
  const Kind kinds[] = {
      {"read", [&](EngineRig& rig, Outcome& outcome) { rig.device().read(0, buffer, outcome.completion()); }},
      {"write", [&](EngineRig& rig, Outcome& outcome) { rig.device().write(kBlockSize, data, outcome.completion()); }},
      {"partial write",
       [&](EngineRig& rig, Outcome& outcome) { rig.device().write(5 * kBlockSize + 100, few, outcome.completion()); }},
      {"discard",
       [&](EngineRig& rig, Outcome& outcome) { rig.device().discard(kBlockSize, kBlockSize, outcome.completion()); }},
      {"flush", [&](EngineRig& rig, Outcome& outcome) { rig.device().flush(outcome.completion()); }},
      {"drain", [&](EngineRig& rig, Outcome& outcome) { outcome.completion()(rig.device().drain(0) == 0 ? 0 : EIO); }},
      {"switch",
       [&](EngineRig& rig, Outcome& outcome) {
         const Mode other = is_direct(rig.device().mode()) ? Mode::writeback : Mode::writearound;
         outcome.completion()(rig.device().begin_switch({other, false}).ok() ? 0 : EIO);
       }},
  };
  Mode mode = Mode::writeback;
  const auto prepare = [&mode](EngineRig& rig) {
    fill_backing(rig, 1);
    ASSERT_EQ(write_blocks(rig, 1, 1, 3), 0);
    ASSERT_TRUE(rig.device().begin_switch({mode, false}).ok());
  };
  for (const auto& [kind, in] : [&] {
         std::vector<std::pair<Kind, Mode>> all;
         for (const Mode each : {Mode::writeback, Mode::writethrough}) {
           for (const Kind& one : kinds) all.emplace_back(one, each);
         }
         return all;
       }()) {
    mode = in;
    std::vector<std::string> points;
    {
      EngineRig rig{RigShape{.granularity = Granularity::page, .ack = {}}};
      prepare(rig);
      pauses_.reset();
      Outcome outcome;
      kind.start(rig, outcome);
      ASSERT_TRUE(outcome.done);
      points = pauses_.visited();
    }
    EXPECT_FALSE(points.empty()) << kind.name;
    for (const std::string& point : points) {
      SCOPED_TRACE(std::string(kind.name) + " at " + point + " in mode " + std::to_string(static_cast<int>(mode)));
      EngineRig rig{RigShape{.granularity = Granularity::page, .ack = {}}};
      prepare(rig);
      pauses_.reset();
      pauses_.stop_at(point);
      Outcome outcome;
      TestThread user([&] { kind.start(rig, outcome); });
      ASSERT_TRUE(pauses_.await({point}));
      TestThread stopper([&] { rig.device().stop(); });
      ASSERT_TRUE(pauses_.await({"stop.begun"}));
      pauses_.go(point);
      user.join();
      stopper.join();
      EXPECT_TRUE(outcome.done);
      EXPECT_TRUE(outcome.error == 0 || outcome.error == EIO) << outcome.error;
      EXPECT_EQ(read_error(rig, 0), EIO) << "it is stopped";
      rig.reopen();
      const Bytes found = read_blocks(rig, 1, 1);
      EXPECT_TRUE(found == blocks_of(1, 1, 3) || found == data || found == filled(kBlockSize, 0));
    }
  }
}

}  // namespace
}  // namespace pcache
