// A cache device becomes larger and smaller while it is in use.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <string>
#include <thread>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSegment = 256 << 10;
constexpr std::size_t kImage = 40 << 20;  // as large as the medium can become
constexpr std::size_t kSmall = 10 << 20;
constexpr std::size_t kDevice = 24 << 20;
constexpr std::uint64_t kBlocks = kDevice / kBlockSize;

// Two logical devices, "a" and "b", stepped by hand, and what they ought to hold.
class CacheSize : public testing::Test {
 protected:
  void SetUp() override { format(kSmall); }

  void format(std::size_t bytes) {
    close();
    image_ = MemorySpace::make_image(kImage);
    {
      MemorySpace space(image_);
      ASSERT_TRUE(space.shrink(bytes).ok());
      ASSERT_TRUE(CacheDev::format(space, {{9}, "sized", kSegment}).ok());
    }
    open();
    for (const char* name : {"a", "b"}) {
      backings_[name] = std::make_shared<BackingImage>(kDevice);
      devices_[name] = cache_->add(name, make_backing(name)).value();
    }
    expected_.clear();
  }
  std::unique_ptr<FakeBackingDev> make_backing(const std::string& name) {
    return std::make_unique<FakeBackingDev>(backings_[name], "/fake/" + name, name);
  }
  void open() {
    auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image_));
    ASSERT_TRUE(cache_dev.ok()) << cache_dev.status().message();
    cache_ = Cache::open(std::move(*cache_dev), CacheOptions()).value();
  }
  void close() {
    devices_.clear();
    cache_.reset();
  }
  void attach_all() {
    for (const CacheDev::Device& device : cache_->cache_dev().devices()) {
      const std::string name = device.record.name.data();
      devices_[name] = cache_->attach(device, make_backing(name)).value();
      ASSERT_FALSE(devices_[name]->failed()) << devices_[name]->stats().detail;
    }
  }
  void reopen() {
    close();
    open();
    attach_all();
  }
  // The process dies: what it stored is all there.
  void kill() {
    const auto left = MemorySpace::copy_image(*image_);
    close();
    image_ = left;
    open();
    attach_all();
  }

  // What the engine's threads would do, once.
  bool step() {
    bool progress = false;
    for (const auto& [name, device] : devices_) {
      bool wrote = device->writeback_step();
      if (!wrote && device->dirty_bytes() != 0 && cache_->commit({device.get()}).ok()) wrote = device->writeback_step();
      progress |= wrote;
    }
    progress |= cache_->reclaim_step();
    return progress;
  }
  void write(const std::string& name, std::uint64_t block, std::uint64_t version, bool stepped = true) {
    const Bytes bytes = blocks_of(block, 1, version);
    Outcome outcome;
    devices_[name]->write(block * kBlockSize, bytes, outcome.completion());
    while (stepped && !outcome.done && step()) {
    }
    ASSERT_TRUE(outcome.done);
    ASSERT_EQ(outcome.error, 0);
    expected_[{name, block}] = version;
  }
  void check_all(const char* when) {
    for (const auto& [where, version] : expected_) {
      Bytes bytes(kBlockSize);
      Outcome outcome;
      devices_[where.first]->read(where.second * kBlockSize, bytes, outcome.completion());
      ASSERT_TRUE(outcome.done);
      ASSERT_EQ(outcome.error, 0) << when << ": " << where.first << " " << where.second;
      ASSERT_TRUE(bytes == blocks_of(where.second, 1, version)) << when << ": " << where.first << " " << where.second;
    }
  }
  void read_in(const std::string& name, std::uint64_t first, std::uint64_t count) {
    Bytes bytes(kBlockSize);
    for (std::uint64_t block = first; block < first + count; ++block) {
      Outcome outcome;
      devices_[name]->read(block * kBlockSize, bytes, outcome.completion());
      ASSERT_EQ(outcome.error, 0);
      while (cache_->reclaim_step()) {
      }
    }
  }
  // Steps until it is done, or nothing gets on.
  Status shrink(std::uint64_t size) {
    if (Status status = cache_->begin_shrink(size); !status.ok()) return status;
    return finish_shrink();
  }
  Status finish_shrink() {
    std::uint64_t left = 0;
    for (int idle = 0; idle < 10;) {
      if (const auto ended = cache_->await_shrink(0, left)) return *ended;
      idle = step() ? 0 : idle + 1;
    }
    return Status(Errc::busy, "it does not end: " + std::to_string(left) + " bytes are left");
  }
  std::uint64_t size() const { return cache_->stats().size_bytes; }
  std::uint32_t total() const { return cache_->pool().total(); }
  // Every segment is in one place.
  std::size_t accounted() const {
    const SegmentPool& pool = cache_->pool();
    return pool.in_use().size() + pool.borrowed_count() + pool.free_count();
  }
  std::uint64_t slots() const { return std::uint64_t{total()} * cache_->cache_dev().geometry().slots_per_segment; }

  std::shared_ptr<MemorySpace::Image> image_;
  std::map<std::string, std::shared_ptr<BackingImage>> backings_;
  std::unique_ptr<Cache> cache_;
  std::map<std::string, std::shared_ptr<CachedDevice>> devices_;
  std::map<std::pair<std::string, std::uint64_t>, std::uint64_t> expected_;
};

