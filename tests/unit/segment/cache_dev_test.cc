#include "segment/cache_dev.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/units.h"
#include "tests/support/memory_space.h"

namespace pcache {
namespace {

using Image = std::shared_ptr<MemorySpace::Image>;

constexpr std::size_t kSize = 4 * kMiB;  // as small as it gets: crash tests copy it often
constexpr std::array<std::uint8_t, 16> kUuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr std::array<std::uint8_t, 16> kOtherUuid = {99};
// Nothing, inside the header, behind it, and large parts of a page.
constexpr std::array<std::size_t, 6> kTears = {0, 8, 24, 64, 2048, 4088};

DeviceRecord record_of(const std::string& name, std::uint64_t size_bytes = 6 * kMiB) {
  DeviceRecord record{};
  record.streams = 2;
  record.size_bytes = size_bytes;
  std::copy(name.begin(), name.end(), record.name.begin());
  const std::string path = "/dev/backing-of-" + name;
  std::copy(path.begin(), path.end(), record.backing_path.begin());
  return record;
}

// An open cache device, and the medium below it.
struct Opened {
  MemorySpace* space = nullptr;
  std::unique_ptr<CacheDev> dev;
};

Result<Opened> try_open(const Image& image) {
  auto space = std::make_unique<MemorySpace>(image);
  MemorySpace* const below = space.get();
  auto dev = CacheDev::open(std::move(space));
  if (!dev) return dev.status();
  return Opened{below, std::move(dev).value()};
}

// What a cache device remembers: for each logical device its dirty tail.
using Memory = std::map<std::string, std::uint64_t>;

Memory memory_of(const CacheDev& dev) {
  Memory memory;
  for (const auto& device : dev.devices()) {
    const auto epoch = dev.clean_epoch(device.place);
    EXPECT_TRUE(epoch.ok()) << epoch.status().message();
    memory[device.record.name.data()] = epoch.ok() ? *epoch : 0;
  }
  return memory;
}

class CacheDevTest : public testing::Test {
 protected:
  CacheDevTest() {
    EXPECT_TRUE(format(image_).ok());
    open();
  }

  static Status format(const Image& image, const std::array<std::uint8_t, 16>& uuid = kUuid) {
    MemorySpace space(image);
    return CacheDev::format(space, {uuid, "cellar", kMinSegmentSize});
  }

  // Opens what is on the medium now; what was open goes without being closed in order.
  void open() {
    opened_ = {};
    auto opened = try_open(image_);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    opened_ = std::move(opened).value();
  }
  // The error of opening what is on the medium now.
  Status open_fails() {
    opened_ = {};
    const auto opened = try_open(image_);
    EXPECT_FALSE(opened.ok());
    return opened.status();
  }

  CacheDev& dev() { return *opened_.dev; }
  Memory memory() { return memory_of(dev()); }

  std::uint32_t add(const std::string& name) {
    DeviceRecord record = record_of(name);
    const auto place = dev().add_device(record);
    EXPECT_TRUE(place.ok()) << place.status().message();
    return place.ok() ? *place : 0;
  }
  std::uint32_t id_at(std::uint32_t place) {
    for (const auto& device : dev().devices()) {
      if (device.place == place) return device.record.device_id;
    }
    return 0;
  }

  std::byte& byte_at(std::uint64_t offset) { return (*image_)[offset]; }
  void damage(std::uint64_t offset) { byte_at(offset) ^= std::byte{0x40}; }

  // Stores `superblock` as if a pcachefs of its version had.
  void put_superblock(std::uint64_t offset, Superblock superblock) {
    seal(superblock, cache_tag_of(superblock), 0);
    MemorySpace(image_).write(offset, &superblock, sizeof superblock);
  }
  Superblock superblock_at(std::uint64_t offset) {
    Superblock superblock;
    EXPECT_TRUE(MemorySpace(image_).read(offset, &superblock, sizeof superblock));
    return superblock;
  }

  // Lets the power go at each write of `operation`, a change of an open cache device, and opens what is left.
  // `check` gets it, and whether the whole operation had been written.
  void each_crash(const std::function<void(CacheDev&)>& operation,
                  const std::function<void(CacheDev&, bool complete)>& check) {
    const MemorySpace::Image start = *image_;
    for (const std::size_t torn_bytes : kTears) {
      for (std::uint64_t writes = 0;; ++writes) {
        SCOPED_TRACE(testing::Message() << "cut after " << writes << " writes and " << torn_bytes << " bytes");
        const Image left = MemorySpace::copy_image(start);
        bool cut = false;
        {
          auto before = try_open(left);
          ASSERT_TRUE(before.ok()) << before.status().message();
          before->space->cut_after(writes, torn_bytes);
          operation(*before->dev);
          cut = before->space->was_cut();
        }
        auto after = try_open(left);
        ASSERT_TRUE(after.ok()) << after.status().message();
        check(*after->dev, !cut);
        if (!cut || HasFailure()) break;
      }
      if (HasFailure()) return;
    }
  }

