// Contents that tell blocks and versions apart, and where on the media they ended up.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "media/key_record.h"
#include "tests/support/engine_rig.h"

namespace pcache {

using Bytes = std::vector<std::byte>;

inline Bytes filled(std::size_t bytes, int value) { return Bytes(bytes, static_cast<std::byte>(value)); }

// `count` blocks from `first` on; no two blocks and no two versions are alike, and none is all zeroes.
inline Bytes blocks_of(std::uint64_t first, std::uint64_t count, std::uint64_t version) {
  Bytes bytes(count * kBlockSize);
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = (first + at / kBlockSize + 1) * 0x1000000 + version * 0x1000 + at % kBlockSize;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

inline void put(Bytes& into, std::size_t offset, const Bytes& bytes) {
  std::copy(bytes.begin(), bytes.end(), into.begin() + static_cast<std::ptrdiff_t>(offset));
}

inline Bytes part(const Bytes& bytes, std::size_t offset, std::size_t length) {
  const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
  return Bytes(begin, begin + static_cast<std::ptrdiff_t>(length));
}

// Gives the backing `version` of every block, as if it had always had it.
inline Bytes fill_backing(EngineRig& rig, std::uint64_t version) {
  BackingImage& image = rig.backing_image();
  Bytes content = blocks_of(0, div_ceil(image.current.size(), kBlockSize), version);
  content.resize(image.current.size());
  image.current = image.durable = content;
  return content;
}

// What the logical device says; a read that fails is a failure of the test.
inline Bytes read_bytes(EngineRig& rig, std::uint64_t offset, std::uint64_t length) {
  Bytes bytes = filled(length, 0xa5);
  EXPECT_EQ(rig.read(offset, bytes), 0) << "at byte " << offset;
  return bytes;
}

inline Bytes read_blocks(EngineRig& rig, std::uint64_t first, std::uint64_t count) {
  return read_bytes(rig, first * kBlockSize, count * kBlockSize);
}

inline int read_error(EngineRig& rig, std::uint64_t block) {
  Bytes bytes(kBlockSize);
  return rig.read(block * kBlockSize, bytes);
}

inline int write_blocks(EngineRig& rig, std::uint64_t first, std::uint64_t count, std::uint64_t version) {
  return rig.write(first * kBlockSize, blocks_of(first, count, version));
}

inline Bytes backing_blocks(EngineRig& rig, std::uint64_t first, std::uint64_t count) {
  return part(rig.backing_image().current, first * kBlockSize, count * kBlockSize);
}

// How many blocks fill a cache device that is empty but for its heads: all but what is kept for records that must not
// fail.
inline std::uint64_t room_for_blocks(EngineRig& rig) {
  return std::uint64_t{rig.cache().pool().total() - rig.cache().reserve()} *
         rig.cache().cache_dev().geometry().slots_per_segment;
}

inline std::uint32_t slots_per_segment(EngineRig& rig) { return rig.cache().cache_dev().geometry().slots_per_segment; }

// Of one record: its segment, and the byte offsets of it and of its cell.
struct Stored {
  SegmentId segment = 0;
  std::uint64_t record_offset = 0;
  std::uint64_t cell_offset = 0;
  KeyRecord record{};
};

// Every record of `block` on the media that is not from a segment's earlier life, oldest first.
inline std::vector<Stored> all_stored(EngineRig& rig, std::uint64_t block) {
  const Geometry& g = rig.cache().cache_dev().geometry();
  std::vector<Stored> found;
  for (const auto& [id, entry] : rig.cache().pool().in_use()) {
    for (std::uint32_t slot = 0; slot < g.slots_per_segment; ++slot) {
      Stored at{id, g.record_offset(id, slot), g.cell_offset(id, slot), {}};
      std::memcpy(&at.record, rig.cache_image().data() + at.record_offset, sizeof at.record);
      if (at.record.crc != record_crc(at.record) || at.record.generation != entry.generation) continue;
      if (at.record.type != RecordType::filler && at.record.block == block) found.push_back(at);
    }
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.record.lsn < b.record.lsn; });
  return found;
}

// The newest of them; there has to be one.
inline Stored stored(EngineRig& rig, std::uint64_t block) { return all_stored(rig, block).back(); }

// Flips a bit of the cache device, of which nothing in memory takes notice.
inline void damage(EngineRig& rig, std::uint64_t offset) { rig.cache_image()[offset] ^= std::byte{0x10}; }

inline bool in_use(EngineRig& rig, SegmentId segment) {
  const auto segments = rig.cache().pool().in_use();
  return std::any_of(segments.begin(), segments.end(), [segment](const auto& s) { return s.id == segment; });
}

}  // namespace pcache
