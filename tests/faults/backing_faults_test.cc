// A backing device that fails, stalls, shrinks: nothing is lost, who has to know is told, and what works goes on.

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/logic_io.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

// Three epochs: overwrites, discards, runs and single blocks. Returns what the blocks hold in the end.
Bytes write_epochs(EngineRig& rig) {
  Bytes content = fill_backing(rig, 1);
  const auto write = [&](std::uint64_t first, std::uint64_t count, std::uint64_t version) {
    EXPECT_EQ(write_blocks(rig, first, count, version), 0);
    put(content, first * kBlockSize, blocks_of(first, count, version));
  };
  const auto discard = [&](std::uint64_t first, std::uint64_t count) {
    EXPECT_EQ(rig.discard(first * kBlockSize, count * kBlockSize), 0);
    put(content, first * kBlockSize, Bytes(count * kBlockSize));
  };
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    write(0, 20, 10 + epoch);
    discard(100 + 10 * epoch, 15);
    write(300 - epoch, 3, 20 + epoch);
    discard(400, 200 - 50 * epoch);
    write(420, 1, 30 + epoch);
    EXPECT_EQ(rig.flush(), 0);
  }
  return content;
}

struct Kind {
  const char* name;
  FakeBackingDev::Failures failures;
};

class BackingFaults : public testing::TestWithParam<Kind> {};

// One operation of writeback after the other fails, once or several times in a row, until there is none left to fail.
TEST_P(BackingFaults, WhicheverOperationOfWritebackFailsTheDataStaysDirtyAndIsWrittenOnceItWorks) {
  int hit = 0;
  for (int n = 0;; ++n) {
    SCOPED_TRACE("operation " + std::to_string(n));
    EngineRig rig{RigShape()};
    const Bytes content = write_epochs(rig);
    FakeBackingDev::Failures failures = GetParam().failures;
    failures.after = n;
    rig.backing().fail(failures);

    std::uint64_t failed_attempts = 0;
    for (;;) {
      const std::uint64_t clean = rig.device().stats().clean_epoch;
      const std::uint64_t dirty = rig.device().dirty_bytes();
      const std::uint64_t failed = rig.backing().counts().failed;
      if (rig.device().writeback_step()) {
        ASSERT_EQ(rig.backing().counts().failed, failed) << "a failure passed for success";
        continue;
      }
      if (rig.backing().counts().failed == failed) break;  // all is written
      ++failed_attempts;
      const LogicDevStats stats = rig.device().stats();
      EXPECT_EQ(stats.clean_epoch, clean);
      EXPECT_EQ(rig.cache().cache_dev().clean_epoch(rig.device().place()).value(), clean);
      EXPECT_EQ(stats.dirty_bytes, dirty);
      EXPECT_EQ(stats.writeback_errors, failed_attempts);
      EXPECT_EQ(stats.state, "running");
      EXPECT_NE(stats.detail.find(rig.backing().path()), std::string::npos) << stats.detail;
      EXPECT_TRUE(read_blocks(rig, 0, 20) == part(content, 0, 20 * kBlockSize));
      if (failed_attempts == 2) {
        rig.power_cut();  // the backing loses what was not flushed, and is another object that works
        EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
        EXPECT_GE(rig.device().dirty_bytes(), dirty);
        ASSERT_TRUE(read_blocks(rig, 0, content.size() / kBlockSize) == content);
        break;
      }
    }
    if (failed_attempts == 0) break;
    ++hit;
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(rig.device().dirty_bytes(), 0U);
    EXPECT_EQ(rig.device().stats().detail, "");
    EXPECT_TRUE(rig.backing_image().durable == content);
    EXPECT_TRUE(read_blocks(rig, 0, content.size() / kBlockSize) == content);
  }
  EXPECT_GE(hit, 3) << "there is one in each epoch at least";
}

INSTANTIATE_TEST_SUITE_P(Kinds, BackingFaults,
                         testing::Values(Kind{"write", {.writes = 1}}, Kind{"torn_write", {.writes = 1, .tear = true}},
                                         Kind{"writes", {.writes = 100}}, Kind{"zeroes", {.zeroes = 1}},
                                         Kind{"torn_zeroes", {.zeroes = 100, .tear = true}},
                                         Kind{"flush", {.flushes = 1}}, Kind{"flushes", {.flushes = 100}},
                                         Kind{"disk_full", {.writes = 1, .error = ENOSPC}},
                                         Kind{"anything", {.writes = 100, .flushes = 100, .zeroes = 100}}),
                         [](const auto& kind) { return kind.param.name; });

