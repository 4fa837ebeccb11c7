// The modes of a logical device: where a write goes, what the cache may hold afterwards, and switching between them.

#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <string>
#include <utility>

#include "cache/mode.h"
#include "tests/support/environment.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr Mode kModes[] = {Mode::writeback, Mode::writethrough, Mode::writearound, Mode::writeonly, Mode::passthrough};

// Switches, stepping by hand; the error of the switch.
Status switch_to(EngineRig& rig, Mode mode, bool detached = false) {
  if (Status status = rig.device().begin_switch({mode, detached}); !status.ok()) return status;
  const auto ended = rig.device().await_switch(0);
  return ended ? *ended : Status(Errc::failed, "the switch does not end");
}

RecordType newest_type(EngineRig& rig, std::uint64_t block) {
  const auto records = all_stored(rig, block);
  return records.empty() ? RecordType::none : records.back().record.type;
}

std::string name_of(const std::tuple<Mode, Granularity>& param) {
  static constexpr const char* kNames[] = {"writeback", "writethrough", "writearound", "writeonly", "passthrough"};
  return std::string(kNames[static_cast<int>(std::get<0>(param))]) + "_" + to_string(std::get<1>(param));
}

class Direct : public testing::TestWithParam<std::tuple<Mode, Granularity>> {
 protected:
  Direct() {
    fill_backing(rig_, 1);
    EXPECT_TRUE(switch_to(rig_, mode()).ok());
  }
  static Mode mode() { return std::get<0>(GetParam()); }
  static bool admits() { return mode() != Mode::passthrough; }
  static RigShape shape() {
    RigShape shape;
    shape.granularity = std::get<1>(GetParam());
    return shape;
  }

  EngineRig rig_{shape()};
};

TEST_P(Direct, AnAcknowledgedWriteIsOnTheBackingAndNothingIsDirty) {
  ASSERT_EQ(write_blocks(rig_, 3, 40, 2), 0);
  EXPECT_EQ(backing_blocks(rig_, 3, 40), blocks_of(3, 40, 2));
  EXPECT_EQ(rig_.device().dirty_bytes(), 0U);
  EXPECT_EQ(read_blocks(rig_, 3, 40), blocks_of(3, 40, 2));
  const LogicDevStats stats = rig_.device().stats();
  EXPECT_EQ(stats.read_hits, mode() == Mode::writethrough ? 40U : 0U);
  EXPECT_EQ(stats.writes, 1U);
  EXPECT_EQ(stats.write_bytes, 40 * kBlockSize);
  EXPECT_EQ(stats.bypassed_bytes, mode() == Mode::writethrough ? 0U : 40 * kBlockSize);
  EXPECT_EQ(stats.not_admitted_mode, mode() == Mode::passthrough ? 40U : 0U);
}

TEST_P(Direct, WhatTheCacheHadIsVoidDurablyBeforeTheBackingChanges) {
  ASSERT_EQ(read_blocks(rig_, 0, 8), blocks_of(0, 8, 1));
  if (admits()) {
    ASSERT_EQ(newest_type(rig_, 0), RecordType::clean);
  }
  bool called = false;
  rig_.backing().on_write = [&](std::uint64_t, std::uint64_t) {
    called = true;
    if (!admits()) return;
    const auto record = stored(rig_, 0);
    EXPECT_EQ(record.record.type, RecordType::gone);
    EXPECT_EQ(record.record.count, 3U);
    if (shape().granularity != Granularity::page) return;
    const auto synced = rig_.space().durable_image();
    KeyRecord durable;
    std::memcpy(&durable, synced->data() + record.record_offset, sizeof durable);
    EXPECT_EQ(durable.crc, record.record.crc) << "the record was not synced";
  };
  const int error = write_blocks(rig_, 0, 3, 2);
  rig_.backing().on_write = nullptr;
  EXPECT_EQ(error, 0);
  EXPECT_TRUE(called);
}

