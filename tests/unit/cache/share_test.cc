// Several logical devices on one cache device: how much each keeps, and how much it may have.

#include "cache/share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSegment = 256 << 10;

// Two logical devices, "a" and "b", stepped by hand.
class ShareTest : public testing::Test {
 protected:
  ShareTest() {
    MemorySpace space(image_);
    EXPECT_TRUE(CacheDev::format(space, {{9}, "shared", kSegment}).ok());
    open(CacheOptions());
    a_ = add("a").value();
    b_ = add("b").value();
  }

  void open(const CacheOptions& options) {
    auto cache = Cache::open(CacheDev::open(std::make_unique<MemorySpace>(image_)).value(), options);
    EXPECT_TRUE(cache.ok());
    cache_ = std::move(*cache);
  }
  void reopen(const CacheOptions& options) {
    a_.reset();
    b_.reset();
    cache_.reset();
    open(options);
    for (const CacheDev::Device& device : cache_->cache_dev().devices()) {
      const std::string name = device.record.name.data();
      (name == "a" ? a_ : b_) = cache_->attach(device, make_backing(name)).value();
    }
  }
  static std::unique_ptr<BackingDev> make_backing(const std::string& name) {
    return std::make_unique<FakeBackingDev>(std::make_shared<BackingImage>(32 << 20), "/fake/" + name, name);
  }

  Result<std::shared_ptr<CachedDevice>> add(const std::string& name, const Settings& settings = {}) {
    return cache_->add(name, make_backing(name), settings);
  }
  static Settings settings_of(std::initializer_list<std::pair<Setting, std::uint64_t>> values) {
    Settings settings;
    for (const auto& [setting, value] : values) settings.set(setting, value);
    return settings;
  }
  std::uint32_t total() const { return cache_->pool().total(); }

  // What the engine's threads would do for `device`; the other one does nothing.
  bool step(CachedDevice& device) {
    bool progress = device.writeback_step();
    if (!progress && device.dirty_bytes() != 0 && cache_->commit({&device}).ok()) progress = device.writeback_step();
    while (cache_->reclaim_step()) progress = true;
    return progress;
  }
  int write(CachedDevice& device, std::uint64_t block) {
    const Bytes bytes = blocks_of(block, 1, 1);
    Outcome outcome;
    device.write(block * kBlockSize, bytes, outcome.completion());
    while (!outcome.done && step(device)) {
    }
    return outcome.error;
  }
  // Writes `segments` segments full of blocks, of which nothing is written back meanwhile as long as there is space.
  void write_segments(CachedDevice& device, std::uint32_t segments) {
    const std::uint64_t blocks = std::uint64_t{segments} * cache_->cache_dev().geometry().slots_per_segment;
    for (std::uint64_t i = 0; i < blocks; ++i) ASSERT_EQ(write(device, i % 8000), 0);
  }
  void read_blocks_of(CachedDevice& device, std::uint64_t begin, std::uint64_t end) {
    Bytes buffer(kBlockSize);
    for (std::uint64_t block = begin; block < end; ++block) {
      Outcome outcome;
      device.read(block * kBlockSize, buffer, outcome.completion());
      ASSERT_EQ(outcome.error, 0);
      while (cache_->reclaim_step()) {
      }
    }
  }

  std::shared_ptr<MemorySpace::Image> image_ = MemorySpace::make_image(18 << 20);
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<CachedDevice> a_;
  std::shared_ptr<CachedDevice> b_;
};

TEST(ShareOfTest, PercentAndBytesAreOfAllSegmentsTheLeastRoundedUpAndTheMostDown) {
  EXPECT_EQ(share_of(kPercent | 0, kPercent | 100, 64, kSegment).min, 0U);
  EXPECT_EQ(share_of(kPercent | 0, kPercent | 100, 64, kSegment).max, 64U);
  EXPECT_EQ(share_of(kPercent | 25, kPercent | 50, 64, kSegment).min, 16U);
  EXPECT_EQ(share_of(kPercent | 25, kPercent | 50, 64, kSegment).max, 32U);
  EXPECT_EQ(share_of(kSegment + 1, 3 * kSegment - 1, 64, kSegment).min, 2U);
  EXPECT_EQ(share_of(kSegment + 1, 3 * kSegment - 1, 64, kSegment).max, 2U);
  EXPECT_EQ(share_of(1ULL << 50, 1ULL << 50, 64, kSegment).max, 64U) << "there is no more";
}

