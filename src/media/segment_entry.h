// The segment table's entry: what one segment is used for.
#pragma once

#include <array>
#include <cstdint>

#include "media/layout.h"
#include "media/meta_header.h"

namespace pcache {

enum class SegmentState : std::uint8_t { free = 0, log = 1 };

struct SegmentEntry {
  static constexpr std::uint32_t kMagic = 0x47434650;  // "PFCG"

  MetaHeader header;
  std::uint64_t generation;  // grows each time the segment is taken into use; never repeats
  std::uint64_t chain;       // position in the stream's chain of segments, consecutive
  std::uint64_t first_lsn;   // of slot 0
  std::uint32_t device_id;
  std::uint8_t stream;
  SegmentState state;
  std::array<std::uint8_t, 10> reserved;
};
static_assert(sizeof(SegmentEntry) == 64);

// Whether an entry with a valid checksum makes sense.
inline bool is_sane(const SegmentEntry& entry) {
  return entry.state <= SegmentState::log && entry.stream < kMaxStreams && entry.generation < kCounterLimit &&
         entry.chain < kCounterLimit && entry.first_lsn < kCounterLimit;
}

}  // namespace pcache