TEST_F(CacheSize, GrowsUnderDirtyDataOfSeveralDevicesAndStaysSo) {
  const std::uint32_t before = total();
  for (std::uint64_t block = 0; block < slots() / 4; ++block) {
    write("a", block, 1);
    write("b", block * 3 % kBlocks, 2);
  }
  const std::uint64_t larger = 30 << 20;
  const Status grown = cache_->grow(larger);
  ASSERT_TRUE(grown.ok()) << grown.message();
  EXPECT_EQ(size(), larger);
  EXPECT_EQ(total(), before + (larger - kSmall) / kSegment);
  EXPECT_EQ(accounted(), total());
  check_all("grown");
  // As much as had no room before, and nothing of it is written back.
  for (std::uint64_t block = 0; block < 4000; ++block) write("a", block, 3, false);
  EXPECT_GT(cache_->stats().segments_used, before);
  check_all("written");
  kill();
  EXPECT_EQ(size(), larger);
  check_all("killed");
  reopen();
  EXPECT_EQ(size(), larger);
  EXPECT_EQ(total(), before + (larger - kSmall) / kSegment);
  check_all("opened again");
  // Once more, to all there is.
  ASSERT_TRUE(cache_->grow(0).ok());
  EXPECT_EQ(size(), kImage);
  EXPECT_TRUE(cache_->grow(0).ok()) << "there is nothing to do";
  check_all("grown again");
  for (const auto& [name, device] : devices_) ASSERT_EQ(device->drain(0), 0);
  check_all("written back");
}

TEST_F(CacheSize, WhatCannotBeIsRefusedAndChangesNothing) {
  for (std::uint64_t block = 0; block < 100; ++block) write("a", block, 1);
  EXPECT_EQ(cache_->grow(kSmall - kSegment).code(), Errc::invalid);
  EXPECT_EQ(cache_->grow(kImage + kSegment).code(), Errc::no_space) << "the medium ends before";
  const Status much = cache_->grow(std::uint64_t{1} << 40);
  EXPECT_EQ(much.code(), Errc::invalid);
  EXPECT_NE(much.message().find("segments"), std::string::npos) << much.message();
  EXPECT_EQ(shrink(kSmall + kSegment).code(), Errc::invalid);
  EXPECT_EQ(shrink(kSmall - 512).code(), Errc::invalid);
  EXPECT_EQ(shrink(kSegment).code(), Errc::invalid);
  const Status little = shrink(cache_->cache_dev().geometry().first_segment + kMinSegments * kSegment - kMediaPage);
  EXPECT_EQ(little.code(), Errc::invalid) << little.message();
  Settings keep;
  keep.set(Setting::share_min, kPercent | 30);
  ASSERT_TRUE(devices_["a"]->configure(keep).ok());
  Settings bytes;
  bytes.set(Setting::share_min, 12 * kSegment);
  ASSERT_TRUE(devices_["b"]->configure(bytes).ok());
  EXPECT_EQ(shrink(6 << 20).code(), Errc::invalid) << "they keep more to themselves";
  EXPECT_EQ(size(), kSmall);
  check_all("refused");
  reopen();
  EXPECT_EQ(size(), kSmall);
  check_all("opened again");
}

