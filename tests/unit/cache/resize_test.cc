// A logical device becomes as long as its backing has become, whatever is cached of where it ended.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <thread>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kOdd = kMiB + 3 * kSectorSize;  // ends inside block 256

// The backing becomes longer, and has bytes of 0x77 from `from` on.
void grow_backing(EngineRig& rig, std::uint64_t from, std::uint64_t bytes) {
  rig.backing_image().grow(bytes);
  std::fill(rig.backing_image().current.begin() + static_cast<std::ptrdiff_t>(from), rig.backing_image().current.end(),
            std::byte{0x77});
}

TEST(Resize, TheDeviceIsAsLongAsItsBackingAndStaysSo) {
  const RigShape shape;
  EngineRig rig(shape);
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 5, 3, 2), 0);
  const std::uint64_t longer = shape.device_bytes + 2 * kMiB + 512;
  grow_backing(rig, shape.device_bytes, longer);
  Bytes none(512);
  EXPECT_EQ(rig.read(shape.device_bytes, none), EINVAL) << "nobody asked for it yet";
  ASSERT_TRUE(rig.device().grow_to_backing().ok());
  EXPECT_EQ(rig.device().size_bytes(), longer);
  EXPECT_EQ(read_bytes(rig, shape.device_bytes, 2 * kMiB + 512), filled(2 * kMiB + 512, 0x77));
  ASSERT_EQ(rig.write(longer - 1024, filled(1024, 3)), 0);
  const auto check = [&] {
    EXPECT_EQ(rig.device().size_bytes(), longer);
    EXPECT_EQ(read_bytes(rig, longer - 2048, 1024), filled(1024, 0x77));
    EXPECT_EQ(read_bytes(rig, longer - 1024, 1024), filled(1024, 3));
    EXPECT_EQ(read_blocks(rig, 5, 3), blocks_of(5, 3, 2));
  };
  check();
  rig.kill();
  check();
  rig.reopen();
  check();
  rig.power_cut();
  check();
  ASSERT_EQ(rig.drain(), 0);
  check();
  EXPECT_EQ(rig.backing_image().durable.size(), longer);
  EXPECT_TRUE(rig.device().grow_to_backing().ok()) << "once more changes nothing";
  check();
}

TEST(Resize, ABackingThatIsLongerChangesNothingByItselfAndIsReported) {
  const RigShape shape;
  EngineRig rig(shape);
  grow_backing(rig, shape.device_bytes, 2 * shape.device_bytes);
  rig.reopen();
  EXPECT_EQ(rig.device().size_bytes(), shape.device_bytes);
  const LogicDevStats stats = rig.device().stats();
  EXPECT_EQ(stats.state, "running");
  EXPECT_NE(stats.detail.find(std::to_string(2 * shape.device_bytes)), std::string::npos) << stats.detail;
  ASSERT_EQ(rig.write(shape.device_bytes - 512, filled(512, 1)), 0);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().current, shape.device_bytes, 512), filled(512, 0x77));
  ASSERT_TRUE(rig.device().grow_to_backing().ok());
  EXPECT_EQ(rig.device().stats().detail, "");
}

// What the log has of the last block ends with zeroes, or is less than a block.
TEST(Resize, TheLastBlockGoesOnWithWhatTheBackingHas) {
  struct Case {
    const char* name;
    std::function<void(EngineRig&)> prepare;
    int first;  // byte of the last block, as it is to be read
  };
  const Case cases[] = {
      {"not cached", [](EngineRig&) {}, 9},
      {"read", [](EngineRig& rig) { (void)read_bytes(rig, kMiB, 512); }, 9},
      {"written", [](EngineRig& rig) { ASSERT_EQ(rig.write(kMiB, filled(1536, 5)), 0); }, 5},
      {"written and written back",
       [](EngineRig& rig) {
         ASSERT_EQ(rig.write(kMiB, filled(1536, 5)), 0);
         ASSERT_EQ(rig.drain(), 0);
       },
       5},
      {"written in two epochs",
       [](EngineRig& rig) {
         ASSERT_EQ(rig.write(kMiB, filled(1536, 4)), 0);
         ASSERT_TRUE(rig.commit().ok());
         ASSERT_EQ(rig.write(kMiB, filled(1536, 5)), 0);
       },
       5},
      {"discarded", [](EngineRig& rig) { ASSERT_EQ(rig.discard(kMiB - 8192, 8192 + 1536), 0); }, 0},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    RigShape shape;
    shape.device_bytes = kOdd;
    EngineRig rig(shape);
    rig.backing_image().current = rig.backing_image().durable = filled(kOdd, 9);
    c.prepare(rig);
    grow_backing(rig, kOdd, kMiB + 3 * kBlockSize);
    ASSERT_TRUE(rig.device().grow_to_backing().ok());
    Bytes expected = filled(3 * kBlockSize, 0x77);
    put(expected, 0, filled(1536, c.first));
    EXPECT_EQ(read_bytes(rig, kMiB, expected.size()), expected);
    rig.kill();
    EXPECT_EQ(read_bytes(rig, kMiB, expected.size()), expected);
    rig.power_cut();
    EXPECT_EQ(read_bytes(rig, kMiB, expected.size()), expected);
    EXPECT_EQ(part(rig.backing_image().current, kOdd, 512), filled(512, 0x77)) << "never put zeroes there";
    ASSERT_EQ(rig.write(kOdd - 100, filled(200, 1)), 0);
    put(expected, 1436, filled(200, 1));
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(part(rig.backing_image().durable, kMiB, expected.size()), expected);
    rig.reopen();
    EXPECT_EQ(read_bytes(rig, kMiB, expected.size()), expected);
  }
}

