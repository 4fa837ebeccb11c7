// A cache device in a file, with one logical device, and where on it things are: for tests that damage it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "media/device_record.h"
#include "media/key_record.h"
#include "media/layout.h"
#include "media/superblock.h"
#include "pcache/device_manager.h"
#include "segment/dual_slot.h"
#include "segment/item_slots.h"
#include "tests/support/logic_io.h"
#include "tests/support/temp_dir.h"

namespace pcache {

class CacheFile {
 public:
  static constexpr std::uint64_t kCacheBytes = 16 << 20;
  static constexpr std::uint64_t kDeviceBytes = (4 << 20) + 512;  // its last block is a part of one

  // Formatted, and with the logical device "dev" on a backing full of 'b'.
  CacheFile() {
    FormatOptions options;
    options.size_bytes = kCacheBytes;
    options.segment_size_bytes = 256 << 10;
    EXPECT_TRUE(format_cache_dev(path(), options).ok());
    make_file(backing(), kDeviceBytes, 'b');
    mount();
    EXPECT_TRUE(manager_->add("dev", backing(), {}).ok());
  }

  std::string path() const { return dir_ / "cache"; }
  std::string backing() const { return dir_ / "backing"; }
  std::string in_dir(const std::string& name) const { return dir_ / name; }

  void mount() {
    manager_ = DeviceManager::create();
    const Status opened = manager_->open_cache_dev(path(), keep_dirty());
    ASSERT_TRUE(opened.ok()) << opened.message();
  }
  // Closes in order; what is dirty stays dirty.
  void unmount() { manager_.reset(); }
  DeviceManager& manager() { return *manager_; }
  std::shared_ptr<LogicDev> device() { return manager_->find("dev"); }

  // Both while it is mounted.
  void write_blocks(std::uint64_t first, std::uint64_t count, char fill) {
    const std::uint64_t begin = first * kBlockSize;
    const std::string data(std::min(count * kBlockSize, kDeviceBytes - begin), fill);
    ASSERT_EQ(write_to(*device(), begin, data), 0);
  }
  void write_back() { ASSERT_EQ(device()->drain(0), 0); }

  Geometry geometry() const { return *compute_geometry(kCacheBytes, 256 << 10); }

  // Where the newest record of `block` is, by its place on the medium.
  struct Place {
    std::uint32_t segment = 0;
    std::uint64_t record_offset = 0;
    std::uint64_t cell_offset = 0;
    KeyRecord record{};
  };
  Place find(std::uint64_t block) const {
    const Geometry g = geometry();
    const std::string medium = content();
    Place newest;
    for (std::uint32_t id = 0; id < g.segment_count; ++id) {
      for (std::uint32_t slot = 0; slot < g.slots_per_segment; ++slot) {
        Place place{id, g.record_offset(id, slot), g.cell_offset(id, slot), {}};
        std::memcpy(&place.record, medium.data() + place.record_offset, sizeof place.record);
        if (place.record.crc != record_crc(place.record) || place.record.type == RecordType::filler) continue;
        if (place.record.block != block || place.record.lsn < newest.record.lsn) continue;
        newest = place;
      }
    }
    EXPECT_NE(newest.record_offset, 0U) << "there is no record of block " << block;
    return newest;
  }

  // Flips a bit of each.
  void damage(std::uint64_t offset) {
    std::string byte = read_file(path(), offset, 1);
    ASSERT_EQ(byte.size(), 1U);
    byte[0] = static_cast<char>(byte[0] ^ 0x10);
    write_file(path(), offset, byte);
  }
  void damage(DualSlot slot) {
    damage(slot.first + 30);
    damage(slot.second + 30);
  }
  std::string content() const { return read_file(path(), 0, kCacheBytes); }

 private:
  TempDir dir_;
  std::unique_ptr<DeviceManager> manager_;
};

}  // namespace pcache