// The backing has taken all, a part or nothing of the write that was under way; what is read is what the backing has,
// and stays so.
TEST_P(Direct, ACrashDuringAWriteLeavesTheCacheAndTheBackingInAgreement) {
  for (const bool reaches : {false, true}) {
    ASSERT_EQ(read_blocks(rig_, 20, 4).size(), 4 * kBlockSize);  // cached, where reads are
    const Bytes data = blocks_of(20, 4, reaches ? 3 : 2);
    Outcome outcome;
    rig_.backing().hold(true);
    rig_.device().write(20 * kBlockSize, data, outcome.completion());
    ASSERT_FALSE(outcome.done);
    if (reaches) put(rig_.backing_image().current, 20 * kBlockSize, data);
    rig_.backing_image().durable = rig_.backing_image().current;
    // Killed without waiting for the write: the rig closes an engine that has nothing in flight.
    auto cache = MemorySpace::copy_image(rig_.cache_image());
    const BackingImage backing = rig_.backing_image();
    rig_.backing().hold(false);
    rig_.backing().release_all();
    rig_.close();
    rig_.cache_image() = *cache;
    rig_.backing_image() = backing;
    rig_.open();
    EXPECT_EQ(read_blocks(rig_, 20, 4), part(backing.current, 20 * kBlockSize, 4 * kBlockSize)) << reaches;
  }
}

TEST_P(Direct, AWriteThatTheBackingFailsIsReportedAndNothingStaleIsRead) {
  ASSERT_EQ(read_blocks(rig_, 0, 8), blocks_of(0, 8, 1));
  rig_.backing().fail({.writes = 1, .tear = true});
  EXPECT_EQ(write_blocks(rig_, 0, 8, 2), EIO);
  EXPECT_EQ(read_blocks(rig_, 0, 8), backing_blocks(rig_, 0, 8));
  ASSERT_EQ(write_blocks(rig_, 0, 8, 3), 0);
  EXPECT_EQ(read_blocks(rig_, 0, 8), blocks_of(0, 8, 3));
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 8), blocks_of(0, 8, 3));
}

TEST_P(Direct, APartOfASectorThatCannotBeReadOrWrittenIsReported) {
  rig_.backing().fail({.reads = 1});
  EXPECT_EQ(rig_.write(100, filled(10, 1)), EIO);
  rig_.backing().fail({.writes = 1});
  EXPECT_EQ(rig_.write(100, filled(10, 1)), EIO);
  EXPECT_EQ(backing_blocks(rig_, 0, 1), blocks_of(0, 1, 1));
}

TEST_P(Direct, AFlushIsTheBackingsFlushAndItsErrorIsReported) {
  ASSERT_EQ(write_blocks(rig_, 0, 2, 2), 0);
  ASSERT_EQ(rig_.flush(), 0);
  EXPECT_EQ(part(rig_.backing_image().durable, 0, 2 * kBlockSize), blocks_of(0, 2, 2));
  rig_.backing().fail({.flushes = 1});
  EXPECT_EQ(rig_.flush(), EIO);
  EXPECT_EQ(rig_.flush(), 0);
}

TEST_P(Direct, ADiscardReachesTheBackingAtOnce) {
  ASSERT_EQ(read_blocks(rig_, 0, 20), blocks_of(0, 20, 1));
  ASSERT_EQ(rig_.discard(3 * kBlockSize + 100, 10 * kBlockSize), 0);
  Bytes expected = blocks_of(0, 20, 1);
  put(expected, 3 * kBlockSize + 100, Bytes(10 * kBlockSize));
  EXPECT_EQ(backing_blocks(rig_, 0, 20), expected);
  EXPECT_EQ(read_blocks(rig_, 0, 20), expected);
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 20), expected);
}

