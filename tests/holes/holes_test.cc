// Holes that the Linux kernel's pcache drivers have or had, through which data gets lost or corrupted: each provoked
// here and not there. The name says which hole; the comment, what happens in the driver.
//
//   B01 a flush does not reach the cache     B07 stop under an open device     B13 another backing is written to
//   B02 a second life of a device's place    B08 index before log              B14 zeroes mean "format me"
//   B03 a miss under a write                 B09 stale records behind the end  B15 writeback outlives the cache
//   B04 a format keeps generations           B10 bad record means end          B16 the only good copy is overwritten
//   B05 the link to the next segment         B11 checksum before generation    B17 heads take all segments
//   B06 sizes from the command line          B12 the backing's flush fails

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/units.h"
#include "pcache/device_manager.h"
#include "tests/support/crash_space.h"
#include "tests/support/logic_io.h"
#include "tests/support/stored.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

RigShape page_shape() {
  RigShape shape;
  shape.granularity = Granularity::page;
  return shape;
}

std::array<std::uint8_t, 16> uuid_of(std::uint8_t number) {
  std::array<std::uint8_t, 16> uuid{};
  uuid.fill(number);
  return uuid;
}

void format(PmemSpace& space, std::uint8_t uuid) {
  const Status status = CacheDev::format(space, {uuid_of(uuid), "holes", 256 * kKiB});
  ASSERT_TRUE(status.ok()) << status.message();
}

std::unique_ptr<Cache> open_cache(std::unique_ptr<PmemSpace> space) {
  auto cache_dev = CacheDev::open(std::move(space));
  EXPECT_TRUE(cache_dev.ok()) << cache_dev.status().message();
  if (!cache_dev) return nullptr;
  auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
  EXPECT_TRUE(cache.ok()) << cache.status().message();
  return cache ? std::move(*cache) : nullptr;
}

int read_into(LogicDev& device, std::uint64_t offset, Bytes& bytes) {
  Outcome outcome;
  device.read(offset, bytes, outcome.completion());
  return outcome.error;
}

int write_to_device(LogicDev& device, std::uint64_t offset, const Bytes& bytes) {
  Outcome outcome;
  device.write(offset, bytes, outcome.completion());
  return outcome.error;
}

// The block layer completes FLUSH before it reaches the driver: what was fsynced is lost with the power. Here with
// nothing surviving but what was synced. Through the mount: e2e/kill_daemon_ext4.sh.
TEST(Holes, B01_WhatWasFlushedSurvivesAPowerCutThatTakesEverythingElse) {
  EngineRig rig(page_shape());
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  ASSERT_EQ(rig.flush(), 0);
  ASSERT_EQ(write_blocks(rig, 4, 8, 3), 0);
  rig.power_cut([](std::size_t) { return false; });
  EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 2));
  EXPECT_EQ(read_blocks(rig, 8, 4), blocks_of(8, 4, 1)) << "or the cut took nothing";
}

// Sequence numbers of a device's metadata begin anew at each start: the place's former life wins after a crash, and the
// cache counts as new.
TEST(Holes, B02_TheSecondLifeOfADevicesPlaceIsTheOneFoundAfterACrash) {
  EngineRig rig{RigShape()};
  const auto image = std::make_shared<BackingImage>(2 * kMiB);
  const auto backing = [&] { return std::make_unique<FakeBackingDev>(image, "/fake/other", "fake:2"); };
  std::uint32_t place = 0;
  for (std::uint64_t life = 1; life <= 3; ++life) {
    auto other = rig.cache().add("other", backing());
    ASSERT_TRUE(other.ok());
    ASSERT_TRUE(life == 1 || (*other)->place() == place) << "the place was to be used again";
    place = (*other)->place();
    ASSERT_EQ(write_to_device(**other, 0, blocks_of(0, 4, life)), 0);
    ASSERT_TRUE(life == 3 || rig.cache().remove(*other).ok());
  }
  rig.kill();
  const auto devices = rig.cache().cache_dev().devices();
  ASSERT_EQ(devices.size(), 2U);
  const auto other = rig.cache().attach(devices.at(1), backing());
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE((*other)->failed()) << (*other)->stats().detail;
  EXPECT_EQ((*other)->dirty_bytes(), 4 * kBlockSize);
  Bytes found(4 * kBlockSize);
  ASSERT_EQ(read_into(**other, 0, found), 0);
  EXPECT_EQ(found, blocks_of(0, 4, 3));
}