TEST_F(CacheSize, ShrinksWithCleanAndDirtyDataAndWhatIsOnProbation) {
  format(30 << 20);
  for (std::uint64_t i = 0; i < 4000; ++i) write("a", i, 1);
  for (std::uint64_t i = 0; i < 1000; ++i) write("b", i, 2);
  ASSERT_EQ(devices_["a"]->drain(0), 0);
  read_in("b", 3000, 1500);  // comes from the backing
  for (std::uint64_t i = 3900; i < 4400; ++i) write("a", i, 3);
  ASSERT_NE(devices_["a"]->dirty_bytes() + devices_["b"]->dirty_bytes(), 0U);
  const std::uint64_t smaller = 12 << 20;
  const Status shrunk = shrink(smaller);
  ASSERT_TRUE(shrunk.ok()) << shrunk.message();
  EXPECT_EQ(size(), smaller);
  EXPECT_EQ(total(), (smaller - cache_->cache_dev().geometry().first_segment) / kSegment);
  EXPECT_EQ(accounted(), total());
  check_all("shrunk");
  for (std::uint64_t i = 0; i < 5000; ++i) write("b", i, 4);
  check_all("written");
  kill();
  EXPECT_EQ(size(), smaller);
  check_all("killed");
  reopen();
  check_all("opened again");

  // What the segments held before does not come back with them.
  ASSERT_TRUE(cache_->grow(0).ok());
  for (std::uint64_t i = 0; i < 5000; ++i) write("a", i, 5, i % 2 == 0);
  check_all("grown again");
  kill();
  check_all("killed when it had grown again");
  for (const auto& [name, device] : devices_) ASSERT_EQ(device->drain(0), 0);
  check_all("written back");
}

TEST_F(CacheSize, ShrinksWhileItIsWrittenTo) {
  format(20 << 20);
  for (std::uint64_t i = 0; i < 3000; ++i) write("a", i, 1);
  ASSERT_TRUE(cache_->begin_shrink(8 << 20).ok());
  EXPECT_EQ(cache_->begin_shrink(8 << 20).code(), Errc::busy);
  EXPECT_EQ(cache_->grow(0).code(), Errc::busy);
  std::uint64_t left = 0;
  std::uint64_t most_left = 0;
  std::uint64_t writes = 0;
  while (!cache_->await_shrink(0, left) && writes < 200'000) {
    most_left = std::max(most_left, left);
    for (int i = 0; i < 10; ++i, ++writes) write(writes % 3 == 0 ? "b" : "a", writes * 7 % kBlocks, 2 + writes);
    step();
  }
  const auto ended = cache_->await_shrink(0, left);
  ASSERT_TRUE(ended.has_value()) << left << " bytes are left";
  EXPECT_TRUE(ended->ok()) << ended->message();
  EXPECT_EQ(left, 0U);
  EXPECT_GE(most_left, 4 * kSegment) << "there is progress to see";
  EXPECT_EQ(size(), 8U << 20);
  check_all("shrunk");
  kill();
  EXPECT_EQ(size(), 8U << 20);
  check_all("killed");
}

TEST_F(CacheSize, WhatCannotBeWrittenBackStaysAndSoDoesTheSize) {
  format(20 << 20);
  for (std::uint64_t i = 0; i < 2000; ++i) write("a", i, 1, false);
  // Its backing is not there.
  const std::uint32_t free = cache_->pool().free_count();
  close();
  open();
  for (const CacheDev::Device& device : cache_->cache_dev().devices()) {
    const std::string name = device.record.name.data();
    devices_[name] = cache_->attach(device, name == "a" ? nullptr : make_backing(name)).value();
  }
  const Status refused = shrink(6 << 20);
  EXPECT_EQ(refused.code(), Errc::dirty) << refused.message();
  EXPECT_NE(refused.message().find("logical device a "), std::string::npos) << refused.message();
  EXPECT_EQ(size(), 20U << 20);
  for (std::uint64_t i = 0; i < 100; ++i) write("b", i, 2);
  EXPECT_EQ(accounted(), total());
  reopen();
  EXPECT_GE(cache_->pool().free_count() + 4, free);
  check_all("its backing is there again");
  // Now it can be done.
  const Status shrunk = shrink(6 << 20);
  ASSERT_TRUE(shrunk.ok()) << shrunk.message();
  check_all("shrunk");
}