TEST(BackingReads, AnErrorGoesToThoseWhoSharedTheReadAndToNobodyElse) {
  Bytes buffers[4];
  Outcome outcomes[4];
  const Bytes tail = blocks_of(5, 1, 2);
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  rig.backing().hold(true);
  const std::uint64_t blocks[] = {5, 5, 300};
  for (std::size_t i = 0; i < 3; ++i) {
    buffers[i].resize(kBlockSize);
    rig.device().read(blocks[i] * kBlockSize, buffers[i], outcomes[i].completion());
  }
  // A write of a part of the block waits for the same read.
  rig.device().write(5 * kBlockSize + 100, {tail.data(), 10}, outcomes[3].completion());
  ASSERT_EQ(rig.backing().held(), 2U);
  rig.backing().fail({.reads = 1});
  ASSERT_TRUE(rig.backing().release_one());
  EXPECT_EQ(outcomes[0].error, EIO);
  EXPECT_EQ(outcomes[1].error, EIO);
  EXPECT_EQ(outcomes[3].error, EIO);
  EXPECT_FALSE(outcomes[2].done);
  rig.backing().hold(false);
  rig.backing().release_all();
  EXPECT_EQ(outcomes[2].error, 0);
  EXPECT_EQ(buffers[2], blocks_of(300, 1, 1));

  EXPECT_EQ(read_blocks(rig, 5, 1), blocks_of(5, 1, 1)) << "the next reader asks again";
  ASSERT_EQ(rig.write(5 * kBlockSize + 100, {tail.data(), 10}), 0);
  Bytes expected = blocks_of(5, 1, 1);
  put(expected, 100, part(tail, 0, 10));
  EXPECT_EQ(read_blocks(rig, 5, 1), expected);
  EXPECT_EQ(rig.device().stats().checksum_errors, 0U);
}

TEST(BackingReads, AnswersInAnyOrderReachTheirReaders) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  std::mt19937_64 random(1);
  std::vector<Bytes> buffers(40, Bytes(3 * kBlockSize));
  std::vector<Outcome> outcomes(buffers.size());
  rig.backing().hold(true);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    rig.device().read(i * 7 * kBlockSize, buffers[i], outcomes[i].completion());
  }
  ASSERT_GT(rig.backing().held(), 10U);
  while (rig.backing().held() != 0) rig.backing().release_one(random() % rig.backing().held());
  rig.backing().hold(false);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(outcomes[i].error, 0);
    EXPECT_EQ(buffers[i], blocks_of(i * 7, 3, 1));
  }
}

class BackingFlush : public testing::TestWithParam<Granularity> {
 protected:
  static RigShape shape() {
    RigShape shape;
    shape.granularity = GetParam();
    return shape;
  }
};

// What is acknowledged is safe in the cache all the same; a user who asks is told, once.
TEST_P(BackingFlush, AFailureIsReportedByTheNextFsyncOnce) {
  EngineRig rig{shape()};
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  ASSERT_EQ(rig.flush(), 0);
  rig.backing().fail({.flushes = 2});
  ASSERT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(rig.device().stats().clean_epoch, 0U);
  ASSERT_EQ(write_blocks(rig, 3, 1, 2), 0);
  EXPECT_EQ(rig.flush(), EIO);
  EXPECT_EQ(rig.flush(), 0);
  ASSERT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(rig.flush(), EIO) << "it failed again";
  rig.power_cut([](std::size_t) { return false; });
  EXPECT_EQ(read_blocks(rig, 3, 1), blocks_of(3, 1, 2)) << "a flush that reports this made durable what there was";
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().durable, 0, 3 * kBlockSize), blocks_of(0, 3, 1));
  EXPECT_EQ(rig.flush(), 0);
}

TEST_P(BackingFlush, AFailureOfAWriteIsNoneOfTheFsyncs) {
  EngineRig rig{shape()};
  ASSERT_EQ(write_blocks(rig, 0, 3, 1), 0);
  ASSERT_EQ(rig.flush(), 0);
  rig.backing().fail({.writes = 1});
  ASSERT_FALSE(rig.device().writeback_step());
  EXPECT_EQ(rig.flush(), 0);
}

INSTANTIATE_TEST_SUITE_P(Media, BackingFlush, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& media) { return to_string(media.param); });

TEST(Backing, ThatShrankKeepsItsDataDirtyUntilItIsWhole) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 2, 2), 0);
  ASSERT_EQ(write_blocks(rig, 500, 2, 2), 0);
  rig.backing().shrink(400 * kBlockSize);
  EXPECT_EQ(rig.drain(), EIO);
  EXPECT_EQ(rig.device().dirty_bytes(), 4 * kBlockSize);
  EXPECT_EQ(rig.device().stats().clean_epoch, 0U);
  EXPECT_NE(rig.device().stats().detail, "");
  EXPECT_EQ(read_blocks(rig, 500, 2), blocks_of(500, 2, 2));
  EXPECT_EQ(read_blocks(rig, 10, 2), blocks_of(10, 2, 1));
  Bytes beyond(kBlockSize);
  EXPECT_EQ(rig.read(450 * kBlockSize, beyond), EIO);
  rig.backing().shrink(rig.backing().size_bytes());
  EXPECT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().durable, 500 * kBlockSize, 2 * kBlockSize), blocks_of(500, 2, 2));
}