// A write over the front of a miss in flight moves the placeholder and not the source of the copy: wrong bytes are kept
// as clean.
TEST(Holes, B03_AWriteOverTheFrontOfAMissInFlightDoesNotShiftWhatIsKept) {
  EngineRig rig{RigShape()};
  Bytes expected = part(fill_backing(rig, 1), 0, 8 * kBlockSize);
  rig.backing().hold(true);
  Bytes missed(8 * kBlockSize);
  Outcome miss;
  rig.device().read(0, missed, miss.completion());
  const Bytes front = filled(2 * kBlockSize + 512, 0x77);  // ends inside a block
  Outcome write;
  rig.device().write(0, front, write.completion());
  EXPECT_FALSE(miss.done);
  rig.backing().hold(false);
  rig.backing().release_all();
  ASSERT_TRUE(miss.done && write.done);
  ASSERT_EQ(write.error, 0);
  put(expected, 0, front);
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  const auto reads = rig.backing().counts().reads;
  EXPECT_EQ(read_blocks(rig, 0, 8), expected);
  EXPECT_EQ(rig.backing().counts().reads, reads) << "the second time it was to come from the cache";
}

// A format after a crash forgets that segments had generations: after the next crash every new key looks stale, or an
// old one new.
TEST(Holes, B04_AFormatAfterACrashLeavesNothingBehindThatLaterCrashesFind) {
  EngineRig rig{RigShape()};
  fill_backing(rig, 1);
  ASSERT_EQ(write_blocks(rig, 0, 200, 2), 0);
  rig.kill();
  for (std::uint8_t life = 3; life < 6; ++life) {
    rig.close();
    auto image = MemorySpace::copy_image(rig.cache_image());
    {
      MemorySpace space(image);
      format(space, life);
    }
    rig.cache_image() = *image;
    rig.open();
    EXPECT_EQ(read_blocks(rig, 0, 200), blocks_of(0, 200, 1));
    ASSERT_EQ(write_blocks(rig, 0, 3, life), 0);
    for (int crash = 0; crash < 2; ++crash) {
      rig.kill();
      EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(read_blocks(rig, 0, 3), blocks_of(0, 3, life));
      EXPECT_EQ(read_blocks(rig, 3, 197), blocks_of(3, 197, 1));
    }
  }
}

// The link to the next segment is never flushed: after a power loss the log ends there.
TEST(Holes, B05_AtEachNewSegmentAPowerCutLosesNothingThatWasAcknowledged) {
  constexpr std::uint64_t kBlocks = 200;  // more than three segments
  CrashMedium medium(4 * kMiB, Granularity::cache_line);
  medium.track(true);
  const auto backing = std::make_shared<BackingImage>(kMiB);
  auto owned = std::make_unique<CrashSpace>(medium);
  CrashSpace& space = *owned;
  ASSERT_NO_FATAL_FAILURE(format(space, 1));
  const auto cache = open_cache(std::move(owned));
  ASSERT_NE(cache, nullptr);
  const auto device = cache->add("dev", std::make_unique<FakeBackingDev>(backing));
  ASSERT_TRUE(device.ok());
  for (std::uint64_t block = 0; block < kBlocks; block += 5) {
    ASSERT_EQ(write_to_device(**device, block * kBlockSize, blocks_of(block, 5, 1)), 0);
    CrashMedium cut(medium.size(), Granularity::cache_line);
    medium.copy_durable_to(cut);
    const auto again = open_cache(std::make_unique<CrashSpace>(cut));
    ASSERT_NE(again, nullptr);
    const auto recovered =
        again->attach(again->cache_dev().devices().front(), std::make_unique<FakeBackingDev>(backing));
    ASSERT_TRUE(recovered.ok());
    ASSERT_FALSE((*recovered)->failed()) << (*recovered)->stats().detail;
    Bytes found((block + 5) * kBlockSize);
    ASSERT_EQ(read_into(**recovered, 0, found), 0);
    ASSERT_EQ(found, blocks_of(0, block + 5, 1)) << "after block " << block;
  }
  EXPECT_GE(cache->pool().in_use().size(), 3U);
}