  const Image image_ = MemorySpace::make_image(kSize);
  Opened opened_;
};

// --- Format

TEST_F(CacheDevTest, FormatMakesAnEmptyCacheDevice) {
  EXPECT_TRUE(dev().devices().empty());
  EXPECT_EQ(dev().damaged_device_records(), 0U);
  EXPECT_EQ(dev().uuid(), kUuid);
  EXPECT_EQ(dev().label(), "cellar");
  EXPECT_EQ(dev().geometry().size_bytes, kSize);
  EXPECT_EQ(dev().geometry().segment_size, kMinSegmentSize);
  EXPECT_EQ(dev().geometry().segment_count, kMinSegments);
}

TEST_F(CacheDevTest, FormatForgetsWhatWasThere) {
  ASSERT_TRUE(dev().set_clean_epoch(add("old"), 9).ok());
  ASSERT_TRUE(format(image_, kOtherUuid).ok());
  open();
  EXPECT_EQ(dev().uuid(), kOtherUuid);
  EXPECT_TRUE(dev().devices().empty());
  add("new");
  EXPECT_EQ(memory(), (Memory{{"new", 0}}));
}

TEST_F(CacheDevTest, FormatRefusesWhatMakesNoSenseAndWritesNothing) {
  const auto refused = [](std::size_t bytes, const std::string& label, std::uint64_t segment_size) {
    MemorySpace space(MemorySpace::make_image(bytes));
    const Status status = CacheDev::format(space, {kUuid, label, segment_size});
    EXPECT_EQ(status.code(), Errc::invalid) << status.message();
    EXPECT_EQ(space.writes(), 0U);
  };
  refused(kSize - 1, "", kMinSegmentSize);
  refused(kSize, "", kMinSegmentSize / 2);
  refused(kSize, "", kMinSegmentSize + 1);
  refused(kSize, "", 2 * kMinSegmentSize);
  refused(kSize, std::string(64, 'x'), kMinSegmentSize);
}

TEST_F(CacheDevTest, FormatKeepsTheLongestLabel) {
  const std::string label(63, 'x');
  MemorySpace space(image_);
  ASSERT_TRUE(CacheDev::format(space, {kUuid, label, kMinSegmentSize}).ok());
  open();
  EXPECT_EQ(dev().label(), label);
}

TEST_F(CacheDevTest, FormatSaysThatTheMediumFailed) {
  for (const std::uint64_t offset : {std::uint64_t{0}, kMediaPage, 40 * kMediaPage}) {
    MemorySpace space(MemorySpace::make_image(kSize));
    space.fail_writes(offset, 1);
    EXPECT_EQ(CacheDev::format(space, {kUuid, "", kMinSegmentSize}).code(), Errc::failed) << offset;
  }
}

TEST_F(CacheDevTest, CrashInFormatLeavesTheOldTheNewOrNoCacheDevice) {
  ASSERT_TRUE(dev().set_clean_epoch(add("old"), 9).ok());
  opened_ = {};
  std::set<std::string> seen;
  for (const std::size_t torn_bytes : kTears) {
    for (std::uint64_t writes = 0;; ++writes) {
      SCOPED_TRACE(testing::Message() << "cut after " << writes << " writes and " << torn_bytes << " bytes");
      const Image left = MemorySpace::copy_image(*image_);
      MemorySpace space(left);
      space.cut_after(writes, torn_bytes);
      ASSERT_TRUE(CacheDev::format(space, {kOtherUuid, "", kMinSegmentSize}).ok());

      const auto opened = try_open(left);
      if (!opened) {
        seen.insert("none");
        const Errc code = opened.status().code();
        EXPECT_TRUE(code == Errc::integrity || code == Errc::invalid) << opened.status().message();
      } else if (opened->dev->uuid() == kUuid) {
        seen.insert("old");
        EXPECT_EQ(memory_of(*opened->dev), (Memory{{"old", 9}}));
      } else {
        seen.insert("new");
        EXPECT_EQ(opened->dev->uuid(), kOtherUuid);
        EXPECT_TRUE(opened->dev->devices().empty());
        EXPECT_EQ(opened->dev->damaged_device_records(), 0U);
      }
      ASSERT_FALSE(HasFailure());
      if (!space.was_cut()) break;
    }
  }
  EXPECT_EQ(seen, (std::set<std::string>{"new", "none", "old"}));
}

// --- Open

TEST_F(CacheDevTest, WhatWasNeverFormattedIsNoCacheDevice) {
  std::fill(image_->begin(), image_->end(), std::byte{0});
  EXPECT_EQ(open_fails().code(), Errc::invalid);
  std::fill(image_->begin(), image_->end(), std::byte{0x5a});
  EXPECT_EQ(open_fails().code(), Errc::invalid);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, 2 * kMediaPage - 1}) {
    EXPECT_EQ(try_open(MemorySpace::make_image(bytes)).status().code(), Errc::invalid) << bytes;
  }
}