// A flush that fails may take with it what writeback wrote before, and the next one succeeds without it.
TEST(Resize, AFlushThatTheBackingFailsLosesNothing) {
  for (const Mode mode : {Mode::writeback, Mode::writethrough}) {
    const RigShape shape;
    EngineRig rig(shape);
    fill_backing(rig, 1);
    ASSERT_TRUE(rig.switch_mode({mode, false}).ok());
    ASSERT_EQ(write_blocks(rig, 5, 20, 2), 0);
    ASSERT_EQ(write_blocks(rig, 100, 20, 2), 0);
    ASSERT_TRUE(rig.commit().ok());
    const auto step = rig.device().write_back(10 * kBlockSize).step;
    ASSERT_EQ(step == CachedDevice::WriteBack::Step::part, mode == Mode::writeback);
    ASSERT_TRUE(mode == Mode::writeback || write_blocks(rig, 5, 20, 3) == 0);
    grow_backing(rig, shape.device_bytes, shape.device_bytes + kMiB);
    rig.backing().fail({.flushes = 1, .drop = true});
    EXPECT_EQ(rig.device().grow_to_backing().code(), Errc::failed);
    EXPECT_EQ(rig.device().size_bytes(), shape.device_bytes);
    EXPECT_EQ(rig.flush(), EIO) << "a user's flush tells of it, once";
    EXPECT_EQ(rig.flush(), 0);
    if (mode == Mode::writethrough) {
      EXPECT_EQ(read_blocks(rig, 5, 20), backing_blocks(rig, 5, 20)) << "a copy of what the backing dropped was kept";
      continue;
    }
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(part(rig.backing_image().durable, 5 * kBlockSize, 20 * kBlockSize), blocks_of(5, 20, 2));
  }
}

// A reader and a writer of a part have asked for the last block while it was shorter.
TEST(Resize, WhatIsBeingReadOfTheLastBlockMeanwhileIsNotKept) {
  RigShape shape;
  shape.device_bytes = kOdd;
  EngineRig rig(shape);
  rig.backing_image().current = rig.backing_image().durable = filled(kOdd, 9);
  rig.backing().hold(true);
  Bytes bytes(1024);
  Outcome reader;
  rig.device().read(kMiB, bytes, reader.completion());
  const Bytes two = filled(2, 2);
  Outcome writer;
  rig.device().write(kMiB + 1100, two, writer.completion());
  const std::size_t first = rig.backing().held();
  ASSERT_GE(first, 1U);
  grow_backing(rig, kOdd, kMiB + kBlockSize);

  bool grown = false;
  std::atomic<bool> ended{false};
  std::thread resize([&] {
    grown = rig.device().grow_to_backing().ok();
    ended = true;
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!ended && std::chrono::steady_clock::now() < deadline) {
    if (!rig.backing().release_one(first)) std::this_thread::yield();
  }
  EXPECT_TRUE(ended);
  rig.backing().hold(false);
  rig.backing().release_all();
  resize.join();
  EXPECT_TRUE(grown);
  ASSERT_TRUE(reader.done);
  EXPECT_EQ(reader.error, 0);
  EXPECT_EQ(bytes, filled(1024, 9));
  ASSERT_TRUE(writer.done);
  EXPECT_EQ(writer.error, 0);
  Bytes expected = filled(kBlockSize, 0x77);
  put(expected, 0, filled(1536, 9));
  put(expected, 1100, filled(2, 2));
  EXPECT_EQ(read_bytes(rig, kMiB, kBlockSize), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().current, kMiB, kBlockSize), expected);
}

TEST(Resize, ALastBlockThatIsLostStaysAnError) {
  RigShape shape;
  shape.device_bytes = kOdd;
  EngineRig rig(shape);
  ASSERT_EQ(rig.write(kMiB, filled(1536, 5)), 0);
  damage(rig, stored(rig, 256).cell_offset);
  EXPECT_EQ(rig.drain(), EIO);
  ASSERT_EQ(rig.device().stats().lost_bytes, kBlockSize);
  grow_backing(rig, kOdd, 2 * kMiB);
  ASSERT_TRUE(rig.device().grow_to_backing().ok());
  EXPECT_EQ(read_error(rig, 256), EIO);
  EXPECT_EQ(read_blocks(rig, 257, 1), filled(kBlockSize, 0x77));
  rig.kill();
  EXPECT_EQ(read_error(rig, 256), EIO);
  ASSERT_EQ(write_blocks(rig, 256, 1, 1), 0);
  EXPECT_EQ(read_blocks(rig, 256, 1), blocks_of(256, 1, 1));
}

TEST(Resize, WithABackingThatFailsOrBecameShorterNothingChanges) {
  RigShape shape;
  shape.device_bytes = kOdd;
  EngineRig rig(shape);
  ASSERT_EQ(rig.write(kMiB, filled(1536, 5)), 0);
  grow_backing(rig, kOdd, 2 * kMiB);
  rig.backing().fail({.writes = 1000});
  EXPECT_EQ(rig.device().grow_to_backing().code(), Errc::failed);
  rig.backing().fail({.flushes = 1000});
  EXPECT_EQ(rig.device().grow_to_backing().code(), Errc::failed);
  rig.backing().fail({.reads = 1});
  EXPECT_EQ(rig.device().grow_to_backing().code(), Errc::failed);
  rig.backing().fail({});
  rig.backing().shrink(kMiB);
  EXPECT_EQ(rig.device().grow_to_backing().code(), Errc::failed);
  EXPECT_EQ(rig.device().size_bytes(), kOdd);
  rig.reopen();
  EXPECT_EQ(rig.device().size_bytes(), kOdd);
  EXPECT_EQ(read_bytes(rig, kMiB, 1536), filled(1536, 5));
}

}  // namespace
}  // namespace pcache
