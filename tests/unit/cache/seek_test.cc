// Where a device has data and where it reads as zeroes.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <vector>

#include "tests/support/stored.h"

namespace pcache {
namespace {

using Seek = LogicDev::Seek;

// The bytes at which data and holes begin in turn, from 0 on: data first, if only with no bytes.
std::vector<std::uint64_t> borders(EngineRig& rig) {
  std::vector<std::uint64_t> borders;
  Seek what = Seek::hole;
  for (std::uint64_t offset = 0;;) {
    if (const int error = rig.device().seek(what, offset); error != 0) {
      EXPECT_EQ(error, ENXIO);
      break;
    }
    borders.push_back(offset);
    if (offset == rig.device().size_bytes()) break;
    what = what == Seek::data ? Seek::hole : Seek::data;
  }
  return borders;
}

// The same of a content whose blocks of zeroes are holes.
std::vector<std::uint64_t> borders_of(const Bytes& content) {
  std::vector<std::uint64_t> borders;
  bool data = true;
  for (std::size_t at = 0; at < content.size(); at += kBlockSize) {
    const std::size_t end = std::min<std::size_t>(at + kBlockSize, content.size());
    bool zero = true;
    for (std::size_t i = at; zero && i < end; ++i) zero = content[i] == std::byte{0};
    if (zero == data) borders.push_back(at);
    data = !zero;
  }
  if (data) borders.push_back(content.size());
  return borders;
}

TEST(Seek, CachedBlocksAreDataAndDiscardedOnesAreHolesWhateverTheBackingHas) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 10, 4, 2), 0);
  ASSERT_EQ(rig.discard(8 * kBlockSize, 4 * kBlockSize), 0);
  ASSERT_EQ(rig.discard(300 * kBlockSize, 900 * kBlockSize), 0);
  const std::uint64_t size = rig.device().size_bytes();
  const std::vector<std::uint64_t> expected = {8 * kBlockSize, 12 * kBlockSize, 300 * kBlockSize, 1200 * kBlockSize,
                                               size};
  EXPECT_EQ(borders(rig), expected);
  rig.kill();
  EXPECT_EQ(borders(rig), expected);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(borders(rig), std::vector<std::uint64_t>{size}) << "a backing that knows no holes is all data";
}

TEST(Seek, WhatIsNotCachedIsWhatTheBackingSays) {
  EngineRig rig{RigShape()};
  rig.backing().sparse = true;
  const std::uint64_t size = rig.device().size_bytes();
  EXPECT_EQ(borders(rig), std::vector<std::uint64_t>{0}) << "all a hole: no data follows";
  Bytes content(size);
  put(content, 20 * kBlockSize, blocks_of(20, 10, 1));
  put(content, size - kBlockSize, blocks_of(0, 1, 1));
  rig.backing_image().current = rig.backing_image().durable = content;
  EXPECT_EQ(borders(rig), borders_of(content));
  ASSERT_EQ(write_blocks(rig, 3, 2, 2), 0);
  ASSERT_EQ(rig.discard(25 * kBlockSize, 2 * kBlockSize), 0);
  put(content, 3 * kBlockSize, blocks_of(3, 2, 2));
  put(content, 25 * kBlockSize, Bytes(2 * kBlockSize));
  EXPECT_EQ(borders(rig), borders_of(content));
}

