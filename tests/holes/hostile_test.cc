// What the kernel's driver believed of a medium, each with the right checksum: a segment's number, a key's offset, a
// key set's length, a tail, chains of segments, how many segments there are. Opening says what is wrong, or confines
// it.

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/support/stored.h"

namespace pcache {
namespace {

constexpr std::uint64_t kHuge = ~std::uint64_t{0};

// A device with dirty blocks 0 to 199 over four segments, of version 2, over a backing with version 1.
class Hostile : public testing::Test {
 protected:
  Hostile() {
    fill_backing(rig_, 1);
    EXPECT_EQ(write_blocks(rig_, 0, kBlocks, 2), 0);
    geometry_ = rig_.cache().cache_dev().geometry();
    tag_ = rig_.cache().cache_dev().tag();
  }

  // Changes both copies of an item and seals them.
  template <typename T>
  void forge(std::uint64_t first, std::uint64_t second, const std::function<void(T&)>& change) {
    T item;
    std::memcpy(&item, &rig_.cache_image()[first], sizeof item);
    change(item);
    seal(item, tag_, item.header.place);
    for (const std::uint64_t copy : {first, second}) std::memcpy(&rig_.cache_image()[copy], &item, sizeof item);
  }
  void forge_superblock(const std::function<void(Superblock&)>& change) { forge(0, kMediaPage, change); }
  void forge_record(const std::function<void(DeviceRecord&)>& change) {
    forge(geometry_.device_records, geometry_.device_records_copy, change);
  }
  void forge_state(const std::function<void(DeviceState&)>& change) {
    forge(geometry_.device_states, geometry_.device_states_copy, change);
  }
  void forge_entry(SegmentId id, const std::function<void(SegmentEntry&)>& change) {
    const std::uint64_t at = id * kRecordSize;
    forge(geometry_.segment_table + at, geometry_.segment_table_copy + at, change);
  }
  void forge_key(const Stored& at, const std::function<void(KeyRecord&)>& change) {
    KeyRecord record = at.record;
    change(record);
    record.crc = record_crc(record);
    std::memcpy(&rig_.cache_image()[at.record_offset], &record, sizeof record);
  }

  // The engine opens it and says that the device is failed, every time and whichever way it ended.
  void expect_failed() {
    rig_.open();
    for (int crash = 0; crash < 2; ++crash) {
      ASSERT_TRUE(rig_.device().failed()) << "it runs";
      EXPECT_NE(rig_.device().stats().detail, "");
      EXPECT_EQ(read_error(rig_, 0), EIO);
      EXPECT_EQ(read_error(rig_, kBlocks - 1), EIO);
      EXPECT_EQ(backing_blocks(rig_, 0, kBlocks), blocks_of(0, kBlocks, 1));
      crash == 0 ? rig_.kill() : rig_.reopen();
    }
  }
  // It is no cache device for anybody, and left as it is.
  void expect_refused(Errc code = Errc::integrity) {
    const auto image = MemorySpace::copy_image(rig_.cache_image());
    const auto opened = CacheDev::open(std::make_unique<MemorySpace>(image));
    EXPECT_EQ(opened.status().code(), code) << opened.status().message();
    EXPECT_TRUE(*image == rig_.cache_image());
  }
  // Tries `change` on the image of a closed and of a killed engine.
  void each_ending(const std::function<void()>& change) {
    const Stored middle = stored(rig_, kBlocks / 2);
    const Stored last = stored(rig_, kBlocks - 1);
    const MemorySpace::Image killed = rig_.cache_image();
    rig_.close();
    const MemorySpace::Image closed = rig_.cache_image();
    for (const bool was_closed : {true, false}) {
      for (const Stored& at : {middle, last}) {
        SCOPED_TRACE(std::string(was_closed ? "closed" : "killed") + ", record " + std::to_string(at.record.lsn));
        rig_.cache_image() = was_closed ? closed : killed;
        at_ = at;
        change();
        ASSERT_NO_FATAL_FAILURE(expect_failed());
        rig_.close();
      }
    }
    rig_.cache_image() = closed;
    rig_.open();
    EXPECT_EQ(read_blocks(rig_, 0, kBlocks), blocks_of(0, kBlocks, 2)) << "without what was changed all is fine";
  }

