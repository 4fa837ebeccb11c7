#include "media/layout.h"

#include <algorithm>
#include <bit>

#include "base/units.h"

namespace pcache {

namespace {

// All that does not depend on how many segments there are. Nothing when the segment size is not allowed.
std::optional<Geometry> fixed_parts(std::uint64_t segment_size) {
  if (!std::has_single_bit(segment_size) || segment_size < kMinSegmentSize || segment_size > kMaxSegmentSize) {
    return std::nullopt;
  }
  Geometry g;
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
  return g;
}

// Slot numbers are 32 bits wide, and the highest one means "none".
std::uint64_t most_segments(const Geometry& g) { return 0xfffffffeU / g.slots_per_segment; }

}  // namespace

std::optional<Geometry> geometry_with(std::uint64_t size_bytes, std::uint64_t segment_size,
                                      std::uint64_t first_segment) {
  std::optional<Geometry> g = fixed_parts(segment_size);
  if (!g || !is_aligned(first_segment, kSegmentAlign) || first_segment < g->segment_table ||
      first_segment > size_bytes) {
    return std::nullopt;
  }
  const std::uint64_t table = align_down((first_segment - g->segment_table) / 2, kMediaPage);
  const std::uint64_t limit = std::min(table / kRecordSize, most_segments(*g));
  g->segment_table_copy = g->segment_table + table;
  g->first_segment = first_segment;
  g->segment_limit = static_cast<std::uint32_t>(limit);
  g->segment_count = static_cast<std::uint32_t>(std::min((size_bytes - first_segment) / segment_size, limit));
  g->size_bytes = size_bytes;
  if (g->segment_count < kMinSegments) return std::nullopt;
  return g;
}

std::optional<Geometry> compute_geometry(std::uint64_t size_bytes, std::uint64_t segment_size) {
  const std::optional<Geometry> fixed = fixed_parts(segment_size);
  if (!fixed) return std::nullopt;
  // The table's size depends on the number of segments and the other way round: start high and come down.
  std::uint64_t count = std::min(size_bytes / segment_size, most_segments(*fixed));
  for (; count >= kMinSegments; --count) {
    const std::uint64_t room = std::min(kTableRoom * count, most_segments(*fixed));
    const std::uint64_t first =
        align_up(fixed->segment_table + 2 * align_up(room * kRecordSize, kMediaPage), kSegmentAlign);
    if (first + count * segment_size <= size_bytes) return geometry_with(size_bytes, segment_size, first);
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