// Random parts, of sectors too, from memory that is aligned to nothing, with restarts in between.
TEST_P(Direct, AnyOffsetAndLengthReadsBack) {
  const std::uint64_t seed = from_environment("PCACHE_SEED", 1);
  SCOPED_TRACE("run again with PCACHE_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  Bytes content = rig_.backing_image().current;
  for (int i = 0; i < 400; ++i) {
    const std::uint64_t length = 1 + random() % (i % 10 == 0 ? 300'000 : 9000);
    const std::uint64_t offset = random() % 4 == 0 ? content.size() - length : random() % 60'000;
    Bytes data(length + 1);
    for (std::byte& byte : data) byte = static_cast<std::byte>(random());
    const std::span<const std::byte> odd(data.data() + 1, length);
    if (i % 7 == 6) {
      ASSERT_EQ(rig_.discard(offset, length), 0);
      put(content, offset, Bytes(length));
    } else {
      ASSERT_EQ(rig_.write(offset, odd), 0);
      put(content, offset, Bytes(odd.begin(), odd.end()));
    }
    if (i % 3 == 0) {
      const std::uint64_t at = random() % 100'000;
      ASSERT_EQ(read_bytes(rig_, at, 30'000), part(content, at, 30'000));
    }
    if (i % 50 == 49) i % 100 == 99 ? rig_.kill() : rig_.reopen();
  }
  EXPECT_TRUE(rig_.backing_image().current == content);
  EXPECT_TRUE(read_bytes(rig_, 0, content.size()) == content);
}

TEST_P(Direct, WritesOfTheSameSectorTakeTurns) {
  rig_.backing().hold(true);
  std::array<Outcome, 3> outcomes;
  const Bytes first = filled(10, 0x11);
  const Bytes second = filled(10, 0x22);
  const Bytes other = filled(512, 0x33);
  rig_.device().write(100, first, outcomes[0].completion());
  rig_.device().write(105, second, outcomes[1].completion());
  rig_.device().write(8 * kBlockSize, other, outcomes[2].completion());
  EXPECT_EQ(rig_.backing().held(), 2U) << "the second one does not wait for the first one, or the third one does";
  rig_.backing().hold(false);
  rig_.backing().release_all();
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.error, 0);
  Bytes expected = blocks_of(0, 1, 1);
  put(expected, 100, first);
  put(expected, 105, second);
  EXPECT_EQ(backing_blocks(rig_, 0, 1), expected);
  EXPECT_EQ(read_blocks(rig_, 0, 1), expected);
}

TEST_P(Direct, AReadDuringAWriteLeavesNothingOldInTheCache) {
  rig_.backing().hold(true);
  Outcome written, read;
  const Bytes data = blocks_of(5, 2, 2);
  rig_.device().write(5 * kBlockSize, data, written.completion());
  Bytes found(2 * kBlockSize);
  rig_.device().read(5 * kBlockSize, found, read.completion());
  ASSERT_EQ(rig_.backing().held(), 2U);
  ASSERT_TRUE(rig_.backing().release_one(1));  // the read overtakes the write
  ASSERT_TRUE(read.done);
  EXPECT_EQ(found, blocks_of(5, 2, 1));
  rig_.backing().hold(false);
  rig_.backing().release_all();
  ASSERT_TRUE(written.done);
  EXPECT_EQ(read_blocks(rig_, 5, 2), data);
  EXPECT_EQ(read_blocks(rig_, 5, 2), data);
}

TEST_P(Direct, AWriteDuringAReadLeavesNothingOldInTheCache) {
  rig_.backing().hold(true);
  Outcome written, read;
  Bytes found(2 * kBlockSize);
  rig_.device().read(5 * kBlockSize, found, read.completion());
  const Bytes data = blocks_of(5, 2, 2);
  rig_.device().write(5 * kBlockSize, data, written.completion());
  ASSERT_EQ(rig_.backing().held(), 2U);
  rig_.backing().hold(false);
  ASSERT_TRUE(rig_.backing().release_one(0));  // the read, of old data, arrives first
  rig_.backing().release_all();
  ASSERT_TRUE(written.done);
  ASSERT_TRUE(read.done);
  EXPECT_EQ(read_blocks(rig_, 5, 2), data);
}

TEST_P(Direct, AFullCacheTakesPartInNothing) {
  for (std::uint64_t i = 0; i < 3; ++i) {
    for (std::uint64_t block = 0; block < 1536; block += 64) {
      ASSERT_EQ(read_blocks(rig_, block, 64), blocks_of(block, 64, 1 + i));
      ASSERT_EQ(write_blocks(rig_, block, 64, 2 + i), 0);
      while (rig_.cache().reclaim_step()) {
      }
    }
  }
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 1536), blocks_of(0, 1536, 4));
}

// A damaged copy left the index, but its record is still in the log: should it be readable again after a crash, it is
// older than the backing.
TEST_P(Direct, WhatLeftTheIndexForDamageDoesNotComeBackOverAWrite) {
  ASSERT_EQ(read_blocks(rig_, 0, 1), blocks_of(0, 1, 1));
  if (!admits()) return;
  const Stored at = stored(rig_, 0);
  damage(rig_, at.cell_offset);
  Outcome outcome;
  Bytes bytes(kBlockSize);
  rig_.backing().fail({.reads = 1});  // so that it is not filled again
  EXPECT_EQ(rig_.read(0, bytes), EIO);
  rig_.backing().fail({});
  ASSERT_EQ(rig_.write(512, filled(512, 7)), 0);
  damage(rig_, at.cell_offset);  // whole again
  const Bytes expected = backing_blocks(rig_, 0, 1);
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 1), expected);
}