  static constexpr std::uint64_t kBlocks = 200;
  EngineRig rig_{RigShape()};
  Geometry geometry_;
  std::uint32_t tag_ = 0;
  Stored at_;
};

// Segments have no numbers on the medium but their places. What names one is whose it is.
TEST_F(Hostile, SegmentOfAStreamThatDoesNotExist) {
  for (const std::uint8_t stream : {1, 7, 8, 255}) {
    SCOPED_TRACE(int{stream});
    each_ending([&] { forge_entry(at_.segment, [&](SegmentEntry& e) { e.stream = stream; }); });
  }
}

TEST_F(Hostile, SegmentInAStateThatDoesNotExist) {
  each_ending([&] { forge_entry(at_.segment, [](SegmentEntry& e) { e.state = static_cast<SegmentState>(2); }); });
}

TEST_F(Hostile, SegmentOfADeviceThatDoesNotExist) {
  const SegmentId id = stored(rig_, 100).segment;
  rig_.close();
  forge_entry(id, [](SegmentEntry& e) { e.device_id = 77; });
  rig_.open();
  EXPECT_TRUE(rig_.device().failed());
  EXPECT_TRUE(in_use(rig_, id)) << "what was not removed must not be freed";
  EXPECT_EQ(rig_.cache().orphaned_segments(), 1U);
}

TEST_F(Hostile, KeyOffsetOutOfRange) {
  const std::uint64_t blocks = RigShape().device_bytes / kBlockSize;
  for (const std::uint64_t block : {blocks, std::uint64_t{1} << 48, kHuge}) {
    SCOPED_TRACE(block);
    each_ending([&] { forge_key(at_, [&](KeyRecord& r) { r.block = block; }); });
  }
}

// A record of more blocks than there are, or of a batch that began in another segment.
TEST_F(Hostile, RecordThatOverruns) {
  const std::vector<std::function<void(KeyRecord&)>> changes = {
      [](KeyRecord& r) { r.count = 2; },
      [](KeyRecord& r) { r.count = kHuge; },
      [](KeyRecord& r) { r.count = 0; },
      [](KeyRecord& r) { r.type = RecordType::zero, r.count = kHuge - r.block; },
      [](KeyRecord& r) { r.type = RecordType::zero, r.count = kHuge - r.block + 1; },
      [](KeyRecord& r) { r.batch_pos = 0xffff; },
      [](KeyRecord& r) { r.type = static_cast<RecordType>(200); },
  };
  for (const auto& change : changes) each_ending([&] { forge_key(at_, change); });
}

TEST_F(Hostile, EpochThatGoesBackOrBeyondAllOthers) {
  each_ending([&] { forge_key(at_, [](KeyRecord& r) { r.epoch = kHuge; }); });
  each_ending([&] { forge_key(at_, [](KeyRecord& r) { r.epoch = kCounterLimit; }); });
  each_ending([&] { forge_key(at_, [](KeyRecord& r) { r.epoch = kCounterLimit - 1; }); });
}

TEST_F(Hostile, EpochThatGoesBack) {
  ASSERT_EQ(rig_.flush(), 0);
  ASSERT_EQ(write_blocks(rig_, 300, 1, 2), 0);
  ASSERT_EQ(write_blocks(rig_, 301, 1, 2), 0);
  const Stored at = stored(rig_, 300);
  const Stored end = stored(rig_, 301);
  for (const Stored& forged : {at, end}) {
    const MemorySpace::Image before = rig_.cache_image();
    forge_key(forged, [](KeyRecord& r) { r.epoch = 0; });
    rig_.kill();
    ASSERT_TRUE(rig_.device().failed());
    rig_.close();
    rig_.cache_image() = before;
    rig_.open();
    EXPECT_FALSE(rig_.device().failed()) << "nothing was erased or overwritten";
  }
}

TEST_F(Hostile, TailOutOfRange) {
  rig_.close();
  const MemorySpace::Image closed = rig_.cache_image();
  const std::vector<std::function<void(DeviceState&)>> changes = {
      [](DeviceState& s) { s.clean_epoch = kHuge; },
      [](DeviceState& s) { s.clean_epoch = kCounterLimit; },
      [](DeviceState& s) { s.clean_epoch = kCounterLimit - 1; },
      [](DeviceState& s) { s.closed_next_lsns = kHuge; },
      [](DeviceState& s) { s.closed_next_lsns = 0; },
      [](DeviceState& s) { s.closed_first_lsns = kHuge; },
      [](DeviceState& s) { s.device_id = 2; },
  };
  for (const auto& change : changes) {
    rig_.cache_image() = closed;
    forge_state(change);
    ASSERT_NO_FATAL_FAILURE(expect_failed());
    rig_.close();
  }
  rig_.cache_image() = closed;
  rig_.open();
}

// Two segments at one place of the chain; the driver went round for ever.
TEST_F(Hostile, CycleInTheChain) {
  each_ending([&] { forge_entry(at_.segment, [](SegmentEntry& e) { e.chain = 0, e.first_lsn = 0; }); });
}

TEST_F(Hostile, ChainWithoutEnd) {
  const std::vector<std::function<void(SegmentEntry&)>> changes = {
      [](SegmentEntry& e) { e.chain = kHuge; },
      [](SegmentEntry& e) { e.first_lsn = kHuge; },
      [](SegmentEntry& e) { e.chain = kHuge, e.first_lsn = kHuge - 62; },
      [](SegmentEntry& e) { e.chain = kCounterLimit - 1, e.first_lsn = kCounterLimit - 64; },
      [](SegmentEntry& e) { e.chain += 1'000'000, e.first_lsn += 63'000'000; },
      [](SegmentEntry& e) { e.chain += 20, e.first_lsn += 20 * 63; },
  };
  for (const auto& change : changes) each_ending([&] { forge_entry(at_.segment, change); });
}

// A log of nothing but discards, each over all of the device and in an epoch of its own: replay, writeback and reclaim
// look at each once.
TEST_F(Hostile, DirtyTailOfManyDiscards) {
  rig_.close();
  std::uint64_t lsn = 0;
  for (const auto& segment : [&] {
         auto image = MemorySpace::copy_image(rig_.cache_image());
         auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image), CacheDev::Access::inspect);
         EXPECT_TRUE(cache_dev.ok());
         return SegmentPool(**cache_dev).in_use();
       }()) {
    for (std::uint32_t slot = 0; slot < geometry_.slots_per_segment; ++slot) {
      KeyRecord record{};
      record.cache_tag = tag_;
      record.lsn = segment.entry.first_lsn + slot;
      record.generation = segment.entry.generation;
      record.epoch = 1 + record.lsn;
      record.block = slot % 7;
      record.count = RigShape().device_bytes / kBlockSize - record.block;
      record.device_id = segment.entry.device_id;
      record.type = RecordType::zero;
      record.crc = record_crc(record);
      std::memcpy(&rig_.cache_image()[geometry_.record_offset(segment.id, slot)], &record, sizeof record);
      lsn = std::max(lsn, record.lsn + 1);
    }
  }
  forge_state([&](DeviceState& s) { s.closed_next_lsns = lsn; });
  rig_.open();
  ASSERT_FALSE(rig_.device().failed()) << rig_.device().stats().detail;
  EXPECT_EQ(read_blocks(rig_, 0, kBlocks), Bytes(kBlocks * kBlockSize));
  EXPECT_EQ(rig_.drain(), 0);
  EXPECT_EQ(rig_.backing().counts().zeroes, lsn) << "one for each epoch";
  EXPECT_EQ(backing_blocks(rig_, 0, kBlocks), Bytes(kBlocks * kBlockSize));
}

