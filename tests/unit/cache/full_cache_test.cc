// What becomes of writes when there is little space left, and when there is none.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "cache/throttle.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

TEST(Throttle, SlowsDownWithoutStepsFromTheMarkOnToNothing) {
  constexpr std::uint64_t kMark = 1000;
  constexpr std::uint64_t kSpeed = 1'000'000;
  EXPECT_EQ(Throttle::rate(kMark, kMark, kSpeed), Throttle::kUnlimited);
  EXPECT_EQ(Throttle::rate(0, kMark, kSpeed), kSpeed / 16) << "it finds out by itself that there is no space";
  EXPECT_EQ(Throttle::rate(kMark / 2, kMark, kSpeed), kSpeed);
  EXPECT_EQ(Throttle::rate(kMark - 1, kMark, kSpeed), kSpeed * 16);
  for (std::uint64_t left = 1; left < kMark; ++left) {
    const std::uint64_t slower = Throttle::rate(left - 1, kMark, kSpeed);
    const std::uint64_t faster = Throttle::rate(left, kMark, kSpeed);
    EXPECT_GE(faster, slower);
    EXPECT_LE(faster, slower + slower / 10) << "a step at " << left;
  }
  EXPECT_EQ(Throttle::rate(1, kMark, 0), Throttle::kUnlimited) << "nothing is known of the backing's speed";
}

