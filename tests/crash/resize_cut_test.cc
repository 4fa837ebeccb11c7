// The power goes at every fence and every backing call while a logical device becomes longer that ended inside a block.
// It is then as long as before or as long as it was to become, holds all that was flushed, and ends with what the
// backing has there; and it can be resized again.
//
// A failure prints the granularity, the moment and the state; states are the same every time.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "tests/crash/cut_engine.h"

namespace pcache {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kCacheBytes = 5 << 20;
constexpr std::uint64_t kOld = 40 * kBlockSize - 1024;
constexpr std::uint64_t kNew = 44 * kBlockSize;
constexpr std::uint64_t kStatesPerMoment = 12;

struct Shape {
  Granularity granularity;
  Ack ack;
};

void put(Bytes& into, std::uint64_t offset, std::uint64_t length, int value) {
  std::fill_n(into.begin() + static_cast<std::ptrdiff_t>(offset), length, static_cast<std::byte>(value));
}

class ResizeCutTest : public testing::TestWithParam<Shape> {
 protected:
  void write(CachedDevice& device, std::uint64_t offset, std::uint64_t length, int value) {
    put(expected_, offset, length, value);
    const Bytes data(length, static_cast<std::byte>(value));
    Outcome outcome;
    device.write(offset, data, outcome.completion());
    ASSERT_TRUE(outcome.done);
    ASSERT_EQ(outcome.error, 0);
  }

  void moment() {
    CrashRandom random(++moments_);
    for (std::uint64_t state = 0; state < kStatesPerMoment && !HasFailure(); ++state) {
      SCOPED_TRACE("moment " + std::to_string(moments_) + ", state " + std::to_string(state));
      const auto backing = cut_power(image_, *backing_, scratch_, random, state, state % 3 == 2);
      ASSERT_NO_FATAL_FAILURE(check(backing));
      ++states_;
    }
  }

  void check(const std::shared_ptr<BackingImage>& backing) {
    CutEngine engine;
    const std::uint64_t backing_bytes = backing->current.size();
    ASSERT_NO_FATAL_FAILURE(open_engine(engine, scratch_, GetParam().ack, std::make_unique<FakeBackingDev>(backing)));
    const std::uint64_t size = engine.device->size_bytes();
    ASSERT_TRUE(size == kOld || size == kNew) << size;
    ASSERT_LE(size, backing_bytes) << "it would not be attached";
    (size == kOld ? old_ : new_) += 1;
    Bytes wanted = expected_;
    wanted.resize(size);
    ASSERT_TRUE(read_first(*engine.device, engine.device->size_bytes()) == wanted);
    // The resizing is done again, and all is written back.
    if (backing->current.size() != kNew) {
      backing->grow(kNew);
      std::copy(expected_.begin() + kOld, expected_.end(), backing->current.begin() + kOld);
    }
    const Status again = engine.device->grow_to_backing();
    ASSERT_TRUE(again.ok()) << again.message();
    ASSERT_TRUE(read_first(*engine.device, engine.device->size_bytes()) == expected_);
    ASSERT_EQ(engine.device->drain(0), 0);
    ASSERT_TRUE(backing->durable == expected_);
  }

  CrashMedium image_{kCacheBytes, GetParam().granularity};
  CrashMedium scratch_{kCacheBytes, GetParam().granularity};
  std::shared_ptr<BackingImage> backing_ = std::make_shared<BackingImage>(kOld);
  Bytes expected_ = Bytes(kNew);
  std::uint64_t moments_ = 0;
  std::uint64_t states_ = 0;
  std::uint64_t old_ = 0;
  std::uint64_t new_ = 0;
};

TEST_P(ResizeCutTest, AtEveryStep) {
  {
    CrashSpace space(image_);
    ASSERT_TRUE(CacheDev::format(space, {{7}, "resize", 256 * kKiB}).ok());
  }
  put(expected_, 0, kNew, 1);
  backing_->current.assign(expected_.begin(), expected_.begin() + kOld);
  backing_->durable = backing_->current;
  CutEngine engine;
  auto opened = std::make_unique<FakeBackingDev>(backing_);
  FakeBackingDev& backing = *opened;
  ASSERT_NO_FATAL_FAILURE(open_engine(engine, image_, GetParam().ack, std::move(opened)));
  write(*engine.device, 10 * kBlockSize, 3 * kBlockSize, 2);
  write(*engine.device, kOld - 1536, 1536, 3);
  Outcome flushed;
  engine.device->flush(flushed.completion());
  ASSERT_EQ(flushed.error, 0);

  image_.on_fence = [this] { moment(); };
  backing.on_write = [this](std::uint64_t, std::uint64_t) { moment(); };
  image_.track(true);
  put(expected_, kOld, kNew - kOld, 0x77);
  backing_->grow(kNew);
  std::copy(expected_.begin() + kOld, expected_.end(), backing_->current.begin() + kOld);
  const Status grown = engine.device->grow_to_backing();
  ASSERT_TRUE(grown.ok()) << grown.message();
  moment();
  if (HasFailure()) return;
  ASSERT_TRUE(read_first(*engine.device, engine.device->size_bytes()) == expected_);
  std::printf("%llu moments, %llu states: as long as before in %llu, longer in %llu\n", 0ULL + moments_, 0ULL + states_,
              0ULL + old_, 0ULL + new_);
  EXPECT_GT(old_, 20U);
  EXPECT_GT(new_, 4U);
}

INSTANTIATE_TEST_SUITE_P(Media, ResizeCutTest,
                         testing::Values(Shape{Granularity::cache_line, Ack::durable},
                                         Shape{Granularity::page, Ack::flush}, Shape{Granularity::page, Ack::durable}),
                         [](const testing::TestParamInfo<Shape>& shape) {
                           return std::string(to_string(shape.param.granularity)) + "_" + to_string(shape.param.ack);
                         });

}  // namespace
}  // namespace pcache