TEST_F(Hostile, MoreSegmentsThanTheDeviceHas) {
  rig_.close();
  const MemorySpace::Image closed = rig_.cache_image();
  const std::vector<std::function<void(Superblock&)>> changes = {
      [](Superblock& s) { ++s.segment_count; },
      [](Superblock& s) { s.segment_count = 0xffffffff; },
      [](Superblock& s) { s.size_bytes *= 2; },  // and the numbers that belong to it, below
      [](Superblock& s) { s.slots_per_segment = 0xffffffff; },
      [](Superblock& s) { s.segment_size = kHuge; },
      [](Superblock& s) { s.segment_size = 0; },
      [](Superblock& s) { s.size_bytes = kHuge; },
      [](Superblock& s) { s.first_segment = kHuge - 4095; },
      [](Superblock& s) {
        s.size_bytes *= 4;
        const auto g = compute_geometry(s.size_bytes, s.segment_size);
        s.segment_count = g->segment_count, s.slots_per_segment = g->slots_per_segment;
        s.first_segment = g->first_segment;
      },
  };
  for (const auto& change : changes) {
    rig_.cache_image() = closed;
    forge_superblock(change);
    expect_refused();
  }
  rig_.cache_image() = closed;
  rig_.open();
}

TEST_F(Hostile, FewerSegmentsThanTheDeviceHas) {
  rig_.close();
  const MemorySpace::Image closed = rig_.cache_image();
  for (const std::uint32_t count : {0U, 1U, 7U, 8U}) {
    rig_.cache_image() = closed;
    forge_superblock([&](Superblock& s) { s.segment_count = count; });
    expect_refused();
  }
  // All numbers fit each other, and the log has segments beyond the last one.
  rig_.cache_image() = closed;
  forge_superblock([&](Superblock& s) {
    s.size_bytes = 4 * kMiB;
    const auto g = compute_geometry(s.size_bytes, s.segment_size);
    s.segment_count = g->segment_count, s.slots_per_segment = g->slots_per_segment, s.first_segment = g->first_segment;
  });
  auto image = MemorySpace::copy_image(rig_.cache_image());
  auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
  ASSERT_TRUE(cache_dev.ok());
  EXPECT_EQ((*cache_dev)->geometry().segment_count, kMinSegments);
  EXPECT_TRUE(Cache::open(std::move(*cache_dev), CacheOptions()).ok());
  rig_.cache_image() = closed;
  rig_.open();
}