TEST_F(ShareTest, ADeviceDoesNotGrowAboveItsMostAndTakesFromItself) {
  const std::uint32_t most = total() / 4;
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_max, most * kSegment}})).ok());
  write_segments(*a_, 2 * most);
  EXPECT_LE(a_->segments_used(), most);
  EXPECT_GE(a_->segments_used(), most - 1);
  EXPECT_GT(cache_->pool().free_count(), total() / 2) << "what is free is not for it";
  read_blocks_of(*a_, 0, 6000);
  EXPECT_LE(a_->segments_used(), most);
  EXPECT_GE(a_->segments_used(), most - 1);
}

TEST_F(ShareTest, WhatIsTakenOutAndBroughtUpAgainIsCountedOnce) {
  write_segments(*a_, 5);
  ASSERT_EQ(a_->drain(0), 0);
  const std::uint32_t clean = cache_->clean_segments();
  const std::uint32_t reserve = cache_->reserve();
  ASSERT_GE(clean, 4U);
  for (int turn = 0; turn < 2; ++turn) {
    ASSERT_TRUE(cache_->park(a_).ok());
    a_ = cache_->unpark(a_, make_backing("a")).value();
    EXPECT_EQ(cache_->clean_segments(), clean) << "removed and added again";
    EXPECT_EQ(cache_->reserve(), reserve);
    ASSERT_TRUE(cache_->take_out(a_).ok());
    EXPECT_EQ(cache_->clean_segments(), 0U);
    const auto devices = cache_->cache_dev().devices();
    const auto held =
        std::find_if(devices.begin(), devices.end(), [&](const auto& d) { return d.place == a_->place(); });
    ASSERT_NE(held, devices.end());
    a_ = cache_->attach(*held, make_backing("a")).value();
    EXPECT_EQ(cache_->clean_segments(), clean) << "taken out and attached";
    EXPECT_EQ(cache_->reserve(), reserve);
  }
  a_->fail("the test says so");
  EXPECT_EQ(cache_->clean_segments(), 0U) << "a device that failed gives nothing";
}

TEST_F(ShareTest, AWriteAboveTheMostWaitsForItsOwnDevicesWritebackAndHoldsUpNoOther) {
  const std::uint32_t most = total() / 4;
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_max, most * kSegment}})).ok());
  const std::uint64_t room = std::uint64_t{most} * cache_->cache_dev().geometry().slots_per_segment;
  const Bytes bytes = blocks_of(0, 1, 2);
  std::vector<Outcome> outcomes(room + 10);
  std::uint64_t waiting = 0;
  for (std::uint64_t i = 0; i < outcomes.size(); ++i) {
    a_->write(i * kBlockSize, bytes, outcomes[i].completion());
    if (!outcomes[i].done) ++waiting;
  }
  EXPECT_GE(waiting, 10U);
  EXPECT_EQ(cache_->reclaim_step(), false) << "all of it is dirty";
  for (std::uint64_t block = 0; block < 1000; ++block) {
    Outcome outcome;
    b_->write(block * kBlockSize, bytes, outcome.completion());
    ASSERT_TRUE(outcome.done) << "block " << block;
  }
  while (step(*b_)) {
  }
  EXPECT_FALSE(outcomes.back().done) << "what others write back does not help";
  while (step(*a_)) {
  }
  for (const Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.error, 0);
  }
}

TEST_F(ShareTest, AMostThatIsLessThanTheStreamsNeedStopsNothing) {
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_max, kPercent | 1}})).ok());
  write_segments(*a_, 20);
  EXPECT_LE(a_->segments_used(), 2 * a_->stream_count());
}