TEST_F(CacheDevTest, WhatLooksLikeADamagedSuperblockWasACacheDevice) {
  const auto sealed = superblock_at(0);
  const auto refused_as = [&](const std::function<void(Superblock&)>& change) {
    Superblock bad = sealed;
    change(bad);
    for (const std::uint64_t copy : {std::uint64_t{0}, kMediaPage}) {
      std::memcpy(image_->data() + copy, &bad, sizeof bad);
    }
    return open_fails().code();
  };
  EXPECT_EQ(refused_as([](Superblock& s) { s.header.crc ^= 1; }), Errc::integrity);
  EXPECT_EQ(refused_as([](Superblock& s) { s.signature[3] ^= 1; }), Errc::integrity) << "its magic number is left";
  EXPECT_EQ(refused_as([](Superblock& s) { s.header.magic ^= 1; }), Errc::integrity) << "its signature is left";
  EXPECT_EQ(refused_as([](Superblock& s) { s.header.magic = 0, s.signature[3] ^= 1; }), Errc::invalid);
}

TEST_F(CacheDevTest, EitherCopyOfTheSuperblockIsEnough) {
  add("one");
  opened_ = {};
  for (const std::uint64_t copy : {std::uint64_t{0}, kMediaPage}) {
    for (std::size_t byte = 0; byte < sizeof(Superblock); byte += byte < 192 ? 1 : 97) {
      const std::size_t version = offsetof(Superblock, version);
      if (byte >= version && byte < version + sizeof(Superblock::version)) continue;  // see below
      SCOPED_TRACE(testing::Message() << "byte " << byte << " of the copy at " << copy);
      damage(copy + byte);
      open();
      ASSERT_FALSE(HasFailure());
      EXPECT_EQ(memory(), (Memory{{"one", 0}}));
      EXPECT_EQ(dev().uuid(), kUuid);
      EXPECT_EQ(superblock_at(copy).header.crc, superblock_at(kMediaPage - copy).header.crc) << "not repaired";
    }
    auto space = std::make_unique<MemorySpace>(image_);
    space->fail_reads(copy, kMediaPage);
    const auto opened = CacheDev::open(std::move(space));
    EXPECT_TRUE(opened.ok()) << "with the copy at " << copy << " unreadable: " << opened.status().message();
  }
}

// Only a checksum makes a version number more than some damaged bytes.
TEST_F(CacheDevTest, DamagedVersionInOneCopyIsNotAnotherVersion) {
  for (const std::uint64_t copy : {std::uint64_t{0}, kMediaPage}) {
    for (std::size_t byte = 0; byte < sizeof(Superblock::version); ++byte) {
      const Image left = MemorySpace::copy_image(*image_);
      (*left)[copy + offsetof(Superblock, version) + byte] ^= std::byte{0x40};
      const auto opened = try_open(left);
      EXPECT_TRUE(opened.ok()) << "byte " << byte << " of the copy at " << copy << ": " << opened.status().message();
    }
  }
}

TEST_F(CacheDevTest, DamageOfBothSuperblockCopiesIsNoticed) {
  damage(100);
  damage(kMediaPage + 4000);
  const Status status = open_fails();
  EXPECT_EQ(status.code(), Errc::integrity);
  EXPECT_NE(status.message().find("damaged"), std::string::npos) << status.message();
}

// Whoever follows the advice to format loses all that the cache device holds.
TEST_F(CacheDevTest, UnreadableSuperblocksAreNotTakenForAnUnformattedDevice) {
  auto space = std::make_unique<MemorySpace>(image_);
  space->fail_reads(0, 2 * kMediaPage);
  const auto opened = CacheDev::open(std::move(space));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.status().code(), Errc::integrity);
  EXPECT_EQ(opened.status().message().find("pcachefs format"), std::string::npos) << opened.status().message();
}