TEST_F(Hostile, DeviceRecordsWithoutSense) {
  rig_.close();
  const MemorySpace::Image closed = rig_.cache_image();
  const std::vector<std::function<void(DeviceRecord&)>> changes = {
      [](DeviceRecord& r) { r.streams = 0; },
      [](DeviceRecord& r) { r.streams = 0xffffffff; },
      [](DeviceRecord& r) { r.size_bytes = kHuge; },
      [](DeviceRecord& r) { r.size_bytes = 0; },
      [](DeviceRecord& r) { r.device_id = kMaxDeviceId; },
      [](DeviceRecord& r) { r.name.fill('x'); },
      [](DeviceRecord& r) { r.backing_path.fill('x'); },
  };
  for (const auto& change : changes) {
    rig_.cache_image() = closed;
    forge_record(change);
    auto image = MemorySpace::copy_image(rig_.cache_image());
    auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
    ASSERT_TRUE(cache_dev.ok());
    EXPECT_EQ((*cache_dev)->damaged_device_records(), 1U);
    EXPECT_TRUE((*cache_dev)->devices().empty());
  }
  rig_.cache_image() = closed;
  rig_.open();
}

// Both would write to the same segments, and nothing tells which is the right one.
TEST_F(Hostile, TwoDevicesWithOneId) {
  rig_.close();
  const MemorySpace::Image closed = rig_.cache_image();
  for (const std::uint64_t at : {geometry_.device_records, geometry_.device_records_copy}) {
    DeviceRecord record;
    std::memcpy(&record, &rig_.cache_image()[at], sizeof record);
    seal(record, tag_, 1);
    std::memcpy(&rig_.cache_image()[at + kMediaPage], &record, sizeof record);
  }
  auto image = MemorySpace::copy_image(rig_.cache_image());
  auto cache_dev = CacheDev::open(std::make_unique<MemorySpace>(image));
  ASSERT_TRUE(cache_dev.ok());
  EXPECT_TRUE((*cache_dev)->devices().empty());
  EXPECT_EQ((*cache_dev)->damaged_device_records(), 2U);
  rig_.cache_image() = closed;
  rig_.open();
}

// The last numbers are not given away, or the next ones would begin anew.
TEST_F(Hostile, DeviceNumbersThatAreUsedUp) {
  rig_.close();
  forge_superblock([](Superblock& s) { s.next_device_id = kMaxDeviceId; });
  rig_.open();
  const auto image = std::make_shared<BackingImage>(kMiB);
  const auto added = rig_.cache().add("other", std::make_unique<FakeBackingDev>(image, "/fake/other", "fake:2"));
  EXPECT_EQ(added.status().code(), Errc::no_space);
  EXPECT_EQ(read_blocks(rig_, 0, kBlocks), blocks_of(0, kBlocks, 2));
}

// What the backing is said to have hides nothing that only the cache has.
TEST_F(Hostile, CleanRecordOfADirtyBlock) {
  ASSERT_EQ(read_blocks(rig_, 500, 1), blocks_of(500, 1, 1));
  ASSERT_EQ(rig_.discard(600 * kBlockSize, kBlockSize), 0);
  ASSERT_EQ(read_blocks(rig_, 501, 1), blocks_of(501, 1, 1));
  forge_key(stored(rig_, 500), [](KeyRecord& r) { r.block = 7; });
  forge_key(stored(rig_, 501), [](KeyRecord& r) { r.block = 600; });
  rig_.kill();
  ASSERT_FALSE(rig_.device().failed()) << rig_.device().stats().detail;
  EXPECT_EQ(rig_.device().damaged_records(), 2U);
  EXPECT_EQ(read_blocks(rig_, 0, kBlocks), blocks_of(0, kBlocks, 2));
  EXPECT_EQ(read_blocks(rig_, 600, 1), Bytes(kBlockSize));
  ASSERT_EQ(rig_.drain(), 0);
  EXPECT_EQ(backing_blocks(rig_, 0, kBlocks), blocks_of(0, kBlocks, 2));
  EXPECT_EQ(backing_blocks(rig_, 600, 1), Bytes(kBlockSize));
}

}  // namespace
}  // namespace pcache
