#include "media/layout.h"

#include <algorithm>
#include <bit>

#include "base/units.h"

namespace pcache {

std::optional<Geometry> compute_geometry(std::uint64_t size_bytes, std::uint64_t segment_size) {
  if (!std::has_single_bit(segment_size) || segment_size < kMinSegmentSize || segment_size > kMaxSegmentSize) {
    return std::nullopt;
  }
  Geometry g;
  g.size_bytes = size_bytes;
  g.segment_size = segment_size;
  g.slots_per_segment = static_cast<std::uint32_t>(segment_size / (kCellSize + kRecordSize));
  while (align_up(g.slots_per_segment * kRecordSize, kMediaPage) + g.slots_per_segment * kCellSize > segment_size) {
    --g.slots_per_segment;
  }
  g.cells_offset = segment_size - g.slots_per_segment * kCellSize;

  g.device_records = 2 * kMediaPage;
  g.device_records_copy = g.device_records + kMaxDevices * kMediaPage;
  g.device_states = g.device_records_copy + kMaxDevices * kMediaPage;
  g.device_states_copy = g.device_states + align_up(kMaxDevices * kRecordSize, kMediaPage);
  g.segment_table = g.device_states_copy + align_up(kMaxDevices * kRecordSize, kMediaPage);

  // The table's size depends on the number of segments and the other way round: start high and come down.
  std::uint64_t count = size_bytes / segment_size;
  // Slot numbers are 32 bits wide, and the highest one means "none".
  count = std::min<std::uint64_t>(count, 0xfffffffeU / g.slots_per_segment);
  for (; count >= kMinSegments; --count) {
    const std::uint64_t table = align_up(count * kRecordSize, kMediaPage);
    const std::uint64_t first = align_up(g.segment_table + 2 * table, kSegmentAlign);
    if (first + count * segment_size <= size_bytes) {
      g.segment_table_copy = g.segment_table + table;
      g.first_segment = first;
      g.segment_count = static_cast<std::uint32_t>(count);
      return g;
    }
  }
  return std::nullopt;
}

std::uint64_t default_segment_size(std::uint64_t size_bytes) {
  std::uint64_t size = std::bit_floor(std::max<std::uint64_t>(size_bytes / 256, 1));
  size = std::clamp<std::uint64_t>(size, kMiB, 16 * kMiB);
  while (size > kMinSegmentSize && size_bytes / size < 64) size /= 2;
  return size;
}

std::uint32_t stream_of_block(std::uint64_t block, std::uint32_t streams) {
  std::uint64_t x = block / kWindowBlocks + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return static_cast<std::uint32_t>(x % streams);
}

}  // namespace pcache
