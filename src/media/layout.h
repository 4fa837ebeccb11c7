// Where everything is on a cache device: areas, their offsets, and the geometry that follows from size and segment
// size.
#pragma once

#include <cstdint>
#include <optional>

namespace pcache {

// The media format's version. A reader refuses any other one.
inline constexpr std::uint32_t kMediaVersion = 4;

inline constexpr std::uint64_t kMediaPage = 4096;  // copies of one item are at least this far apart
inline constexpr std::uint64_t kCellSize = 4096;   // one cached block
inline constexpr std::uint64_t kRecordSize = 64;   // key record, segment entry, device state
inline constexpr std::uint64_t kMaxDeviceBytes = std::uint64_t{1} << 60;  // of a logical device: 48 bits of blocks
inline constexpr std::uint32_t kMaxDevices = 64;                          // logical devices in one cache device
inline constexpr std::uint32_t kMaxDeviceId = 0x7fffffff;                 // ids stay below
inline constexpr std::uint64_t kCounterLimit = std::uint64_t{1} << 62;    // epochs, LSNs, generations stay below
inline constexpr std::uint32_t kMaxStreams = 8;                           // key-log streams of one logical device
inline constexpr std::uint64_t kSegmentAlign = 2 << 20;  // the first segment; lets the mapping use huge pages
inline constexpr std::uint64_t kMinSegmentSize = 256 << 10;
inline constexpr std::uint64_t kMaxSegmentSize = 64 << 20;
inline constexpr std::uint32_t kMinSegments = 8;
inline constexpr std::uint32_t kTableRoom = 4;
inline constexpr std::uint32_t kWindowBlocks = 256;  // consecutive blocks that share a stream: 1 MiB

// Byte offsets of every area of a cache device. Each item exists twice; `_copy` is the distance to its second copy.
//
//   0        superblock            1 page, second copy in the next page
//   8 KiB    device records        kMaxDevices pages, then their copies
//            device states         kMaxDevices x 64 bytes in one page, then its copy
//            segment table         64 bytes a segment; all that is left before the segments, in two halves, is for it
//                                  and its copy, so that there may be more segments one day
//            segments              from a multiple of 2 MiB: records, then cells
struct Geometry {
  std::uint64_t size_bytes = 0;
  std::uint64_t segment_size = 0;
  std::uint32_t segment_count = 0;
  std::uint32_t segment_limit = 0;      // for how many the table and the numbers of slots have room
  std::uint32_t slots_per_segment = 0;  // records and cells of one segment

  std::uint64_t device_records = 0;
  std::uint64_t device_records_copy = 0;
  std::uint64_t device_states = 0;
  std::uint64_t device_states_copy = 0;
  std::uint64_t segment_table = 0;
  std::uint64_t segment_table_copy = 0;
  std::uint64_t first_segment = 0;
  std::uint64_t cells_offset = 0;  // from the start of a segment

  std::uint64_t segment_offset(std::uint32_t segment) const { return first_segment + segment * segment_size; }
  std::uint64_t record_offset(std::uint32_t segment, std::uint32_t slot) const {
    return segment_offset(segment) + slot * kRecordSize;
  }
  std::uint64_t cell_offset(std::uint32_t segment, std::uint32_t slot) const {
    return segment_offset(segment) + cells_offset + slot * kCellSize;
  }
  std::uint64_t slot_count() const { return std::uint64_t{segment_count} * slots_per_segment; }
};

// The geometry of a device of `size_bytes` with segments of `segment_size` bytes (a power of two from kMinSegmentSize
// to kMaxSegmentSize). Nothing when the segment size is not allowed or fewer than kMinSegments fit.
// The table has room for kTableRoom times as many, at least, where slot numbers suffice.
std::optional<Geometry> compute_geometry(std::uint64_t size_bytes, std::uint64_t segment_size);

// The same for a device whose segments begin at `first_segment`: there they stay when it becomes longer or shorter. As
// many segments as there is room for. Nothing also where `first_segment` is no place for them.
std::optional<Geometry> geometry_with(std::uint64_t size_bytes, std::uint64_t segment_size,
                                      std::uint64_t first_segment);

// The segment size to use when none is asked for: about 1/256 of the device, at least 1 MiB and at most 16 MiB; smaller
// where fewer than 64 segments would fit.
std::uint64_t default_segment_size(std::uint64_t size_bytes);

// Which of a device's `streams` the block `block` belongs to: its window's number, mixed (SplitMix64's finaliser by
// Sebastiano Vigna) and reduced. Fixed by the media format.
std::uint32_t stream_of_block(std::uint64_t block, std::uint32_t streams);

}  // namespace pcache