TEST_F(CacheDevTest, AnotherVersionIsRefusedAndLeftAsItIs) {
  const Superblock known = superblock_at(0);
  for (const std::uint32_t version : {kMediaVersion + 1, kMediaVersion - 1}) {
    for (const bool both : {true, false}) {
      Superblock other = known;
      other.version = version;
      put_superblock(0, other);
      put_superblock(kMediaPage, both ? other : known);
      const MemorySpace::Image before = *image_;
      const Status status = open_fails();
      EXPECT_EQ(status.code(), Errc::invalid);
      EXPECT_NE(status.message().find("version " + std::to_string(version)), std::string::npos);
      EXPECT_TRUE(*image_ == before);
    }
  }
}

TEST_F(CacheDevTest, NumbersThatDoNotFitEachOtherAreDamage) {
  const Superblock good = superblock_at(0);
  const auto refused = [&](const std::function<void(Superblock&)>& change) {
    Superblock bad = good;
    change(bad);
    for (const std::uint64_t copy : {std::uint64_t{0}, kMediaPage}) put_superblock(copy, bad);
    EXPECT_EQ(open_fails().code(), Errc::integrity);
  };
  refused([](Superblock& s) { s.size_bytes = 0; });
  refused([](Superblock& s) { s.segment_size = 0; });
  refused([](Superblock& s) { ++s.segment_count; });
  refused([](Superblock& s) { ++s.slots_per_segment; });
  refused([](Superblock& s) { s.first_segment += kMediaPage; });
  refused([](Superblock& s) { s.label.fill('x'); });
  refused([](Superblock& s) { s.version = 0; });
  refused([](Superblock& s) { s.next_device_id = 0; });
  refused([](Superblock& s) { s.next_device_id = kMaxDeviceId + 1; });
  refused([](Superblock& s) { s.header.sequence = kCounterLimit; });
  put_superblock(0, good);
  open();
}

TEST_F(CacheDevTest, TruncatedSpaceIsRefused) {
  image_->resize(kSize - 1);
  const Status status = open_fails();
  EXPECT_EQ(status.code(), Errc::integrity);
  EXPECT_NE(status.message().find("truncated"), std::string::npos) << status.message();
  image_->resize(2 * kMediaPage);
  EXPECT_EQ(open_fails().code(), Errc::integrity);
}

TEST_F(CacheDevTest, SpaceThatGrewIsUsedAsFormatted) {
  image_->resize(2 * kSize);
  open();
  EXPECT_EQ(dev().geometry().size_bytes, kSize);
}

TEST_F(CacheDevTest, OpeningChangesNothing) {
  add("one");
  opened_ = {};
  const MemorySpace::Image before = *image_;
  open();
  opened_ = {};
  EXPECT_TRUE(*image_ == before);
}

// --- Closed in order, each logical device for itself

constexpr CacheDev::Closed kEnds = {63, 1000};

TEST_F(CacheDevTest, EachDeviceIsClosedForItself) {
  const std::uint32_t one = add("one");
  const std::uint32_t other = add("other");
  EXPECT_EQ(dev().closed(one), std::nullopt);
  ASSERT_TRUE(dev().set_closed(one, kEnds).ok());
  open();
  EXPECT_EQ(dev().closed(one), kEnds);
  EXPECT_EQ(dev().closed(other), std::nullopt);
  ASSERT_TRUE(dev().set_clean_epoch(one, 5).ok());
  open();
  EXPECT_EQ(dev().closed(one), kEnds) << "only who appends takes it back";
  ASSERT_TRUE(dev().set_closed(one, std::nullopt).ok());
  ASSERT_TRUE(dev().set_closed(other, CacheDev::Closed()).ok());
  open();
  EXPECT_EQ(dev().closed(one), std::nullopt);
  EXPECT_EQ(dev().closed(other), CacheDev::Closed()) << "closed, though its log is empty";
  EXPECT_EQ(memory(), (Memory{{"one", 5}, {"other", 0}}));
}

TEST_F(CacheDevTest, ANewDeviceAtAPlaceOfAClosedOneIsNotClosed) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_closed(place, kEnds).ok());
  ASSERT_TRUE(dev().remove_device(place).ok());
  ASSERT_EQ(add("next"), place);
  EXPECT_EQ(dev().closed(place), std::nullopt);
  open();
  EXPECT_EQ(dev().closed(place), std::nullopt);
}

TEST_F(CacheDevTest, CrashInClosingOrOpeningADeviceLosesNothing) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 3).ok());
  for (const bool closing : {true, false}) {
    const std::optional<CacheDev::Closed> before = closing ? std::nullopt : std::optional(kEnds);
    const std::optional<CacheDev::Closed> after = closing ? std::optional(kEnds) : std::nullopt;
    ASSERT_TRUE(dev().set_closed(place, before).ok());
    each_crash([&](CacheDev& dev) { EXPECT_TRUE(dev.set_closed(place, after).ok()); },
               [&](CacheDev& dev, bool complete) {
                 EXPECT_EQ(memory_of(dev), (Memory{{"one", 3}}));
                 EXPECT_TRUE(dev.closed(place) == after || (!complete && dev.closed(place) == before));
               });
  }
}