// The array of segments has the size that is asked for now, the loop over it the one on the medium.
TEST(Holes, B06_TheGeometryIsThatOfTheMediumWhateverSizeIsThere) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 300, 1), 0);
  const std::uint32_t segments = rig.cache().pool().total();
  rig.close();
  rig.cache_image().resize(rig.cache_image().size() + 4 * kMiB);
  rig.open();
  EXPECT_EQ(rig.cache().pool().total(), segments);
  EXPECT_EQ(read_blocks(rig, 0, 300), blocks_of(0, 300, 1));
  rig.close();
  auto cut_short = MemorySpace::copy_image(rig.cache_image());
  cut_short->resize(RigShape().cache_bytes - kBlockSize);
  const auto refused = CacheDev::open(std::make_unique<MemorySpace>(cut_short));
  EXPECT_EQ(refused.status().code(), Errc::integrity) << refused.status().message();
  rig.open();
}

// Stop frees the cache under a device that is still open, and takes data for written back that is not.
TEST(Holes, B07_RemoveWaitsForReadsInFlightAndWhoeverStillHoldsTheDeviceGetsEio) {
  EngineRig rig{RigShape()};
  const auto image = std::make_shared<BackingImage>(2 * kMiB);
  image->current = image->durable = blocks_of(0, 512, 1);
  auto owned = std::make_unique<FakeBackingDev>(image, "/fake/other", "fake:2");
  FakeBackingDev& backing = *owned;
  const auto added = rig.cache().add("other", std::move(owned));
  ASSERT_TRUE(added.ok());
  CachedDevice& device = **added;
  backing.hold(true);
  Bytes found(4 * kBlockSize);
  Outcome miss;
  device.read(0, found, miss.completion());
  ASSERT_FALSE(miss.done);
  Status removed(Errc::failed, "not yet");
  std::thread remover([&] { removed = rig.cache().remove(*added); });
  while (!device.stopped()) std::this_thread::yield();
  backing.release_one();
  remover.join();
  EXPECT_TRUE(removed.ok()) << removed.message();
  EXPECT_TRUE(miss.done);
  EXPECT_EQ(miss.error, 0);
  EXPECT_EQ(found, blocks_of(0, 4, 1));
  EXPECT_EQ(read_into(device, 0, found), EIO);
  EXPECT_EQ(write_to_device(device, 0, found), EIO);
}

TEST(Holes, B07_RemoveIsRefusedWhileTheBackingDoesNotHaveAllData) {
  const TempDir dir;
  FormatOptions options;
  options.size_bytes = 16 * kMiB;
  ASSERT_TRUE(format_cache_dev(dir / "cache", options).ok());
  make_file(dir / "backing", 4 * kMiB, 'b');
  const auto manager = DeviceManager::create();
  ASSERT_TRUE(manager->open_cache_dev(dir / "cache", keep_dirty()).ok());
  ASSERT_TRUE(manager->add("dev", dir / "backing", {}).ok());
  const std::shared_ptr<LogicDev> held = manager->find("dev");
  ASSERT_NE(held, nullptr);
  ASSERT_EQ(write_to(*held, 0, std::string(kBlockSize, 'x') + std::string(kBlockSize, 'y')), 0);
  // The cell of the first block is damaged, so that its data is nowhere.
  const std::string cache = read_file(dir / "cache", 0, 16 * kMiB);
  const std::size_t cell = cache.find(std::string(kBlockSize, 'x'));
  ASSERT_NE(cell, std::string::npos);
  write_file(dir / "cache", cell + 100, "z");
  EXPECT_EQ(manager->remove("dev").code(), Errc::integrity);
  ASSERT_EQ(manager->find("dev"), held);
  EXPECT_EQ(read_from(*held, 0, 1), "(5)");
  EXPECT_EQ(read_from(*held, kBlockSize, 1), "y");
  ASSERT_EQ(write_to(*held, 0, std::string(kBlockSize, 'x')), 0);
  EXPECT_TRUE(manager->remove("dev").ok());
  EXPECT_EQ(read_file(dir / "backing", kBlockSize - 1, 2), "xy");
  EXPECT_EQ(read_from(*held, 0, 1), "(5)");
  EXPECT_EQ(write_to(*held, 0, "x"), EIO);
}