TEST_P(Direct, ARecordThatIsDamagedAtTheEndVoidsTheCacheAndNothingElse) {
  ASSERT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 1));
  ASSERT_EQ(rig_.write(512, filled(512, 7)), 0);
  const Bytes expected = backing_blocks(rig_, 0, 4);
  if (!admits()) return;
  const Stored gone = stored(rig_, 0);
  ASSERT_EQ(gone.record.type, RecordType::gone);
  rig_.close();
  damage(rig_, gone.record_offset);
  rig_.open();
  EXPECT_FALSE(rig_.device().failed());
  EXPECT_GT(rig_.device().damaged_records(), 0U);
  EXPECT_EQ(read_blocks(rig_, 0, 4), expected);
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 4), expected);
}

TEST_P(Direct, ADamagedRecordInTheMiddleVoidsWhatIsOlder) {
  ASSERT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 1));
  ASSERT_EQ(rig_.write(512, filled(512, 7)), 0);
  if (!admits()) return;
  const Stored gone = stored(rig_, 0);
  ASSERT_EQ(read_blocks(rig_, 100, 1), blocks_of(100, 1, 1));
  ASSERT_EQ(read_blocks(rig_, 101, 1), blocks_of(101, 1, 1));
  const Bytes expected = backing_blocks(rig_, 0, 4);
  rig_.close();
  damage(rig_, gone.record_offset);
  rig_.open();
  EXPECT_FALSE(rig_.device().failed());
  EXPECT_EQ(rig_.device().damaged_records(), 1U);
  EXPECT_EQ(read_blocks(rig_, 0, 4), expected);
}

// The backing has a volatile cache: what it had not flushed it may lose, and what was kept of that with it.
TEST_P(Direct, WhatTheBackingLosesWithThePowerTheCacheDoesNotKeep) {
  ASSERT_EQ(read_blocks(rig_, 10, 4), blocks_of(10, 4, 1));
  ASSERT_EQ(write_blocks(rig_, 0, 4, 2), 0);
  ASSERT_EQ(rig_.flush(), 0);
  ASSERT_EQ(write_blocks(rig_, 2, 4, 3), 0);
  ASSERT_EQ(read_blocks(rig_, 2, 4), blocks_of(2, 4, 3));  // copied into the cache, if not before
  rig_.power_cut();
  Bytes expected = blocks_of(0, 6, 1);
  put(expected, 0, blocks_of(0, 4, 2));
  EXPECT_EQ(backing_blocks(rig_, 0, 6), expected);
  EXPECT_EQ(read_blocks(rig_, 0, 6), expected);
  // Nor do they count once later epochs are clean.
  ASSERT_EQ(read_blocks(rig_, 20, 4), blocks_of(20, 4, 1));
  ASSERT_EQ(rig_.drain(), 0);
  rig_.kill();
  EXPECT_EQ(read_blocks(rig_, 0, 6), expected);
}

TEST_P(Direct, WhatTheBackingMayHaveDroppedWithAFailedFlushIsNotKept) {
  for (const bool by_user : {true, false}) {
    fill_backing(rig_, 1);
    ASSERT_EQ(rig_.discard(0, 6 * kBlockSize), 0);
    ASSERT_EQ(rig_.flush(), 0);
    ASSERT_EQ(write_blocks(rig_, 2, 4, 3), 0);
    ASSERT_EQ(read_blocks(rig_, 2, 4), blocks_of(2, 4, 3));
    rig_.backing().fail({.flushes = 1});
    if (by_user) {
      EXPECT_EQ(rig_.flush(), EIO);
    } else {
      EXPECT_EQ(rig_.drain(), EIO);
    }
    rig_.backing_image().current = rig_.backing_image().durable;  // it did
    EXPECT_EQ(rig_.flush(), by_user ? 0 : EIO);
    EXPECT_TRUE(read_blocks(rig_, 0, 6) == Bytes(6 * kBlockSize));
    ASSERT_EQ(rig_.drain(), 0);
    rig_.kill();
    EXPECT_TRUE(read_blocks(rig_, 0, 6) == Bytes(6 * kBlockSize));
  }
}