TEST(Throttle, LetsThroughWhatTheRateSays) {
  for (const std::uint64_t rate : {2'000ULL, 3'000'000ULL, 400'000'000ULL}) {
    Throttle throttle;
    EXPECT_FALSE(throttle.on());
    EXPECT_TRUE(throttle.take(1 << 30, 1)) << "no limit";
    throttle.set_rate(rate, 1);
    EXPECT_TRUE(throttle.on());
    EXPECT_FALSE(throttle.take(1, 1));
    std::uint64_t taken = 0;
    for (std::uint64_t now = 2; now <= 10'001; ++now) {
      while (throttle.take(4096, now)) taken += 4096;
    }
    EXPECT_GE(taken, rate * 10 - 4096);
    EXPECT_LE(taken, rate * 10 + 2 * 4096);
    throttle.set_rate(Throttle::kUnlimited, 10'001);
    EXPECT_FALSE(throttle.on());
  }
}

class FullCache : public testing::Test {
 protected:
  void start(FullPolicy policy, std::uint64_t max_wait_ms = 10'000) {
    RigShape shape;
    shape.own_clock = true;
    shape.settings.set(Setting::full_policy, static_cast<std::uint64_t>(policy));
    shape.settings.set(Setting::full_max_wait, max_wait_ms);
    rig_ = std::make_unique<EngineRig>(shape);
  }
  EngineRig& rig() { return *rig_; }
  LogicDevStats stats() { return rig_->device().stats(); }

  // Every slot that writes may take is dirty. Returns how many there are.
  std::uint64_t fill() {
    const std::uint64_t count = room_for_blocks(rig());
    EXPECT_EQ(write_blocks(rig(), 0, count, 1), 0);
    return count;
  }

  struct Write {
    explicit Write(std::uint64_t block) : bytes(blocks_of(block, 1, 2)) {}
    const Bytes bytes;
    Outcome outcome;
  };
  Write& write(std::uint64_t block) {
    writes_.push_back(std::make_unique<Write>(block));
    rig().device().write(block * kBlockSize, writes_.back()->bytes, writes_.back()->outcome.completion());
    return *writes_.back();
  }

 private:
  std::vector<std::unique_ptr<Write>> writes_;  // outlive the rig, which ends them
  std::unique_ptr<EngineRig> rig_;
};

// A backing that takes a block each millisecond has written something back, and little space is left.
TEST_F(FullCache, WritesTakeTurnsAtTheBackingsSpeedBeforeTheSpaceIsUsedUp) {
  start(FullPolicy::throttle);
  rig().backing().on_write = [this](std::uint64_t, std::uint64_t length) { rig().advance(length / kBlockSize); };
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_EQ(write_blocks(rig(), 2 * i, 1, 1), 0);
  ASSERT_EQ(rig().drain(), 0);
  const std::uint64_t slots = slots_per_segment(rig());
  for (std::uint64_t i = 0; !rig().cache().nearly_full(); i += slots)
    ASSERT_EQ(write_blocks(rig(), i % 1000, slots, 1), 0);
  EXPECT_GT(rig().cache().pool().free_count(), rig().cache().reserve());
  rig().cache().throttle_step();

  std::vector<Write*> writes;
  for (std::uint64_t i = 0; i < 200; ++i) writes.push_back(&write(i));
  EXPECT_FALSE(writes.back()->outcome.done);
  EXPECT_EQ(read_blocks(rig(), 500, 8), blocks_of(500, 8, 1)) << "reads go on";
  EXPECT_EQ(rig().cache().throttle_step().count(), 1);
  const auto done = [&] {
    std::uint64_t count = 0;
    for (const Write* w : writes) count += w->outcome.done ? 1 : 0;
    return count;
  };
  const std::uint64_t before = done();
  for (int i = 0; i < 100; ++i) {
    rig().advance(1);
    rig().cache().throttle_step();
  }
  // The backing takes a thousand blocks a second; how far below the mark the space is decides how many go on.
  EXPECT_GE(done() - before, 10U);
  EXPECT_LE(done() - before, 199U);
  for (std::uint64_t i = 0; i + 1 < writes.size(); ++i) {
    EXPECT_GE(writes[i]->outcome.done, writes[i + 1]->outcome.done) << "out of turn: " << i + 1;
  }
  EXPECT_EQ(stats().space_waits, 0U);
  EXPECT_EQ(stats().waiting_writes, writes.size() - done()) << "for their turn";
  EXPECT_GE(stats().longest_wait_ms, 100U);

  for (int i = 0; i < 100'000 && done() < writes.size(); ++i) {
    rig().step();
    rig().advance(1);
    rig().cache().throttle_step();
  }
  for (const Write* w : writes) EXPECT_EQ(w->outcome.error, 0);
  EXPECT_GT(stats().throttled_ms, 100U);
  EXPECT_EQ(stats().waiting_writes, 0U);
  EXPECT_EQ(read_blocks(rig(), 0, 200), blocks_of(0, 200, 2));
}

TEST_F(FullCache, WritesAreNotHeldUpWhileThereIsSpaceThatOnlyHasToBeReclaimed) {
  start(FullPolicy::throttle);
  rig().backing().on_write = [this](std::uint64_t, std::uint64_t length) { rig().advance(length / kBlockSize); };
  fill();
  EXPECT_EQ(rig().cache().stats().segments_clean, 0U);
  ASSERT_EQ(rig().drain(), 0);
  EXPECT_FALSE(rig().cache().nearly_full());
  EXPECT_EQ(rig().cache().pool().free_count(), rig().cache().reserve());
  EXPECT_GT(rig().cache().stats().segments_clean, rig().cache().pool().total() / 2);
  rig().cache().throttle_step();
  EXPECT_FALSE(rig().device().throttles());
  Write& waiting = write(0);
  EXPECT_TRUE(rig().cache().reclaim_step());
  EXPECT_TRUE(waiting.outcome.done);
  EXPECT_EQ(waiting.outcome.error, 0);
}

TEST_F(FullCache, WithTheErrorPolicyAWriteFailsOnceNothingCleanIsLeftAndNotBefore) {
  start(FullPolicy::error);
  const std::uint64_t count = fill();
  Write& refused = write(3);
  EXPECT_FALSE(refused.outcome.done);
  rig().cache().reclaim_step();
  ASSERT_TRUE(refused.outcome.done);
  EXPECT_EQ(refused.outcome.error, ENOSPC);
  EXPECT_TRUE(read_blocks(rig(), 0, count) == blocks_of(0, count, 1));
  EXPECT_EQ(rig().device().dirty_bytes(), count * kBlockSize);

  ASSERT_TRUE(rig().commit().ok());
  Write& waiting = write(4);
  ASSERT_TRUE(rig().device().writeback_step());
  EXPECT_TRUE(rig().cache().reclaim_step());
  EXPECT_TRUE(waiting.outcome.done);
  EXPECT_EQ(waiting.outcome.error, 0);
  EXPECT_EQ(read_blocks(rig(), 3, 2), [&] {
    Bytes expected = blocks_of(3, 2, 1);
    put(expected, kBlockSize, blocks_of(4, 1, 2));
    return expected;
  }());
}

TEST_F(FullCache, AWriteFailsOnceTheBackingTookNothingForFullMaxWait) {
  start(FullPolicy::throttle, 500);
  const std::uint64_t count = fill();
  Write& first = write(0);
  rig().advance(300);
  Write& second = write(1);
  rig().advance(199);
  rig().cache().reclaim_step();
  EXPECT_FALSE(first.outcome.done);
  rig().advance(1);
  rig().cache().reclaim_step();
  ASSERT_TRUE(first.outcome.done);
  EXPECT_EQ(first.outcome.error, ENOSPC);
  EXPECT_FALSE(second.outcome.done);
  EXPECT_EQ(stats().throttled_ms, 500U);

  // The second one waits on while writeback gets on, be it by a block.
  ASSERT_TRUE(rig().commit().ok());
  rig().advance(299);
  EXPECT_EQ(rig().device().write_back(1).step, CachedDevice::WriteBack::Step::part);
  rig().advance(499);
  rig().cache().reclaim_step();
  EXPECT_FALSE(second.outcome.done);
  ASSERT_TRUE(rig().device().writeback_step());
  EXPECT_TRUE(rig().cache().reclaim_step());
  EXPECT_TRUE(second.outcome.done);
  EXPECT_EQ(second.outcome.error, 0);
  EXPECT_EQ(read_blocks(rig(), 0, 1), blocks_of(0, 1, 1));
  EXPECT_EQ(read_blocks(rig(), 1, 1), blocks_of(1, 1, 2));
  EXPECT_EQ(read_blocks(rig(), count - 1, 1), blocks_of(count - 1, 1, 1));
}

}  // namespace
}  // namespace pcache
