// Where the two copies of each metadata item are.
#pragma once

#include "media/layout.h"
#include "segment/dual_slot.h"

namespace pcache {

inline constexpr DualSlot kSuperblockSlot{0, kMediaPage};

// `place`: below kMaxDevices.
inline DualSlot device_record_slot(const Geometry& g, std::uint32_t place) {
  return {g.device_records + place * kMediaPage, g.device_records_copy + place * kMediaPage, place};
}
inline DualSlot device_state_slot(const Geometry& g, std::uint32_t place) {
  return {g.device_states + place * kRecordSize, g.device_states_copy + place * kRecordSize, place};
}
// `segment`: below segment_count.
inline DualSlot segment_entry_slot(const Geometry& g, std::uint32_t segment) {
  return {g.segment_table + segment * kRecordSize, g.segment_table_copy + segment * kRecordSize, segment};
}

}  // namespace pcache
