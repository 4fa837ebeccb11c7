// The power goes at every fence and every backing call while a cache device becomes larger, or smaller with data where
// it is to end. It then has the old size or the new one, holds all that was flushed, and takes the same change again.
//
// A failure prints the granularity, the change, the moment and the state; states are the same every time.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/units.h"
#include "tests/crash/cut_engine.h"
#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSegment = 256 * kKiB;
constexpr std::size_t kLarge = 6 << 20;
constexpr std::size_t kSmall = 4 * kMiB + 2 * kSegment;  // ten segments
constexpr std::uint64_t kBlocks = 400;
constexpr std::uint64_t kStatesPerMoment = 4;

enum class Change { grow, shrink };

struct Shape {
  Granularity granularity;
  Ack ack;
  Change change;
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << to_string(shape.granularity) << (shape.change == Change::grow ? " grow" : " shrink");
}

class CacheSizeCutTest : public testing::TestWithParam<Shape> {
 protected:
  static std::size_t old_size() { return GetParam().change == Change::grow ? kSmall : kLarge; }
  static std::size_t new_size() { return GetParam().change == Change::grow ? kLarge : kSmall; }

  static bool step(CutEngine& engine) {
    bool progress = engine.device->writeback_step();
    if (!progress && engine.device->dirty_bytes() != 0 && engine.cache->commit({engine.device.get()}).ok()) {
      progress = engine.device->writeback_step();
    }
    return engine.cache->reclaim_step() || progress;
  }
  static Status change(CutEngine& engine) {
    if (GetParam().change == Change::grow) return engine.cache->grow(kLarge);
    if (Status status = engine.cache->begin_shrink(kSmall); !status.ok()) return status;
    std::uint64_t left = 0;
    for (int idle = 0; idle < 10;) {
      if (const auto ended = engine.cache->await_shrink(0, left)) return *ended;
      idle = step(engine) ? 0 : idle + 1;
    }
    return Status(Errc::busy, "it does not end");
  }

  void write(CutEngine& engine, std::uint64_t first, std::uint64_t count, std::uint64_t version) {
    for (std::uint64_t block = first; block < first + count; ++block) {
      const Bytes data = blocks_of(block, 1, version);
      put(expected_, block * kBlockSize, data);
      Outcome outcome;
      engine.device->write(block * kBlockSize, data, outcome.completion());
      while (!outcome.done && step(engine)) {
      }
      ASSERT_EQ(outcome.error, 0);
    }
  }
  static Bytes read_all(CutEngine& engine) { return read_first(*engine.device, kBlocks * kBlockSize); }

  void moment() {
    CrashRandom random(++moments_);
    for (std::uint64_t state = 0; state < kStatesPerMoment && !HasFailure(); ++state) {
      SCOPED_TRACE("moment " + std::to_string(moments_) + ", state " + std::to_string(state));
      const auto backing = cut_power(image_, *backing_, scratch_, random, state, state == 3);
      ASSERT_NO_FATAL_FAILURE(check(backing));
    }
  }

  void check(const std::shared_ptr<BackingImage>& backing) {
    CutEngine engine;
    ASSERT_NO_FATAL_FAILURE(open_engine(engine, scratch_, GetParam().ack, std::make_unique<FakeBackingDev>(backing)));
    const std::uint64_t size = engine.cache->stats().size_bytes;
    ASSERT_TRUE(size == old_size() || size == new_size()) << size;
    ASSERT_EQ(engine.cache->pool().damaged_count(), 0U);
    ++(size == old_size() ? old_ : new_);
    ASSERT_TRUE(read_all(engine) == expected_);
    // The space behind a smaller one's end is there again, as that of a file which was not truncated.
    const Status again = change(engine);
    ASSERT_TRUE(again.ok()) << again.message();
    ASSERT_EQ(engine.cache->stats().size_bytes, new_size());
    ASSERT_TRUE(read_all(engine) == expected_);
    ASSERT_EQ(engine.device->drain(0), 0);
    ASSERT_TRUE(backing->durable == expected_);
  }

  CrashMedium image_{kLarge, GetParam().granularity};
  CrashMedium scratch_{kLarge, GetParam().granularity};
  std::shared_ptr<BackingImage> backing_ = std::make_shared<BackingImage>(kBlocks * kBlockSize);
  Bytes expected_ = Bytes(kBlocks * kBlockSize);
  std::uint64_t moments_ = 0;
  std::uint64_t old_ = 0;
  std::uint64_t new_ = 0;
};

TEST_P(CacheSizeCutTest, AtEveryStep) {
  {
    CrashSpace space(image_);
    ASSERT_TRUE(space.shrink(old_size()).ok());
    ASSERT_TRUE(CacheDev::format(space, {{7}, "sized", kSegment}).ok());
  }
  CutEngine engine;
  auto opened = std::make_unique<FakeBackingDev>(backing_);
  FakeBackingDev& backing = *opened;
  ASSERT_NO_FATAL_FAILURE(open_engine(engine, image_, GetParam().ack, std::move(opened)));
  write(engine, 0, GetParam().change == Change::grow ? 200 : kBlocks, 1);
  if (GetParam().change == Change::shrink) {
    ASSERT_EQ(engine.device->drain(0), 0);
    write(engine, 0, 250, 2);
    std::uint32_t behind = 0;
    for (const auto& segment : engine.cache->pool().in_use()) behind += segment.id >= 10 ? 1U : 0U;
    ASSERT_GE(behind, 1U) << "there is nothing where it is to end";
  }
  Outcome flushed;
  engine.device->flush(flushed.completion());
  ASSERT_EQ(flushed.error, 0);

  image_.on_fence = [this] { moment(); };
  backing.on_write = [this](std::uint64_t, std::uint64_t) { moment(); };
  image_.track(true);
  const Status changed = change(engine);
  ASSERT_TRUE(changed.ok()) << changed.message();
  moment();
  if (HasFailure()) return;
  image_.on_fence = nullptr;
  ASSERT_TRUE(read_all(engine) == expected_);
  std::printf("%llu moments: the old size in %llu states, the new one in %llu\n", 0ULL + moments_, 0ULL + old_,
              0ULL + new_);
  EXPECT_GT(old_, 0U);
  EXPECT_GT(new_, 2U);
}

INSTANTIATE_TEST_SUITE_P(Media, CacheSizeCutTest,
                         testing::Values(Shape{Granularity::cache_line, Ack::durable, Change::grow},
                                         Shape{Granularity::cache_line, Ack::durable, Change::shrink},
                                         Shape{Granularity::page, Ack::flush, Change::grow},
                                         Shape{Granularity::page, Ack::flush, Change::shrink}),
                         [](const testing::TestParamInfo<Shape>& shape) {
                           return std::string(to_string(shape.param.granularity)) +
                                  (shape.param.change == Change::grow ? "_grow" : "_shrink");
                         });

}  // namespace
}  // namespace pcache