// The index changes before there is room in the log: what a write that waits is to overwrite reads as it was on the
// backing long ago, and may be kept so.
TEST(Holes, B08_AWriteThatWaitsForSpaceLeavesWhatItIsToOverwrite) {
  RigShape shape;
  EngineRig rig(shape);
  fill_backing(rig, 1);
  const std::uint64_t room = room_for_blocks(rig);
  ASSERT_LE(room, shape.device_bytes / kBlockSize);
  ASSERT_EQ(write_blocks(rig, 0, room, 2), 0);
  const Bytes newer = blocks_of(5, 3, 3);
  Outcome waiting;
  rig.device().write(5 * kBlockSize, newer, waiting.completion());
  ASSERT_FALSE(waiting.done) << "the cache was to be full";
  Bytes found(16 * kBlockSize);
  ASSERT_EQ(read_into(rig.device(), 0, found), 0);
  EXPECT_EQ(found, blocks_of(0, 16, 2));
  rig.close();
  EXPECT_EQ(waiting.error, EIO);
  rig.open();
  EXPECT_EQ(read_blocks(rig, 0, 16), blocks_of(0, 16, 2));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, room), blocks_of(0, room, 2));
}

// Nothing tells the records of a segment's earlier life from what belongs behind the end of the log.
TEST(Holes, B09_RecordsOfAnEarlierLifeBehindTheEndOfTheLogAreNotReplayed) {
  EngineRig rig{RigShape()};
  const std::uint64_t slots = slots_per_segment(rig);
  const std::uint64_t blocks = 30 * slots / 2;
  // All segments are used once, every slot of them, and each block has been written back.
  for (std::uint64_t version = 1; version <= 3; ++version) {
    for (std::uint64_t block = 0; block < blocks; block += slots) {
      ASSERT_EQ(write_blocks(rig, block, slots, version), 0);
    }
  }
  ASSERT_EQ(rig.drain(), 0);
  while (!rig.cache().pool().in_use().empty() && rig.device().reclaim_front(0)) {
  }
  // To the next segment.
  ASSERT_EQ(write_blocks(rig, 0, 1, 4), 0);
  while (stored(rig, 0).record_offset % kMediaPage != 0) ASSERT_EQ(write_blocks(rig, 0, 1, 4), 0);
  const Stored newest = stored(rig, 0);
  KeyRecord next{};
  std::memcpy(&next, rig.cache_image().data() + newest.record_offset + kRecordSize, sizeof next);
  ASSERT_EQ(next.crc, record_crc(next)) << "there was to be a valid record behind the newest one";
  ASSERT_LT(next.generation, newest.record.generation);
  for (int crash = 0; crash < 2; ++crash) {
    rig.kill();
    EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
    EXPECT_EQ(rig.device().dirty_bytes(), kBlockSize);
    EXPECT_EQ(read_blocks(rig, 0, 1), blocks_of(0, 1, 4));
    EXPECT_EQ(read_blocks(rig, 1, blocks - 1), blocks_of(1, blocks - 1, 3));
  }
}

// The first record with a wrong checksum is the end of the log, for replay and for writeback.
TEST(Holes, B10_ABadRecordInTheMiddleIsNotTheEndOfTheLog) {
  constexpr std::uint64_t kBlocks = 6;
  for (std::uint64_t bad = 0; bad + 1 < kBlocks; ++bad) {
    for (const std::size_t byte : {0, 9, 17, 25, 33, 41, 49, 57}) {
      SCOPED_TRACE("byte " + std::to_string(byte) + " of record " + std::to_string(bad));
      EngineRig rig{RigShape()};
      fill_backing(rig, 1);
      for (std::uint64_t block = 0; block < kBlocks; ++block) ASSERT_EQ(write_blocks(rig, block, 1, 2), 0);
      const std::uint64_t offset = stored(rig, bad).record_offset + byte;
      damage(rig, offset);
      rig.kill();
      ASSERT_TRUE(rig.device().failed());
      EXPECT_EQ(rig.device().damaged_records(), 1U);
      for (std::uint64_t block = 0; block < kBlocks; ++block) EXPECT_EQ(read_error(rig, block), EIO);
      damage(rig, offset);
      rig.kill();
      EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(read_blocks(rig, 0, kBlocks), blocks_of(0, kBlocks, 2)) << "nothing was cut off";
    }
  }
}