// --- Logical devices

TEST_F(CacheDevTest, RemembersDevices) {
  const std::uint32_t first = add("first");
  const std::uint32_t second = add("second");
  EXPECT_NE(first, second);
  EXPECT_NE(id_at(first), id_at(second));
  ASSERT_TRUE(dev().set_clean_epoch(second, 12).ok());
  const std::uint32_t id = id_at(second);
  open();
  EXPECT_EQ(memory(), (Memory{{"first", 0}, {"second", 12}}));
  EXPECT_EQ(id_at(second), id);
  for (const auto& device : dev().devices()) {
    const DeviceRecord expected = record_of(device.record.name.data());
    EXPECT_EQ(device.record.streams, expected.streams);
    EXPECT_EQ(device.record.size_bytes, expected.size_bytes);
    EXPECT_EQ(device.record.backing_path, expected.backing_path);
  }
}

TEST_F(CacheDevTest, RemovedDeviceIsForgotten) {
  const std::uint32_t place = add("gone");
  add("stays");
  ASSERT_TRUE(dev().set_clean_epoch(place, 7).ok());
  ASSERT_TRUE(dev().remove_device(place).ok());
  EXPECT_EQ(memory(), (Memory{{"stays", 0}}));
  open();
  EXPECT_EQ(memory(), (Memory{{"stays", 0}}));
  EXPECT_EQ(add("next"), place);
  EXPECT_EQ(memory(), (Memory{{"next", 0}, {"stays", 0}})) << "another device's dirty tail";
}

TEST_F(CacheDevTest, IdsAreNeverUsedTwice) {
  std::set<std::uint32_t> ids = {0};
  for (int i = 0; i < 20; ++i) {
    const std::uint32_t place = add("dev" + std::to_string(i));
    EXPECT_TRUE(ids.insert(id_at(place)).second) << id_at(place);
    if (i % 2 == 0) {
      ASSERT_TRUE(dev().remove_device(place).ok());
    }
    if (i % 3 == 0) open();
  }
}

TEST_F(CacheDevTest, FullTableIsRefused) {
  for (std::uint32_t i = 0; i < kMaxDevices; ++i) add("dev" + std::to_string(i));
  DeviceRecord record = record_of("too much");
  EXPECT_EQ(dev().add_device(record).status().code(), Errc::no_space);
  open();
  EXPECT_EQ(dev().devices().size(), kMaxDevices);
  EXPECT_EQ(dev().add_device(record).status().code(), Errc::no_space);
  ASSERT_TRUE(dev().remove_device(17).ok());
  EXPECT_EQ(add("one more"), 17U);
}

TEST_F(CacheDevTest, EitherCopyOfRecordAndDirtyTailIsEnough) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 5).ok());
  const Geometry g = dev().geometry();
  for (const std::uint64_t offset : {g.device_records, g.device_records_copy, g.device_states, g.device_states_copy}) {
    damage(offset + 30);
    open();
    EXPECT_EQ(memory(), (Memory{{"one", 5}})) << offset;
    EXPECT_EQ(dev().damaged_device_records(), 0U);
    EXPECT_EQ(dev().repairs().repaired, 1U);
    open();
    EXPECT_EQ(dev().repairs().repaired, 0U) << "it is repaired";
  }
}

TEST_F(CacheDevTest, ADamagedCopyOfTheSuperblockIsCounted) {
  EXPECT_EQ(dev().repairs().repaired, 0U);
  opened_ = {};
  damage(kMediaPage + 100);
  open();
  EXPECT_EQ(dev().repairs().repaired, 1U);
}

// Only the copy that does not count is written.
TEST_F(CacheDevTest, CrashInARepairLeavesTheItemAsItIs) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 5).ok());
  opened_ = {};
  const Geometry g = *compute_geometry(kSize, kMinSegmentSize);
  for (const std::uint64_t offset : {g.device_records, g.device_records_copy, g.device_states, g.device_states_copy}) {
    const Image start = MemorySpace::copy_image(*image_);
    (*start)[offset + 30] ^= std::byte{0x40};
    for (std::uint64_t writes = 0; writes < 2; ++writes) {  // of the copy, and none
      for (const std::size_t torn_bytes : kTears) {
        SCOPED_TRACE(testing::Message() << "cut after " << writes << " writes and " << torn_bytes << " bytes");
        const Image left = MemorySpace::copy_image(*start);
        auto space = std::make_unique<MemorySpace>(left);
        space->cut_after(writes, torn_bytes);
        ASSERT_TRUE(CacheDev::open(std::move(space)).ok());
        const auto after = try_open(left);
        ASSERT_TRUE(after.ok()) << after.status().message();
        EXPECT_EQ(memory_of(*after->dev), (Memory{{"one", 5}}));
      }
    }
  }
}