TEST_F(CacheSize, ABackingThatFailsEndsItAndACancelledOneLeavesEverything) {
  format(20 << 20);
  for (std::uint64_t i = 0; i < 2000; ++i) write("a", i, 1, false);
  FakeBackingDev* backing = nullptr;
  close();
  open();
  for (const CacheDev::Device& device : cache_->cache_dev().devices()) {
    const std::string name = device.record.name.data();
    auto made = make_backing(name);
    if (name == "a") backing = made.get();
    devices_[name] = cache_->attach(device, std::move(made)).value();
  }
  backing->fail({.writes = 1'000'000});
  const Status failed = shrink(6 << 20);
  EXPECT_EQ(failed.code(), Errc::failed) << failed.message();
  EXPECT_EQ(size(), 20U << 20);
  check_all("it failed");
  ASSERT_TRUE(cache_->begin_shrink(6 << 20).ok());
  cache_->cancel_shrink();
  std::uint64_t left = 0;
  const auto ended = cache_->await_shrink(0, left);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code(), Errc::failed);
  EXPECT_EQ(size(), 20U << 20);
  EXPECT_EQ(accounted(), total());
  backing->fail({});
  for (std::uint64_t i = 0; i < 4000; ++i) write("b", i, 2);
  check_all("cancelled");
  const Status shrunk = shrink(6 << 20);
  EXPECT_TRUE(shrunk.ok()) << shrunk.message();
  check_all("shrunk");
}

// I5
TEST_F(CacheSize, ASegmentThatIsReadIsNotGivenUp) {
  format(20 << 20);
  for (std::uint64_t i = 0; i < 3000; ++i) write("a", i, 1);
  ASSERT_EQ(devices_["a"]->drain(0), 0);
  const std::uint32_t fewer = 20;
  const SegmentId pinned = [&] {
    for (const auto& segment : cache_->pool().in_use()) {
      if (segment.id >= fewer) return segment.id;
    }
    return SegmentId{0};
  }();
  ASSERT_GE(pinned, fewer);
  cache_->pool().pin(pinned);
  ASSERT_TRUE(cache_->begin_shrink(cache_->cache_dev().geometry().first_segment + fewer * kSegment).ok());
  std::atomic<bool> ended{false};
  std::thread thread([&] {
    (void)finish_shrink();
    ended = true;
  });
  // Whatever else can be done is done by then, at the latest; it cannot end before the reader has.
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_FALSE(ended);
  cache_->pool().unpin(pinned);
  thread.join();
  EXPECT_EQ(total(), fewer);
  check_all("shrunk");
}

TEST_F(CacheSize, ReclaimOfWhatWasRemovedAndKeptIsNoDamage) {
  for (std::uint64_t i = 0; i < 1000; ++i) write("a", i, 1);
  ASSERT_EQ(devices_["a"]->drain(0), 0);
  ASSERT_TRUE(cache_->park(devices_["a"]).ok());
  const std::uint32_t held = devices_["a"]->segments_used();
  const auto b = devices_["b"];
  devices_.erase("a");
  for (std::uint64_t i = 0; i < 4000; ++i) {
    const Bytes bytes = blocks_of(i, 1, 2);
    Outcome outcome;
    b->write(i * kBlockSize, bytes, outcome.completion());
    while (!outcome.done && step()) {
    }
    ASSERT_EQ(outcome.error, 0);
  }
  kill();
  ASSERT_LT(devices_["a"]->segments_used(), held) << "nothing of it was reclaimed";
  EXPECT_FALSE(devices_["a"]->failed()) << devices_["a"]->stats().detail;
}

}  // namespace
}  // namespace pcache
