// How fast writeback is to be, from settings and state alone; and in the engine, with time that passes as the test
// says.

#include "cache/writeback_pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kUnlimited = WritebackPace::kUnlimited;
constexpr std::uint64_t kHour = 3'600'000;

TEST(WritebackPace, RestsAtDirtyHighAndWorksFromAboveItUntilDirtyLow) {
  WritebackPace pace;
  const WritebackPace::Limits limits{.dirty_low = 40, .dirty_high = 50, .max_age_ms = kHour};
  const auto rate = [&](std::uint64_t dirty) {
    return pace.rate(limits, {.now_ms = 2, .dirty_bytes = dirty, .oldest_ms = 1});
  };
  EXPECT_EQ(rate(50), 0U);
  EXPECT_EQ(rate(51), kUnlimited);
  EXPECT_EQ(rate(41), kUnlimited) << "it has not come to dirty_low yet";
  EXPECT_EQ(rate(40), 0U);
  EXPECT_EQ(rate(50), 0U) << "it begins above dirty_high only";
}

TEST(WritebackPace, RisesFromMinToMaxBetweenLowAndHighAndStaysAtMaxOnceAboveHigh) {
  WritebackPace pace;
  const WritebackPace::Limits limits{
      .dirty_low = 1000, .dirty_high = 2000, .rate_min = 100, .rate_max = 500, .max_age_ms = kHour};
  const auto rate = [&](std::uint64_t dirty) {
    return pace.rate(limits, {.now_ms = 2, .dirty_bytes = dirty, .oldest_ms = 1});
  };
  EXPECT_EQ(rate(1), 100U);
  EXPECT_EQ(rate(1000), 100U);
  EXPECT_EQ(rate(1250), 200U);
  EXPECT_EQ(rate(1500), 300U);
  EXPECT_EQ(rate(2000), 500U);
  EXPECT_EQ(rate(1500), 300U);
  EXPECT_EQ(rate(2001), 500U);
  EXPECT_EQ(rate(1500), 500U) << "until dirty_low";
  EXPECT_EQ(rate(1000), 100U);
}

TEST(WritebackPace, WithoutMaxThereIsNothingToRiseToAndAMinAboveMaxIsMax) {
  WritebackPace pace;
  const WritebackPace::State state{.now_ms = 2, .dirty_bytes = 1900, .oldest_ms = 1};
  EXPECT_EQ(pace.rate({.dirty_low = 1000, .dirty_high = 2000, .rate_min = 100, .max_age_ms = kHour}, state), 100U);
  EXPECT_EQ(
      pace.rate({.dirty_low = 1000, .dirty_high = 2000, .rate_min = 9, .rate_max = 5, .max_age_ms = kHour}, state), 5U);
  EXPECT_EQ(pace.rate({.dirty_low = 2000, .dirty_high = 2000, .rate_max = 5, .max_age_ms = kHour}, state), 0U);
}