TEST_P(Direct, ACopyOfWhatWasFlushedSurvives) {
  ASSERT_EQ(read_blocks(rig_, 10, 4), blocks_of(10, 4, 1));
  ASSERT_EQ(write_blocks(rig_, 0, 4, 2), 0);
  ASSERT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 2));
  const std::uint64_t kept = admits() ? 8 * kBlockSize : 0;
  EXPECT_EQ(rig_.device().stats().cached_bytes, kept);
  rig_.reopen();
  EXPECT_EQ(rig_.device().stats().cached_bytes, kept);
  rig_.kill();
  EXPECT_EQ(rig_.device().stats().cached_bytes, kept) << "what an orderly close had flushed";
  ASSERT_EQ(write_blocks(rig_, 0, 4, 3), 0);
  ASSERT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 3));
  ASSERT_EQ(rig_.drain(), 0);
  rig_.kill();
  EXPECT_EQ(rig_.device().stats().cached_bytes, kept) << "what a drain had flushed";
}

TEST_P(Direct, ABackingThatFailsItsLastFlushIsAsAfterACrash) {
  ASSERT_EQ(write_blocks(rig_, 0, 4, 2), 0);
  ASSERT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 2));
  rig_.backing().fail({.flushes = 1});
  rig_.close();
  rig_.backing_image().power_cut();
  rig_.open();
  EXPECT_EQ(read_blocks(rig_, 0, 4), blocks_of(0, 4, 1));
}

TEST_P(Direct, StopEndsWhatWaits) {
  rig_.backing().hold(true);
  std::array<Outcome, 2> outcomes;
  const Bytes data = blocks_of(0, 1, 2);
  for (Outcome& outcome : outcomes) rig_.device().write(0, data, outcome.completion());
  rig_.backing().hold(false);
  rig_.device().refuse_writes(true);
  rig_.backing().release_all();
  EXPECT_EQ(outcomes[0].error, 0);
  EXPECT_EQ(outcomes[1].error, EIO);
  rig_.device().stop();
  EXPECT_EQ(write_blocks(rig_, 0, 1, 3), EIO);
}

INSTANTIATE_TEST_SUITE_P(Modes, Direct,
                         testing::Combine(testing::Values(Mode::writethrough, Mode::writearound, Mode::passthrough),
                                          testing::Values(Granularity::cache_line, Granularity::page)),
                         [](const auto& shape) { return name_of(shape.param); });

// --- Writeonly

TEST(Writeonly, CachesWritesAndAdmitsNoReads) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_TRUE(switch_to(rig, Mode::writeonly).ok());
  ASSERT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 1));
  ASSERT_EQ(write_blocks(rig, 4, 4, 2), 0);
  EXPECT_EQ(backing_blocks(rig, 4, 4), blocks_of(4, 4, 1));
  EXPECT_EQ(read_blocks(rig, 4, 4), blocks_of(4, 4, 2));
  const LogicDevStats stats = rig.device().stats();
  EXPECT_EQ(stats.read_fills, 0U);
  EXPECT_EQ(stats.read_hits, 4U);
  EXPECT_EQ(stats.cached_bytes, 4 * kBlockSize);
  EXPECT_EQ(stats.not_admitted_mode, 8U);
  EXPECT_EQ(stats.mode, "writeonly");
}

// --- Switching

class Switch : public testing::TestWithParam<Granularity> {
 protected:
  static RigShape shape() {
    RigShape shape;
    shape.granularity = GetParam();
    return shape;
  }
};

