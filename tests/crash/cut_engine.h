// For tests that cut the power while something changes its size: an engine over a medium that may be cut, and what a
// cut may leave.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cache/cache.h"
#include "tests/support/crash_space.h"
#include "tests/support/engine_rig.h"
#include "tests/support/fake_backing_dev.h"

namespace pcache {

// One logical device. Leaves the medium as it is at its end.
struct CutEngine {
  std::unique_ptr<Cache> cache;
  std::shared_ptr<CachedDevice> device;
  CrashSpace* space = nullptr;

  ~CutEngine() {
    if (space != nullptr) space->die();
  }
};

// Opens `medium`, and adds the logical device if there is none. A fatal failure of the test where that does not work.
inline void open_engine(CutEngine& engine, CrashMedium& medium, Ack ack, std::unique_ptr<BackingDev> backing) {
  auto space = std::make_unique<CrashSpace>(medium);
  engine.space = space.get();
  auto cache_dev = CacheDev::open(std::move(space));
  ASSERT_TRUE(cache_dev.ok()) << cache_dev.status().message();
  CacheOptions options;
  options.ack = ack;
  auto cache = Cache::open(std::move(*cache_dev), options);
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  engine.cache = std::move(*cache);
  const auto held = engine.cache->cache_dev().devices();
  auto device = held.empty() ? engine.cache->add("dev", std::move(backing))
                             : engine.cache->attach(held.front(), std::move(backing));
  ASSERT_TRUE(device.ok()) << device.status().message();
  engine.device = *device;
  ASSERT_FALSE(engine.device->failed()) << engine.device->stats().detail;
}

inline std::vector<std::byte> read_first(CachedDevice& device, std::uint64_t length) {
  std::vector<std::byte> bytes(length);
  Outcome outcome;
  device.read(0, bytes, outcome.completion());
  EXPECT_TRUE(outcome.done);
  EXPECT_EQ(outcome.error, 0);
  return bytes;
}

// Makes `left` what a cut may leave of `image` now: in state 0 nothing of what is pending, in state 1 all of it, in the
// others a choice, with torn pieces where `torn` says so. Returns the backing, which keeps what was not flushed in
// every other state.
inline std::shared_ptr<BackingImage> cut_power(const CrashMedium& image, const BackingImage& backing, CrashMedium& left,
                                               CrashRandom& random, std::uint64_t state, bool torn) {
  CrashPatch patch;
  if (torn) {
    image.tear(random, patch);
  } else {
    image.choose(state == 0 ? 0 : state == 1 ? ~std::uint64_t{0} : random(), patch);
  }
  auto kept = std::make_shared<BackingImage>(backing);
  if (state % 2 == 0) kept->power_cut();
  image.copy_durable_to(left);
  for (std::size_t i = 0; i < patch.count(); ++i) {
    left.store(patch.offset(i), patch.content(i).data(), patch.content(i).size());
  }
  return kept;
}

}  // namespace pcache