TEST(WritebackPace, HurryAndAgeOverruleRateMaxAndNothingDirtyOverrulesAll) {
  WritebackPace pace;
  const WritebackPace::Limits limits{.dirty_low = 1000, .dirty_high = 2000, .rate_max = 5, .max_age_ms = 8000};
  EXPECT_EQ(pace.rate(limits, {.now_ms = 2, .dirty_bytes = 10, .oldest_ms = 1, .hurry = true}), kUnlimited);
  EXPECT_EQ(pace.rate(limits, {.now_ms = 4000, .dirty_bytes = 100, .oldest_ms = 1}), 0U) << "not half as old";
  const std::uint64_t half = pace.rate(limits, {.now_ms = 4001, .dirty_bytes = 100'000, .oldest_ms = 1});
  EXPECT_GE(half, 100'000U / 4) << "all of it in the four seconds that are left";
  EXPECT_LT(half, 100'000U) << "and not at once";
  EXPECT_GT(pace.rate(limits, {.now_ms = 6001, .dirty_bytes = 100'000, .oldest_ms = 1}), half);
  EXPECT_EQ(pace.rate(limits, {.now_ms = 8001, .dirty_bytes = 100'000, .oldest_ms = 1}), kUnlimited);
  EXPECT_EQ(pace.rate(limits, {.now_ms = 8001, .dirty_bytes = 0, .oldest_ms = 0, .hurry = true}), 0U);
}

// However often it is asked, and in pieces larger than what has accrued.
TEST(WritebackPace, WhatIsWrittenKeepsToTheRate) {
  for (const std::uint64_t rate : {700ULL, 100'000ULL, 50'000'000ULL}) {
    for (const std::uint64_t step : {1ULL, 3ULL, 70ULL}) {
      WritebackPace pace;
      std::uint64_t written = 0;
      std::uint64_t now = 1;
      for (; now < 60'000; now += step) {
        if (pace.allowance(rate, now) == 0) {
          ASSERT_GT(pace.rest_ms(), 0U);
          continue;
        }
        written += 4096;
        pace.spend(4096);
      }
      const double possible = std::min(static_cast<double>(rate) * 59.9, 4096.0 * 59'900 / static_cast<double>(step));
      EXPECT_LE(static_cast<double>(written), static_cast<double>(rate) * 60.1 + 2 * 4096) << rate << " " << step;
      EXPECT_GE(static_cast<double>(written), possible * 0.95 - 2 * 4096) << rate << " " << step;
    }
  }
}

Settings settings_of(std::initializer_list<std::pair<Setting, std::uint64_t>> values) {
  Settings settings;
  for (const auto& [setting, value] : values) settings.set(setting, value);
  return settings;
}

// The worker's steps, made as time comes to them.
class Background : public testing::Test {
 protected:
  void start(std::initializer_list<std::pair<Setting, std::uint64_t>> values) {
    RigShape shape;
    shape.own_clock = true;
    shape.settings = settings_of(values);
    rig_ = std::make_unique<EngineRig>(shape);
  }
  EngineRig& rig() { return *rig_; }
  CachedDevice& device() { return rig_->device(); }
  std::uint64_t written_back() { return device().stats().written_back_bytes; }

  // Until `ms` have passed or `done()` says so.
  template <typename Done>
  void run(std::uint64_t ms, Done done) {
    for (const std::uint64_t end = rig_->now_ms() + ms; rig_->now_ms() < end && !done();) {
      const auto rest = static_cast<std::uint64_t>(std::max<std::int64_t>(device().background_step().count(), 0));
      ASSERT_LE(rest, 1000U);
      rig_->advance(std::min(rest, end - rig_->now_ms()));
    }
  }
  void run(std::uint64_t ms) {
    run(ms, [] { return false; });
  }

  // `count` epochs of 16 blocks each, from block `first` on, that a user's flush ended.
  void write_epochs(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      ASSERT_EQ(write_blocks(*rig_, first + 16 * i, 16, 1), 0);
      ASSERT_EQ(rig_->flush(), 0);
    }
  }

 private:
  std::unique_ptr<EngineRig> rig_;
};

TEST_F(Background, AnIdleDeviceBecomesCleanWithinDirtyMaxAgeWhateverTheRates) {
  for (const std::uint64_t age : {0ULL, 50ULL, 1000ULL, 60'000ULL}) {
    for (const std::uint64_t max : {0ULL, 512ULL}) {
      SCOPED_TRACE(std::to_string(age) + " ms, " + std::to_string(max) + " bytes/s");
      start({{Setting::dirty_max_age, age}, {Setting::writeback_rate_max, max}});
      run(333);
      ASSERT_EQ(write_blocks(rig(), 0, 40, 1), 0);
      ASSERT_EQ(write_blocks(rig(), 100, 40, 1), 0);
      ASSERT_EQ(rig().discard(200 * kBlockSize, 4 * kBlockSize), 0);
      const std::uint64_t written = rig().now_ms();
      run(10 * age + 1000, [&] { return device().dirty_bytes() == 0 && device().stats().oldest_dirty_ms == 0; });
      EXPECT_EQ(device().dirty_bytes(), 0U);
      EXPECT_EQ(device().stats().oldest_dirty_ms, 0U);
      EXPECT_LE(rig().now_ms() - written, std::max<std::uint64_t>(age, 20));
      EXPECT_EQ(backing_blocks(rig(), 100, 40), blocks_of(100, 40, 1));
    }
  }
}

TEST_F(Background, WhatIsYoungAndLittleStays) {
  start({{Setting::dirty_max_age, kHour}, {Setting::dirty_high, kPercent | 50}});
  write_epochs(0, 4);
  run(kHour / 3);
  EXPECT_EQ(written_back(), 0U);
  EXPECT_GE(device().stats().oldest_dirty_ms, kHour / 3);
  run(kHour);
  EXPECT_EQ(written_back(), 64 * kBlockSize);
}

TEST_F(Background, AboveDirtyHighItWorksUntilDirtyLowAndThenRests) {
  start({{Setting::dirty_max_age, kHour},
         {Setting::dirty_high, 200 * kBlockSize},
         {Setting::dirty_low, 60 * kBlockSize}});
  write_epochs(0, 12);  // 192 blocks
  run(1000);
  EXPECT_EQ(written_back(), 0U) << "not above dirty_high";
  write_epochs(192, 1);
  run(1000);
  EXPECT_LE(device().dirty_bytes(), 60 * kBlockSize);
  EXPECT_GT(device().dirty_bytes(), (60 - 16) * kBlockSize) << "one epoch more than was to be written";
  const std::uint64_t before = written_back();
  write_epochs(208, 8);
  run(1000);
  EXPECT_EQ(written_back(), before) << "between low and high, and not from above";

  ASSERT_TRUE(device().configure(settings_of({{Setting::dirty_high, 100 * kBlockSize}})).ok());
  run(1000);
  EXPECT_LE(device().dirty_bytes(), 60 * kBlockSize) << "a setting that was changed counts at once";
}

TEST_F(Background, BetweenTheMarksTheRateIsBetweenMinAndMaxAndEpochsAreWrittenInParts) {
  start({{Setting::dirty_max_age, kHour},
         {Setting::dirty_low, 0},
         {Setting::dirty_high, 400 * kBlockSize},
         {Setting::writeback_rate_min, 10 * kBlockSize},
         {Setting::writeback_rate_max, 110 * kBlockSize}});
  for (std::uint64_t i = 0; i < 200; ++i)
    ASSERT_EQ(write_blocks(rig(), 3 * i % 601, 1, 1), 0);  // no two are neighbours
  ASSERT_EQ(rig().flush(), 0);
  run(1000);
  const std::uint64_t first = written_back() / kBlockSize;
  EXPECT_GE(first, 50U);  // half way between the marks: 60 blocks a second, and all of it stays dirty to the end
  EXPECT_LE(first, 70U);
  EXPECT_EQ(device().dirty_bytes(), 200 * kBlockSize) << "of an epoch that is not flushed nothing is clean";
  EXPECT_EQ(rig().backing().counts().flushes, 0U);
  run(3000);
  EXPECT_EQ(written_back(), 200 * kBlockSize);
  EXPECT_EQ(device().dirty_bytes(), 0U);
  EXPECT_EQ(rig().backing().counts().flushes, 1U);
}

TEST_F(Background, ShortageOfSpaceOverrulesTheRate) {
  start({{Setting::dirty_max_age, kHour},
         {Setting::dirty_high, kPercent | 95},
         {Setting::dirty_low, kPercent | 95},
         {Setting::writeback_rate_max, 1}});
  const std::uint64_t blocks = room_for_blocks(rig());
  ASSERT_EQ(write_blocks(rig(), 0, blocks, 1), 0);
  EXPECT_TRUE(rig().cache().nearly_full());
  run(1000, [&] { return !rig().cache().nearly_full(); });
  EXPECT_FALSE(rig().cache().nearly_full());
  const std::uint64_t before = written_back();
  run(1000);
  EXPECT_LE(written_back(), before + kMiB) << "with space enough it rests again";
}

TEST_F(Background, AnEpochInPartsIsWrittenAgainAsAWholeWhenItsFlushFails) {
  start({{Setting::dirty_max_age, kHour}, {Setting::writeback_rate_min, 20 * kBlockSize}});
  for (std::uint64_t i = 0; i < 30; ++i) ASSERT_EQ(write_blocks(rig(), 2 * i, 1, 1), 0);
  ASSERT_EQ(rig().flush(), 0);
  rig().backing().fail({.flushes = 1});
  run(10'000, [&] { return rig().backing().counts().failed != 0; });
  EXPECT_EQ(written_back(), 30 * kBlockSize);
  EXPECT_EQ(device().dirty_bytes(), 30 * kBlockSize);
  rig().backing_image().power_cut();
  run(10'000, [&] { return device().dirty_bytes() == 0; });
  EXPECT_EQ(written_back(), 60 * kBlockSize);
  EXPECT_EQ(part(rig().backing_image().durable, 58 * kBlockSize, kBlockSize), blocks_of(58, 1, 1));
}

}  // namespace
}  // namespace pcache