TEST_F(ShareTest, CleanDataBelowTheLeastIsNotTakenForOthers) {
  const std::uint32_t least = total() / 4;
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_min, least * kSegment}})).ok());
  write_segments(*a_, least + 4);
  ASSERT_EQ(a_->drain(0), 0);
  write_segments(*b_, 2 * total());
  EXPECT_EQ(a_->segments_used(), least) << "what it has above goes to who needs it";
  read_blocks_of(*b_, 0, 8000);
  EXPECT_EQ(a_->segments_used(), least);

  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_min, kPercent | 0}})).ok());
  write_segments(*b_, 2 * total());
  EXPECT_LE(a_->segments_used(), a_->stream_count()) << "an idle device gives its space to a busy one";
}

TEST_F(ShareTest, WhoIsBelowItsLeastTakesFromWhoIsAbove) {
  write_segments(*b_, 2 * total());
  ASSERT_EQ(b_->drain(0), 0);
  const std::uint32_t least = total() / 2;
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_min, least * kSegment}})).ok());
  write_segments(*a_, 2 * total());
  EXPECT_GE(a_->segments_used(), least);
}

TEST_F(ShareTest, MoreThanThereIsCannotBePromised) {
  ASSERT_TRUE(a_->configure(settings_of({{Setting::share_min, kPercent | 50}})).ok());
  const Status refused = b_->configure(settings_of({{Setting::share_min, kPercent | 50}}));
  EXPECT_EQ(refused.code(), Errc::invalid);
  EXPECT_NE(refused.message().find("share_min"), std::string::npos) << refused.message();
  EXPECT_EQ(b_->setting(Setting::share_min), kPercent | 0) << "it stays as it was";
  EXPECT_TRUE(b_->configure(settings_of({{Setting::share_min, kPercent | 30}})).ok());
  EXPECT_EQ(add("c", settings_of({{Setting::share_min, kPercent | 30}})).status().code(), Errc::invalid);
  EXPECT_EQ(cache_->cache_dev().devices().size(), 2U) << "a device that is refused is not there";
  EXPECT_TRUE(add("c").ok());
  EXPECT_TRUE(a_->configure(settings_of({{Setting::dirty_high, kPercent | 40}})).ok());
}

TEST_F(ShareTest, WhatTheMountPromisesInVainIsGivenUpRatherThanLettingAWriteWaitForEver) {
  CacheOptions options;
  options.settings.set(Setting::share_min, kPercent | 100);
  reopen(options);
  write_segments(*a_, 2 * total());
  ASSERT_EQ(a_->drain(0), 0);
  EXPECT_GE(a_->segments_used(), total() / 2);
  write_segments(*b_, 8);
  EXPECT_GE(b_->stats().evicted_bytes + a_->stats().evicted_bytes, 6 * kSegment) << "its own, in the end";
}

TEST_F(ShareTest, AboveGcHighWhatIsCleanDoesNotStay) {
  write_segments(*a_, 6);
  while (step(*a_)) {
  }
  ASSERT_EQ(a_->dirty_bytes(), 0U);
  ASSERT_GE(a_->segments_used(), 6U) << "there is room for it";
  ASSERT_TRUE(a_->configure(settings_of({{Setting::gc_high, 4 * kSegment}})).ok());
  while (cache_->reclaim_step()) {
  }
  EXPECT_LE(a_->segments_used(), 4U);
  const std::uint32_t left = a_->segments_used();
  ASSERT_TRUE(a_->configure(settings_of({{Setting::gc_high, kPercent | 0}})).ok());
  while (cache_->reclaim_step()) {
  }
  EXPECT_LT(a_->segments_used(), left);
  EXPECT_LE(a_->segments_used(), a_->stream_count()) << "what is written to now stays";
  write_segments(*b_, 2);
  const std::uint32_t dirty = b_->segments_used();
  ASSERT_TRUE(b_->configure(settings_of({{Setting::gc_high, kPercent | 0}})).ok());
  while (cache_->reclaim_step()) {
  }
  EXPECT_EQ(b_->segments_used(), dirty) << "what is dirty stays";
}

}  // namespace
}  // namespace pcache