TEST(Seek, FromInsideDataOrAHoleStaysWhereItIs) {
  RigShape shape;
  shape.device_bytes = kMiB + 3 * kSectorSize;
  EngineRig rig(shape);
  rig.backing().sparse = true;
  ASSERT_EQ(rig.write(kMiB + 600, filled(1, 1)), 0);
  ASSERT_EQ(write_blocks(rig, 2, 1, 1), 0);
  const auto from = [&](std::uint64_t offset, Seek what) {
    const int error = rig.device().seek(what, offset);
    return error == 0 ? offset : std::uint64_t{0} - static_cast<std::uint64_t>(error);
  };
  EXPECT_EQ(from(2 * kBlockSize + 77, Seek::data), 2 * kBlockSize + 77);
  EXPECT_EQ(from(2 * kBlockSize + 77, Seek::hole), 3 * kBlockSize);
  EXPECT_EQ(from(3 * kBlockSize + 5, Seek::hole), 3 * kBlockSize + 5);
  EXPECT_EQ(from(3 * kBlockSize + 5, Seek::data), kMiB);
  EXPECT_EQ(from(kMiB + 1, Seek::hole), shape.device_bytes) << "its end is a hole";
  EXPECT_EQ(from(shape.device_bytes, Seek::data), std::uint64_t{0} - ENXIO);
  EXPECT_EQ(from(shape.device_bytes, Seek::hole), std::uint64_t{0} - ENXIO);
  EXPECT_EQ(from(~std::uint64_t{0}, Seek::data), std::uint64_t{0} - ENXIO);
}

// The backing is asked, then what was dirty is written back and evicted: it has data now, though it had none.
TEST(Seek, WhatIsWrittenBackAndEvictedMeanwhileIsNoHole) {
  EngineRig rig{RigShape()};
  rig.backing().sparse = true;
  ASSERT_EQ(write_blocks(rig, 0, 200, 1), 0);
  int asked = 0;
  rig.backing().on_extent = [&](const BackingExtent& found) {
    if (++asked != 1) return;
    EXPECT_FALSE(found.data);
    ASSERT_EQ(rig.drain(), 0);
    for (std::uint32_t stream = 0; stream < rig.device().stream_count(); ++stream) {
      while (rig.device().reclaim_front(stream)) {
      }
    }
    ASSERT_EQ(rig.device().block_state(5).kind, CachedDevice::BlockState::Kind::absent);
  };
  std::uint64_t offset = 5 * kBlockSize;
  EXPECT_EQ(rig.device().seek(Seek::hole, offset), 0);
  EXPECT_GE(offset, 200 * kBlockSize);
  EXPECT_GE(asked, 2);
}

// No block that is written is all zeroes, and nothing is read into the cache before the end.
TEST(Seek, AgreesWithTheContentWhateverHappenedToTheCache) {
  const unsigned seed = 31;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  RigShape shape{40 * kMiB, 256 * kKiB, 3 * kMiB + 512, Granularity::cache_line, {}};
  EngineRig rig(shape);
  rig.backing().sparse = true;
  const std::uint64_t blocks = shape.device_bytes / kBlockSize;
  Bytes content(shape.device_bytes);
  for (int step = 0; step < 150; ++step) {
    const std::uint64_t first = random() % blocks;
    const std::uint64_t count = std::min<std::uint64_t>(1 + random() % (random() % 5 == 0 ? 600 : 12), blocks - first);
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
        ASSERT_EQ(write_blocks(rig, first, count, static_cast<std::uint64_t>(step) + 1), 0);
        put(content, first * kBlockSize, blocks_of(first, count, static_cast<std::uint64_t>(step) + 1));
        break;
      case 3:
      case 4:
        ASSERT_EQ(rig.discard(first * kBlockSize, count * kBlockSize), 0);
        put(content, first * kBlockSize, Bytes(count * kBlockSize));
        break;
      case 5:
        ASSERT_TRUE(rig.commit().ok());
        rig.device().writeback_step();
        break;
      case 6:
        for (std::uint32_t stream = 0; stream < rig.device().stream_count(); ++stream) {
          rig.device().reclaim_front(stream);
        }
        break;
      default:
        rig.kill();
        rig.backing().sparse = true;
    }
    ASSERT_EQ(borders(rig), borders_of(content)) << "after step " << step;
  }
  EXPECT_TRUE(read_bytes(rig, 0, shape.device_bytes) == content);
}

TEST(Seek, OfADeviceThatIsStoppedIsAnError) {
  EngineRig rig{RigShape()};
  rig.device().stop();
  std::uint64_t offset = 0;
  EXPECT_EQ(rig.device().seek(Seek::data, offset), EIO);
}

}  // namespace
}  // namespace pcache