// Before anything is stored: a power cut must not find one copy of an item half changed and the other never synced.
TEST_F(CacheDevTest, WhatAKilledProcessStoredIsDurableOnceItWasOpened) {
  const Image image = MemorySpace::make_image(kSize);
  MemorySpace::Image synced;
  {
    MemorySpace space(image, Granularity::page);
    ASSERT_TRUE(CacheDev::format(space, {kUuid, "c", 0}).ok());
    synced = *image;
  }
  {
    // A process that is killed between its stores and their msync.
    auto dev = CacheDev::open(std::make_unique<MemorySpace>(image, Granularity::page));
    ASSERT_TRUE(dev.ok());
    DeviceRecord record = record_of("a");
    const auto place = (*dev)->add_device(record);
    ASSERT_TRUE(place.ok());
    ASSERT_TRUE((*dev)->set_clean_epoch(*place, 7).ok());
  }
  ASSERT_NE(*image, synced);
  auto space = std::make_unique<MemorySpace>(image, Granularity::page, "memory", &synced);
  MemorySpace* const below = space.get();
  auto dev = CacheDev::open(std::move(space));
  ASSERT_TRUE(dev.ok());
  const auto durable = CacheDev::open(std::make_unique<MemorySpace>(below->durable_image()), CacheDev::Access::inspect);
  ASSERT_TRUE(durable.ok());
  EXPECT_EQ(memory_of(**durable), memory_of(**dev));
  EXPECT_EQ(memory_of(**durable), (Memory{{"a", 7}}));
}

TEST_F(CacheDevTest, ACopyThatCannotBeWrittenIsCountedAndTheOtherOneUsed) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 5).ok());
  const Geometry g = dev().geometry();
  opened_ = {};
  damage(g.device_states + 30);
  damage(g.device_records_copy + 30);
  auto space = std::make_unique<MemorySpace>(image_);
  space->fail_writes(g.device_states, kRecordSize);
  const auto opened = CacheDev::open(std::move(space));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ((*opened)->repairs().failed, 1U);
  EXPECT_EQ((*opened)->repairs().repaired, 1U);
  EXPECT_EQ(memory_of(**opened), (Memory{{"one", 5}}));
}

TEST_F(CacheDevTest, WhereItIsOnlyInspectedNothingIsRepaired) {
  add("one");
  const Geometry g = dev().geometry();
  opened_ = {};
  damage(30);
  damage(g.device_states + 30);
  damage(g.device_records_copy + 30);
  const MemorySpace::Image before = *image_;
  const auto opened = CacheDev::open(std::make_unique<MemorySpace>(image_), CacheDev::Access::inspect);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ((*opened)->repairs().repaired, 0U);
  EXPECT_TRUE(*image_ == before);
}

TEST_F(CacheDevTest, PlaceWithADamagedRecordIsNotGivenAway) {
  const std::uint32_t place = add("damaged");
  add("intact");
  const Geometry g = dev().geometry();
  damage(g.device_records + place * kMediaPage + 500);
  damage(g.device_records_copy + place * kMediaPage + 10);
  open();
  EXPECT_EQ(dev().damaged_device_records(), 1U);
  EXPECT_EQ(memory(), (Memory{{"intact", 0}}));
  for (std::uint32_t i = 2; i < kMaxDevices; ++i) EXPECT_NE(add("dev" + std::to_string(i)), place);
  DeviceRecord record = record_of("too much");
  EXPECT_EQ(dev().add_device(record).status().code(), Errc::no_space);
  open();
  EXPECT_EQ(dev().damaged_device_records(), 1U);
}