// --- With the engine's own threads

// Polls, for something that the engine's threads bring about without telling.
bool comes_true(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

struct RunningBacking : testing::TestWithParam<Granularity> {
  RunningBacking() {
    fill_backing(rig, 1);
    rig.cache().start();
  }
  ~RunningBacking() override {
    rig.backing().hold(false);
    rig.backing().release_all();
  }

  static RigShape shape() {
    RigShape shape;
    shape.granularity = GetParam();
    return shape;
  }
  int write(std::uint64_t block, std::uint64_t version) {
    const Bytes bytes = blocks_of(block, 1, version);
    return finish([&](Completion done) { rig.device().write(block * kBlockSize, bytes, done); });
  }
  Bytes read(std::uint64_t block) {
    Bytes bytes(kBlockSize);
    EXPECT_EQ(finish([&](Completion done) { rig.device().read(block * kBlockSize, bytes, done); }), 0);
    return bytes;
  }

  EngineRig rig{shape()};
};

TEST_P(RunningBacking, ThatStallsHoldsUpNothingThatDoesNotNeedIt) {
  Bytes missed(kBlockSize);
  std::promise<int> miss;
  ASSERT_EQ(write(0, 2), 0);
  EXPECT_EQ(read(300), blocks_of(300, 1, 1));
  rig.backing().hold(true);
  ASSERT_EQ(write(1, 2), 0);
  ASSERT_EQ(flush(rig.device()), 0);
  ASSERT_TRUE(comes_true([&] { return rig.backing().held() != 0; })) << "writeback does not begin";
  rig.device().read(
      200 * kBlockSize, missed,
      {[](void* context, int error) { static_cast<std::promise<int>*>(context)->set_value(error); }, &miss});
  for (std::uint64_t round = 3; round < 20; ++round) {
    EXPECT_EQ(write(1, round), 0);
    EXPECT_EQ(write(10 + round, round), 0);
    EXPECT_EQ(read(1), blocks_of(1, 1, round));
    EXPECT_EQ(read(0), blocks_of(0, 1, 2));
    EXPECT_EQ(read(300), blocks_of(300, 1, 1));
    EXPECT_EQ(flush(rig.device()), 0);
    EXPECT_EQ(rig.device().stats().clean_epoch, rig.cache().cache_dev().clean_epoch(rig.device().place()).value());
    EXPECT_EQ(rig.cache().stats().segments, rig.cache().pool().total());
  }
  rig.backing().hold(false);
  rig.backing().release_all();
  EXPECT_EQ(miss.get_future().get(), 0);
  EXPECT_EQ(missed, blocks_of(200, 1, 1));
  EXPECT_TRUE(comes_true([&] { return rig.device().dirty_bytes() == 0; })) << "it does not catch up";
  EXPECT_EQ(part(rig.backing_image().current, kBlockSize, kBlockSize), blocks_of(1, 1, 19));
}

TEST_P(RunningBacking, ThatComesBackIsCaughtUpByItself) {
  rig.backing().fail({.writes = 1 << 30, .flushes = 1 << 30, .zeroes = 1 << 30});
  for (std::uint64_t block = 0; block < 20; ++block) ASSERT_EQ(write(block, 2), 0);
  ASSERT_TRUE(comes_true([&] { return rig.device().stats().writeback_errors >= 2; }));
  EXPECT_NE(rig.device().stats().detail, "");
  EXPECT_EQ(rig.device().stats().dirty_bytes, 20 * kBlockSize);
  rig.backing().fail({});
  EXPECT_TRUE(comes_true([&] { return rig.device().stats().dirty_bytes == 0; }));
  EXPECT_EQ(part(rig.backing_image().durable, 0, 20 * kBlockSize), blocks_of(0, 20, 2));
  EXPECT_EQ(rig.device().stats().detail, "");
}

// Whatever wakes the writeback of a full cache: it does not ask a backing that fails more than about once a second.
TEST_P(RunningBacking, ThatFailsIsNotAskedWithoutRest) {
  rig.backing().fail({.writes = 1 << 30, .flushes = 1 << 30, .zeroes = 1 << 30});
  const auto begin = std::chrono::steady_clock::now();
  int error = 0;
  for (std::uint64_t i = 0; error == 0; ++i) {
    ASSERT_LT(i, 100'000U) << "the cache never fills";
    error = write(i % 600, 2 + i / 600);
  }
  EXPECT_EQ(error, EIO) << "a write that waits for space is told in the end";
  const std::uint64_t attempts = rig.device().stats().writeback_errors;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin);
  EXPECT_GE(attempts, 3U);
  EXPECT_LE(attempts, static_cast<std::uint64_t>(seconds.count()) + 2);
}

INSTANTIATE_TEST_SUITE_P(Media, RunningBacking, testing::Values(Granularity::cache_line, Granularity::page),
                         [](const auto& media) { return to_string(media.param); });

}  // namespace
}  // namespace pcache