// From each mode to each, with writes before and after, over restarts; the power goes after each flush.
TEST_P(Switch, FromEachModeToEachNothingIsLostAndNothingOldIsRead) {
  for (const Mode from : kModes) {
    for (const Mode to : kModes) {
      SCOPED_TRACE(std::to_string(static_cast<int>(from)) + " to " + std::to_string(static_cast<int>(to)));
      EngineRig rig(shape());
      fill_backing(rig, 1);
      ASSERT_EQ(read_blocks(rig, 0, 40), blocks_of(0, 40, 1));
      ASSERT_TRUE(switch_to(rig, from).ok());
      ASSERT_EQ(write_blocks(rig, 0, 10, 2), 0);
      ASSERT_EQ(rig.write(20 * kBlockSize + 700, filled(1000, 9)), 0);
      ASSERT_EQ(rig.discard(30 * kBlockSize, 2 * kBlockSize), 0);
      Bytes content = blocks_of(0, 40, 1);
      put(content, 0, blocks_of(0, 10, 2));
      put(content, 20 * kBlockSize + 700, filled(1000, 9));
      put(content, 30 * kBlockSize, Bytes(2 * kBlockSize));
      ASSERT_TRUE(switch_to(rig, to).ok());
      EXPECT_EQ(rig.device().mode(), to);
      EXPECT_EQ(read_blocks(rig, 0, 40), content);
      if (is_direct(to)) {
        EXPECT_EQ(rig.device().dirty_bytes(), 0U);
        EXPECT_EQ(backing_blocks(rig, 0, 40), content);
      }
      // What was acknowledged before the switch is behind this flush too.
      ASSERT_EQ(rig.flush(), 0);
      rig.power_cut();
      EXPECT_EQ(rig.device().mode(), to);
      EXPECT_EQ(read_blocks(rig, 0, 40), content);
      ASSERT_EQ(write_blocks(rig, 5, 10, 3), 0);
      put(content, 5 * kBlockSize, blocks_of(5, 10, 3));
      rig.kill();
      EXPECT_EQ(read_blocks(rig, 0, 40), content);
      ASSERT_TRUE(switch_to(rig, from).ok());
      ASSERT_EQ(write_blocks(rig, 12, 5, 4), 0);
      put(content, 12 * kBlockSize, blocks_of(12, 5, 4));
      EXPECT_EQ(read_blocks(rig, 0, 40), content);
      rig.reopen();
      EXPECT_EQ(read_blocks(rig, 0, 40), content);
      ASSERT_EQ(rig.drain(), 0);
      EXPECT_EQ(part(rig.backing_image().durable, 0, 40 * kBlockSize), content);
    }
  }
}

TEST_P(Switch, ABackingThatFailsLeavesTheModeAsItIs) {
  EngineRig rig(shape());
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  rig.backing().fail({.writes = 1});
  EXPECT_FALSE(switch_to(rig, Mode::writearound).ok());
  EXPECT_EQ(rig.device().mode(), Mode::writeback);
  EXPECT_FALSE(rig.device().pending_mode());
  ASSERT_EQ(write_blocks(rig, 4, 8, 3), 0);
  EXPECT_EQ(read_blocks(rig, 0, 4), blocks_of(0, 4, 2));
  ASSERT_TRUE(switch_to(rig, Mode::writearound).ok());
  EXPECT_EQ(backing_blocks(rig, 4, 8), blocks_of(4, 8, 3));
  rig.backing().fail({.flushes = 1});
  EXPECT_FALSE(switch_to(rig, Mode::writeback).ok()) << "it is left without what was acknowledged being durable";
  EXPECT_EQ(rig.device().mode(), Mode::writearound);
  ASSERT_EQ(write_blocks(rig, 0, 1, 4), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 1), blocks_of(0, 1, 4));
}

TEST_P(Switch, AMediumThatTakesNoRecordLeavesTheModeAsItIs) {
  EngineRig rig(shape());
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  ASSERT_EQ(rig.drain(), 0);
  const std::uint64_t record = rig.cache().cache_dev().geometry().device_records;
  rig.space().fail_writes(record, 4096);
  EXPECT_FALSE(switch_to(rig, Mode::writearound).ok());
  EXPECT_EQ(rig.device().mode(), Mode::writeback);
  ASSERT_EQ(write_blocks(rig, 0, 8, 3), 0);
  EXPECT_NE(backing_blocks(rig, 0, 8), blocks_of(0, 8, 3));
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 3));
}

TEST_P(Switch, PassthroughGivesItsSegmentsBackAndMayBeLeftAgain) {
  EngineRig rig(shape());
  fill_backing(rig, 1);
  ASSERT_EQ(read_blocks(rig, 0, 300), blocks_of(0, 300, 1));
  ASSERT_EQ(write_blocks(rig, 0, 200, 2), 0);
  ASSERT_TRUE(switch_to(rig, Mode::writethrough, true).ok());
  EXPECT_EQ(rig.device().mode(), Mode::passthrough);
  EXPECT_EQ(rig.device().mode_choice(), (ModeChoice{Mode::writethrough, true}));
  ASSERT_EQ(write_blocks(rig, 0, 10, 3), 0);
  rig.kill();
  EXPECT_EQ(rig.cache().pool().free_count(), rig.cache().pool().total());
  EXPECT_EQ(rig.device().mode_choice(), (ModeChoice{Mode::writethrough, true}));
  EXPECT_EQ(read_blocks(rig, 0, 10), blocks_of(0, 10, 3));
  ASSERT_TRUE(switch_to(rig, Mode::writethrough).ok());
  EXPECT_EQ(read_blocks(rig, 0, 10), blocks_of(0, 10, 3));
  EXPECT_EQ(read_blocks(rig, 10, 190), blocks_of(10, 190, 2));
  rig.reopen();
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(rig.device().stats().cached_bytes, 200 * kBlockSize);
}