TEST_F(CacheDevTest, RecordWithoutSenseIsDamaged) {
  const auto refused = [this](const std::function<void(DeviceRecord&)>& change) {
    ASSERT_TRUE(format(image_).ok());
    open();
    const std::uint32_t place = add("odd");
    DeviceRecord record = dev().devices().at(0).record;
    change(record);
    seal(record, dev().tag(), place);
    for (const std::uint64_t table : {dev().geometry().device_records, dev().geometry().device_records_copy}) {
      MemorySpace(image_).write(table + place * kMediaPage, &record, sizeof record);
    }
    open();
    EXPECT_TRUE(dev().devices().empty());
    EXPECT_EQ(dev().damaged_device_records(), 1U);
    EXPECT_FALSE(dev().place_usable(place));
  };
  const auto named = [](const std::string& name) {
    return [name](DeviceRecord& record) {
      record.name = {};
      std::copy(name.begin(), name.end(), record.name.begin());
    };
  };
  refused([](DeviceRecord& r) { r.streams = kMaxStreams + 1; });
  refused([](DeviceRecord& r) { r.streams = 0; });
  refused([](DeviceRecord& r) { r.size_bytes = 0; });
  refused([](DeviceRecord& r) { r.size_bytes += 1; });
  refused([](DeviceRecord& r) { r.size_bytes = kMaxDeviceBytes + 512; });
  refused([](DeviceRecord& r) { r.device_id = kMaxDeviceId; });
  refused([](DeviceRecord& r) { r.name.fill('x'); });
  refused([](DeviceRecord& r) { r.backing_id.fill('x'); });
  refused([](DeviceRecord& r) { r.backing_path.fill('x'); });
  refused([](DeviceRecord& r) { r.backing_path = {}; });
  for (const char* name : {"", ".", "..", ".pcache", "a/b", "a\nb", "\x1b[2J"}) refused(named(name));
}

// Nothing tells which of the two is the right one: neither is used, and nothing of them is given away.
TEST_F(CacheDevTest, TwoRecordsOfOneIdOrNameAreBothDamaged) {
  for (const bool same_id : {true, false}) {
    ASSERT_TRUE(format(image_).ok());
    open();
    add("one");
    const std::uint32_t other = add("two");
    add("three");
    DeviceRecord record = dev().devices().at(1).record;
    if (same_id) {
      record.device_id = dev().devices().at(0).record.device_id;
    } else {
      record.name = dev().devices().at(0).record.name;
    }
    seal(record, dev().tag(), other);
    for (const std::uint64_t table : {dev().geometry().device_records, dev().geometry().device_records_copy}) {
      MemorySpace(image_).write(table + other * kMediaPage, &record, sizeof record);
    }
    open();
    EXPECT_EQ(memory(), (Memory{{"three", 0}}));
    EXPECT_EQ(dev().damaged_device_records(), 2U);
    EXPECT_EQ(add("four"), 3U);
  }
}

TEST_F(CacheDevTest, ADirtyTailThatNoEpochReachesIsDamaged) {
  const std::uint32_t place = add("one");
  for (const bool closed : {false, true}) {
    ASSERT_TRUE(dev().set_clean_epoch(place, kCounterLimit - 1).ok());
    ASSERT_TRUE(dev().set_closed(place, CacheDev::Closed{kCounterLimit - 1, kCounterLimit - 1}).ok());
    open();
    EXPECT_EQ(*dev().clean_epoch(place), kCounterLimit - 1);
    ASSERT_TRUE(closed ? dev().set_closed(place, CacheDev::Closed{1, kCounterLimit}).ok()
                       : dev().set_clean_epoch(place, kCounterLimit).ok());
    open();
    EXPECT_EQ(dev().clean_epoch(place).status().code(), Errc::integrity);
  }
}

TEST_F(CacheDevTest, WhenIdsRunOutNothingIsAddedAndTheCacheDeviceStaysReadable) {
  opened_ = {};
  Superblock superblock = superblock_at(0);
  superblock.next_device_id = kMaxDeviceId - 1;
  for (const std::uint64_t copy : {std::uint64_t{0}, kMediaPage}) put_superblock(copy, superblock);
  open();
  add("last");
  DeviceRecord record = record_of("one too many");
  EXPECT_EQ(dev().add_device(record).status().code(), Errc::no_space);
  open();
  EXPECT_EQ(memory(), (Memory{{"last", 0}}));
}

// A device whose dirty tail is gone cannot tell clean from dirty; the others are none the worse for it.
TEST_F(CacheDevTest, DamagedDirtyTailIsAnErrorOfItsDeviceAlone) {
  const std::uint32_t damaged = add("damaged");
  const std::uint32_t intact = add("intact");
  ASSERT_TRUE(dev().set_clean_epoch(damaged, 5).ok());
  ASSERT_TRUE(dev().set_clean_epoch(intact, 6).ok());
  const Geometry g = dev().geometry();
  damage(g.device_states + damaged * kRecordSize + 30);
  damage(g.device_states_copy + damaged * kRecordSize + 30);
  open();
  EXPECT_EQ(dev().devices().size(), 2U);
  EXPECT_EQ(dev().clean_epoch(damaged).status().code(), Errc::integrity);
  EXPECT_EQ(*dev().clean_epoch(intact), 6U);
  ASSERT_TRUE(dev().remove_device(damaged).ok());
  EXPECT_EQ(add("next"), damaged);
  EXPECT_EQ(*dev().clean_epoch(damaged), 0U);
}