TEST(Holes, B10_ARecordThatGoesBadWhileTheDeviceRunsStopsNoWriteback) {
  EngineRig rig{RigShape()};
  for (std::uint64_t block = 0; block < 6; ++block) ASSERT_EQ(write_blocks(rig, block, 1, 2), 0);
  damage(rig, stored(rig, 2).record_offset + 9);
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(backing_blocks(rig, 0, 6), blocks_of(0, 6, 2));
}

// Replay verifies data before it asks whether the key still counts: damage of what is dead keeps the cache from
// starting.
TEST(Holes, B11_DamageOfDeadDataStopsNothing) {
  for (const RigShape& shape : {RigShape(), page_shape()}) {
    SCOPED_TRACE(shape.name());
    EngineRig rig(shape);
    ASSERT_EQ(write_blocks(rig, 0, 4, 1), 0);
    const std::uint64_t dead = stored(rig, 1).cell_offset;
    ASSERT_EQ(rig.flush(), 0);
    ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
    damage(rig, dead + 7);
    for (int crash = 0; crash < 2; ++crash) {
      rig.kill();
      EXPECT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(read_blocks(rig, 0, 4), blocks_of(0, 4, 2));
    }
    ASSERT_EQ(rig.drain(), 0);
    EXPECT_EQ(backing_blocks(rig, 0, 4), blocks_of(0, 4, 2));
  }
}

// What the backing's flush says is not looked at, and the dirty tail moves on.
TEST(Holes, B12_TheDirtyTailStaysWhenTheBackingsFlushFails) {
  EngineRig rig{RigShape()};
  ASSERT_EQ(write_blocks(rig, 0, 8, 2), 0);
  ASSERT_TRUE(rig.commit().ok());
  rig.backing().fail({.flushes = 1});
  EXPECT_FALSE(rig.device().writeback_step());
  rig.power_cut();  // the backing loses what it was not able to flush
  EXPECT_EQ(rig.device().dirty_bytes(), 8 * kBlockSize);
  EXPECT_EQ(read_blocks(rig, 0, 8), blocks_of(0, 8, 2));
  ASSERT_EQ(rig.drain(), 0);
  EXPECT_EQ(part(rig.backing_image().durable, 0, 8 * kBlockSize), blocks_of(0, 8, 2));
}

// A backing is known by its path or by nothing: dirty data is written to whatever is there.
TEST(Holes, B13_DirtyDataIsNotWrittenToABackingThatIsAnotherOrHasAnotherSize) {
  constexpr std::size_t kSize = 4 * kMiB;
  const TempDir dir;
  FormatOptions options;
  options.size_bytes = 16 * kMiB;
  ASSERT_TRUE(format_cache_dev(dir / "cache", options).ok());
  make_file(dir / "backing", kSize, 'b');
  auto manager = DeviceManager::create();
  const auto reopen = [&] {
    manager.reset();
    manager = DeviceManager::create();
    ASSERT_TRUE(manager->open_cache_dev(dir / "cache", keep_dirty()).ok());
  };
  ASSERT_NO_FATAL_FAILURE(reopen());
  ASSERT_TRUE(manager->add("dev", dir / "backing", {}).ok());
  ASSERT_EQ(write_to(*manager->find("dev"), kSize - 1, "d"), 0);
  manager.reset();
  std::filesystem::rename(dir / "backing", dir / "real");
  for (const std::size_t size : {kSize, kSize / 2, 2 * kSize}) {
    make_file(dir / "backing", size, 'o');
    ASSERT_NO_FATAL_FAILURE(reopen());
    EXPECT_EQ(manager->find("dev"), nullptr);
    EXPECT_EQ(manager->status().logic_devs.at(0).state, "no_backing");
    EXPECT_NE(manager->flush("dev").code(), Errc::ok);
    EXPECT_EQ(read_file(dir / "backing", 0, 2 * kSize), std::string(size, 'o'));
  }
  std::filesystem::rename(dir / "real", dir / "backing");
  std::filesystem::resize_file(dir / "backing", kSize / 2);  // the right one, cut
  ASSERT_NO_FATAL_FAILURE(reopen());
  EXPECT_EQ(manager->status().logic_devs.at(0).state, "no_backing");
  std::filesystem::resize_file(dir / "backing", kSize);
  ASSERT_NO_FATAL_FAILURE(reopen());
  ASSERT_TRUE(manager->flush("dev").ok());
  EXPECT_EQ(read_file(dir / "backing", kSize - 1, 1), "d");
}