// The segments are given back one at a time, by the worker.
// Copies that count only once the backing is flushed are no reason to keep their segments.
TEST_P(Switch, PassthroughMayBeLeftAgainWhateverModeCameBefore) {
  for (const Mode before : kModes) {
    SCOPED_TRACE(static_cast<int>(before));
    EngineRig rig{shape()};
    ASSERT_TRUE(switch_to(rig, before).ok());
    ASSERT_EQ(write_blocks(rig, 0, 3 * slots_per_segment(rig), 2), 0);
    ASSERT_TRUE(switch_to(rig, Mode::passthrough).ok());
    ASSERT_EQ(write_blocks(rig, 0, 1, 3), 0);
    const Status left = switch_to(rig, Mode::writeback);
    EXPECT_TRUE(left.ok()) << left.message();
    EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 3));
    EXPECT_EQ(read_blocks(rig, 1, 2 * slots_per_segment(rig)), blocks_of(1, 2 * slots_per_segment(rig), 2));
  }
}

TEST_P(Switch, AVoidLogIsGivenBackStepByStepAndMayBeCutOff) {
  EngineRig rig(shape());
  fill_backing(rig, 1);
  for (std::uint64_t block = 0; block < 600; block += 60)
    ASSERT_EQ(read_blocks(rig, block, 60).size(), 60 * kBlockSize);
  const std::uint32_t free = rig.cache().pool().free_count();
  ASSERT_TRUE(switch_to(rig, Mode::passthrough).ok());
  EXPECT_EQ(rig.cache().pool().free_count(), free);
  ASSERT_EQ(write_blocks(rig, 0, 600, 2), 0);
  (void)rig.device().background_step();
  EXPECT_GT(rig.cache().pool().free_count(), free);
  EXPECT_LT(rig.cache().pool().free_count(), rig.cache().pool().total());
  rig.reopen();
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(rig.device().damaged_records(), 0U);
  EXPECT_EQ(read_blocks(rig, 0, 600), blocks_of(0, 600, 2));
  ASSERT_TRUE(switch_to(rig, Mode::writeback).ok());
  EXPECT_EQ(read_blocks(rig, 0, 600), blocks_of(0, 600, 2));
}

TEST_P(Switch, ALostBlockKeepsFromPassthroughAndIsCuredByAWholeWrite) {
  EngineRig rig(shape());
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 2, 2), 0);
  damage(rig, stored(rig, 0).cell_offset);
  ASSERT_EQ(rig.drain(), EIO);
  ASSERT_EQ(rig.device().lost_blocks(), 1U);
  EXPECT_EQ(switch_to(rig, Mode::passthrough).code(), Errc::integrity);
  ASSERT_TRUE(switch_to(rig, Mode::writearound).ok());
  EXPECT_EQ(read_error(rig, 0), EIO);
  EXPECT_EQ(rig.write(512, filled(512, 1)), EIO) << "the rest of the block is nowhere";
  EXPECT_EQ(rig.write(kBlockSize - 512, filled(1024, 1)), EIO);
  EXPECT_EQ(read_blocks(rig, 1, 1), blocks_of(1, 1, 2));
  ASSERT_EQ(write_blocks(rig, 0, 1, 3), 0);
  EXPECT_EQ(rig.device().lost_blocks(), 0U);
  rig.kill();
  EXPECT_EQ(rig.device().lost_blocks(), 0U);
  EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 3));
  EXPECT_TRUE(switch_to(rig, Mode::passthrough).ok());
}

INSTANTIATE_TEST_SUITE_P(Media, Switch, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& shape) { return std::string(to_string(shape.param)); });

}  // namespace
}  // namespace pcache