TEST_F(CacheDevTest, FailedUpdatesOfTheDirtyTailDoNotMoveIt) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 5).ok());
  opened_.space->fail_writes(0, kSize);
  EXPECT_EQ(dev().set_clean_epoch(place, 6).code(), Errc::failed);
  EXPECT_EQ(*dev().clean_epoch(place), 5U);
  DeviceRecord record = record_of("two");
  EXPECT_EQ(dev().add_device(record).status().code(), Errc::failed);
  EXPECT_EQ(dev().remove_device(place).code(), Errc::failed);
  EXPECT_EQ(memory(), (Memory{{"one", 5}}));
  opened_.space->heal();
  ASSERT_TRUE(dev().set_clean_epoch(place, 7).ok());
  open();
  EXPECT_EQ(memory(), (Memory{{"one", 7}}));
}

// --- Crashes

TEST_F(CacheDevTest, CrashInAddLeavesTheDeviceOrNone) {
  const std::uint32_t known_id = id_at(add("known"));
  each_crash(
      [](CacheDev& dev) {
        DeviceRecord record = record_of("new");
        EXPECT_TRUE(dev.add_device(record).ok());
      },
      [&](CacheDev& dev, bool complete) {
        const Memory memory = memory_of(dev);
        EXPECT_TRUE((!complete && memory == Memory{{"known", 0}}) || memory == (Memory{{"known", 0}, {"new", 0}}));
        EXPECT_EQ(dev.damaged_device_records(), 0U) << "a crash is not damage";
        std::set<std::uint32_t> ids = {known_id};
        for (const auto& device : dev.devices()) ids.insert(device.record.device_id);
        EXPECT_EQ(ids.size(), memory.size());
        for (auto left = static_cast<std::uint32_t>(memory.size()); left < kMaxDevices; ++left) {
          DeviceRecord record = record_of("later");
          const auto place = dev.add_device(record);
          ASSERT_TRUE(place.ok()) << "with " << left << " devices: " << place.status().message();
          EXPECT_TRUE(ids.insert(record.device_id).second) << "id " << record.device_id << " again";
        }
      });
}

TEST_F(CacheDevTest, CrashInAddAtAUsedPlaceLeavesTheDeviceOrNone) {
  const std::uint32_t place = add("gone");
  ASSERT_TRUE(dev().set_clean_epoch(place, 40).ok());
  const std::uint32_t gone_id = id_at(place);
  ASSERT_TRUE(dev().remove_device(place).ok());
  each_crash(
      [](CacheDev& dev) {
        DeviceRecord record = record_of("new");
        EXPECT_TRUE(dev.add_device(record).ok());
      },
      [&](CacheDev& dev, bool complete) {
        const Memory memory = memory_of(dev);
        EXPECT_TRUE((!complete && memory.empty()) || memory == (Memory{{"new", 0}}));
        EXPECT_EQ(dev.damaged_device_records(), 0U);
        for (const auto& device : dev.devices()) EXPECT_NE(device.record.device_id, gone_id);
      });
}

TEST_F(CacheDevTest, CrashInRemoveLeavesTheDeviceOrNone) {
  const std::uint32_t place = add("one");
  add("two");
  ASSERT_TRUE(dev().set_clean_epoch(place, 8).ok());
  each_crash([&](CacheDev& dev) { EXPECT_TRUE(dev.remove_device(place).ok()); },
             [](CacheDev& dev, bool complete) {
               const Memory memory = memory_of(dev);
               EXPECT_TRUE((!complete && memory == Memory{{"one", 8}, {"two", 0}}) || memory == (Memory{{"two", 0}}));
               EXPECT_EQ(dev.damaged_device_records(), 0U);
             });
}

TEST_F(CacheDevTest, CrashInMovingTheDirtyTailLeavesTheOldOrTheNew) {
  const std::uint32_t place = add("one");
  ASSERT_TRUE(dev().set_clean_epoch(place, 8).ok());
  each_crash([&](CacheDev& dev) { EXPECT_TRUE(dev.set_clean_epoch(place, 9).ok()); },
             [&](CacheDev& dev, bool complete) {
               const Memory memory = memory_of(dev);
               EXPECT_TRUE((!complete && memory == Memory{{"one", 8}}) || memory == (Memory{{"one", 9}}));
               EXPECT_TRUE(dev.set_clean_epoch(place, 10).ok());
               EXPECT_EQ(*dev.clean_epoch(place), 10U);
             });
}

}  // namespace
}  // namespace pcache