// A magic number of zero means a new device, which is formatted.
TEST(Holes, B14_AZeroedSuperblockIsNeverFormatted) {
  for (const int zeroed : {1, 2, 3}) {
    SCOPED_TRACE(zeroed == 3 ? "both copies" : "copy " + std::to_string(zeroed));
    EngineRig rig{RigShape()};
    ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
    rig.close();
    const MemorySpace::Image whole = rig.cache_image();
    if ((zeroed & 1) != 0) put(rig.cache_image(), 0, Bytes(kMediaPage));
    if ((zeroed & 2) != 0) put(rig.cache_image(), kMediaPage, Bytes(kMediaPage));
    if (zeroed == 3) {
      auto image = MemorySpace::copy_image(rig.cache_image());
      const auto refused = CacheDev::open(std::make_unique<MemorySpace>(image));
      EXPECT_EQ(refused.status().code(), Errc::invalid) << refused.status().message();
      EXPECT_TRUE(*image == rig.cache_image()) << "it was written to";
      rig.cache_image() = whole;
    }
    rig.open();
    EXPECT_EQ(read_blocks(rig, 0, 4), blocks_of(0, 4, 2));
    EXPECT_EQ(rig.device().dirty_bytes(), 4 * kBlockSize);
  }
}

// A backing that completes late: its operations outlive the cache's handle of it, unless somebody waits for them.
class LateBacking final : public BackingDev {
 public:
  explicit LateBacking(std::shared_ptr<FakeBackingDev> below) : below_(std::move(below)) {}

  std::uint64_t size_bytes() const override { return below_->size_bytes(); }
  const std::string& path() const override { return below_->path(); }
  const BackingIdentity& identity() const override { return below_->identity(); }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    below_->read(offset, buffer, done);
  }
  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override {
    below_->write(offset, parts, done);
  }
  void flush(Completion done) override { below_->flush(done); }
  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override {
    below_->write_zeroes(offset, length, done);
  }

 private:
  const std::shared_ptr<FakeBackingDev> below_;
};

// The cache's segments are freed before writeback in flight has ended.
TEST(Holes, B15_TheCacheOutlivesWritebackInFlight) {
  const auto image = MemorySpace::make_image(4 * kMiB);
  const auto backing_image = std::make_shared<BackingImage>(kMiB);
  const auto backing = std::make_shared<FakeBackingDev>(backing_image);
  auto space = std::make_unique<MemorySpace>(image);
  ASSERT_NO_FATAL_FAILURE(format(*space, 1));
  auto cache = open_cache(std::move(space));
  ASSERT_NE(cache, nullptr);
  auto device = cache->add("dev", std::make_unique<LateBacking>(backing));
  ASSERT_TRUE(device.ok());
  cache->start();
  ASSERT_EQ(write_to_device(**device, 0, blocks_of(0, 100, 1)), 0);
  backing->hold(true);
  std::thread drainer([&] { (*device)->drain(0); });
  while (backing->held() == 0) std::this_thread::yield();
  std::atomic<bool> freed{false};
  std::thread releaser([&] {
    while (!(*device)->stopped()) std::this_thread::yield();
    EXPECT_FALSE(freed);
    backing->hold(false);
    backing->release_all();
  });
  cache.reset();
  freed = true;
  releaser.join();
  drainer.join();
  EXPECT_EQ(backing->held(), 0U);
  device = Status(Errc::failed, "gone");
  // Written back or still dirty, but not lost.
  cache = open_cache(std::make_unique<MemorySpace>(image));
  ASSERT_NE(cache, nullptr);
  device = cache->attach(cache->cache_dev().devices().front(), std::make_unique<LateBacking>(backing));
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->drain(0), 0);
  EXPECT_EQ(part(backing_image->durable, 0, 100 * kBlockSize), blocks_of(0, 100, 1));
}

