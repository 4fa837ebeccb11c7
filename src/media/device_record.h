// What a cache device remembers of one logical device: its description, and its dirty tail.
#pragma once

#include <array>
#include <cstdint>

#include "media/layout.h"
#include "media/meta_header.h"
#include "pcache/device_manager.h"
#include "pcache/settings.h"

namespace pcache {

// One page, written when a logical device is added or removed.
struct DeviceRecord {
  static constexpr std::uint32_t kMagic = 0x44434650;  // "PFCD"

  MetaHeader header;
  std::uint32_t device_id;  // 0: the place is free
  std::uint32_t streams;    // 1 to kMaxStreams
  std::uint64_t size_bytes;
  std::array<char, 256> name;  // zero-terminated, as the next two
  std::array<char, 136> backing_id;
  std::array<char, 3072> backing_path;
  std::uint64_t settings_given;  // a bit for each setting, by its number
  std::array<std::uint64_t, 32> settings;
  std::uint32_t flags;  // kDetached, kParked, kBypassed
  std::array<std::uint8_t, 324> reserved;

  static constexpr std::uint32_t kDetached = 1;  // it has no log, until it is attached again
  static constexpr std::uint32_t kParked = 2;    // it is not exposed, until it is added again
  static constexpr std::uint32_t kBypassed = 4;  // full_policy was bypass since it was last closed in order, or is
};
static_assert(sizeof(DeviceRecord) == kMediaPage);

// 64 bytes, written after each epoch that was written back, on opening and on closing.
struct DeviceState {
  static constexpr std::uint32_t kMagic = 0x54434650;  // "PFCT"

  MetaHeader header;
  std::uint64_t clean_epoch;  // the backing holds every epoch up to this one
  std::uint32_t device_id;
  std::uint32_t closed;             // 1: nothing was appended since the device was closed in order
  std::uint64_t closed_first_lsns;  // if so: sums over the streams of their logs' first LSNs
  std::uint64_t closed_next_lsns;   // and of the LSNs that they were to write next
  std::array<std::uint8_t, 8> reserved;
};
static_assert(sizeof(DeviceState) == kRecordSize);

// Whether a record with a valid checksum makes sense: an id of those that are given, a known number of streams, a name
// that a file can have, terminated texts, a size in whole sectors that blocks can be numbered for.
inline bool is_sane(const DeviceRecord& record) {
  return record.device_id < kMaxDeviceId && record.streams >= 1 && record.streams <= kMaxStreams &&
         record.size_bytes > 0 && record.size_bytes <= kMaxDeviceBytes && record.size_bytes % 512 == 0 &&
         record.name.back() == '\0' && check_logic_dev_name(record.name.data()).ok() &&
         record.backing_id.back() == '\0' && record.backing_path[0] != '\0' && record.backing_path.back() == '\0';
}

// The settings stored in a record. What this version does not know, or is out of range, counts as not given.
inline Settings settings_of(const DeviceRecord& record) {
  Settings settings;
  for (const SettingInfo& info : all_settings()) {
    const auto number = static_cast<std::size_t>(info.setting);
    if ((record.settings_given >> number & 1) == 0 || !is_in_range(info.setting, record.settings[number])) continue;
    settings.set(info.setting, record.settings[number]);
  }
  return settings;
}

inline void set_flag(DeviceRecord& record, std::uint32_t flag, bool on) {
  record.flags = on ? record.flags | flag : record.flags & ~flag;
}
inline bool is_parked(const DeviceRecord& record) { return (record.flags & DeviceRecord::kParked) != 0; }
inline bool is_bypassed(const DeviceRecord& record) { return (record.flags & DeviceRecord::kBypassed) != 0; }
inline bool is_detached(const DeviceRecord& record) { return (record.flags & DeviceRecord::kDetached) != 0; }

// The settings that this version does not know stay as they are.
inline void store_settings(DeviceRecord& record, const Settings& settings) {
  for (const SettingInfo& info : all_settings()) {
    const auto number = static_cast<std::size_t>(info.setting);
    record.settings_given &= ~(std::uint64_t{1} << number);
    record.settings_given |= std::uint64_t{settings.has(info.setting)} << number;
    record.settings[number] = settings.has(info.setting) ? settings.get(info.setting) : 0;
  }
}

inline bool is_sane(const DeviceState& state) {
  return state.clean_epoch < kCounterLimit && state.closed <= 1 && state.closed_first_lsns < kCounterLimit &&
         state.closed_next_lsns < kCounterLimit;
}

}  // namespace pcache