// After an attach the first update goes over the newest copy of an item: a crash in it leaves an old one or none.
TEST(Holes, B16_TheFirstUpdateAfterOpeningDoesNotOverwriteTheOnlyGoodCopy) {
  for (const bool second : {false, true}) {
    bool cut = true;
    for (std::uint64_t writes = 0; cut; ++writes) {
      SCOPED_TRACE(std::string(second ? "second" : "first") + " copies damaged, " + std::to_string(writes) + " writes");
      EngineRig rig{RigShape()};
      fill_backing(rig, 1);
      ASSERT_EQ(write_blocks(rig, 0, 4, 2), 0);
      ASSERT_EQ(rig.drain(), 0);
      ASSERT_EQ(write_blocks(rig, 0, 2, 3), 0);
      const Geometry& g = rig.cache().cache_dev().geometry();
      const std::uint64_t state =
          (second ? g.device_states_copy : g.device_states) + rig.device().place() * kRecordSize;
      const std::uint64_t entry =
          (second ? g.segment_table_copy : g.segment_table) + stored(rig, 0).segment * kRecordSize;
      const std::uint64_t record = second ? g.device_records_copy : g.device_records;
      for (const std::uint64_t at : {state, entry, record}) damage(rig, at + 30);
      rig.kill();
      rig.space().cut_after(writes, 32);
      rig.drain();
      cut = rig.space().was_cut();
      rig.power_cut();
      ASSERT_FALSE(rig.device().failed()) << rig.device().stats().detail;
      EXPECT_EQ(rig.cache().cache_dev().damaged_device_records(), 0U);
      EXPECT_EQ(read_blocks(rig, 0, 2), blocks_of(0, 2, 3));
      EXPECT_EQ(read_blocks(rig, 2, 2), blocks_of(2, 2, 2));
      ASSERT_EQ(rig.drain(), 0);
      EXPECT_EQ(part(rig.backing_image().durable, 0, 2 * kBlockSize), blocks_of(0, 2, 3));
    }
  }
}

// Each writer's open segment is one that nothing can reclaim: with as many writers as segments all wait for ever.
TEST(Holes, B17_TheSmallestCacheServesAsManyDevicesAsItTakes) {
  auto space = std::make_unique<MemorySpace>(MemorySpace::make_image(4 * kMiB));
  ASSERT_NO_FATAL_FAILURE(format(*space, 1));
  const auto cache = open_cache(std::move(space));
  ASSERT_NE(cache, nullptr);
  ASSERT_EQ(cache->pool().total(), kMinSegments);
  struct User {
    std::shared_ptr<BackingImage> image = std::make_shared<BackingImage>(8 * kMiB);
    std::shared_ptr<CachedDevice> device;
    Bytes content = {};
    Outcome write = {};
  };
  std::vector<std::unique_ptr<User>> users;
  for (int number = 0;; ++number) {
    auto user = std::make_unique<User>();
    const std::string name = std::to_string(number);
    auto added = cache->add(name, std::make_unique<FakeBackingDev>(user->image, "/fake/" + name, "fake:" + name));
    if (!added) {
      EXPECT_EQ(added.status().code(), Errc::no_space);
      break;
    }
    user->device = *added;
    users.push_back(std::move(user));
    ASSERT_LT(users.size(), kMaxDevices);
  }
  ASSERT_GE(users.size(), 2U);
  // Each writes twice what the cache holds, all at once.
  for (std::uint64_t i = 0; i < users.size(); ++i) {
    users[i]->content = blocks_of(0, 2048, i + 1);
    users[i]->device->write(0, users[i]->content, users[i]->write.completion());
  }
  const auto all_done = [&] {
    return std::all_of(users.begin(), users.end(), [](const auto& user) { return user->write.done; });
  };
  for (int step = 0; !all_done() && step < 10'000; ++step) {
    for (const auto& user : users) {
      ASSERT_TRUE(cache->commit({user->device.get()}).ok());
      user->device->writeback_step();
    }
    cache->reclaim_step();
  }
  for (const auto& user : users) {
    ASSERT_TRUE(user->write.done) << "it waits for ever";
    EXPECT_EQ(user->write.error, 0);
    EXPECT_EQ(user->device->drain(0), 0);
    EXPECT_EQ(user->image->durable, user->content);
  }
}

}  // namespace
}  // namespace pcache
