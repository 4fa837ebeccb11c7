// An open cache device: its superblock, the logical devices it remembers, and their dirty tails.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "media/device_record.h"
#include "media/layout.h"
#include "media/superblock.h"
#include "pcache/pmem_space.h"
#include "pcache/result.h"
#include "segment/dual_slot.h"

namespace pcache {

// Thread-safe; metadata updates are serialised.
class CacheDev {
 public:
  struct FormatParams {
    std::array<std::uint8_t, 16> uuid;
    std::string label;               // at most 63 bytes
    std::uint64_t segment_size = 0;  // 0: default_segment_size()
  };

  // The layout that a cache device at `path` of `size_bytes` would have; segment_size 0: default_segment_size().
  // Errors: invalid (too small, bad segment size).
  static Result<Geometry> plan(const std::string& path, std::uint64_t size_bytes, std::uint64_t segment_size);

  // Writes an empty cache device over all of `space`. Persist order: both superblock copies are wiped, tables are
  // cleared, the superblock comes last; a crash before that leaves no cache device.
  // Errors: invalid (too small, bad segment size), failed.
  static Status format(PmemSpace& space, const FormatParams& params);

  // How many times as large as when it was opened it may become, while its tables have room.
  static constexpr std::uint32_t kGrowth = 8;

  enum class Access { use, inspect };

  // Takes over `space`. To inspect it changes nothing, and nothing may be changed through it. To use it, copies of
  // metadata that are damaged are stored again.
  // Errors: integrity (damaged, or the file is shorter than at format), invalid (no cache device: neither place of the
  // superblock looks like one; another version).
  static Result<std::unique_ptr<CacheDev>> open(std::unique_ptr<PmemSpace> space, Access access = Access::use);

  // Copies of metadata that were damaged and stored again when it was opened, but for those of the segment table.
  const Repairs& repairs() const { return repairs_; }

  bool read_only() const { return access_ == Access::inspect; }

  PmemSpace& space() { return *space_; }
  const PmemSpace& space() const { return *space_; }
  // As it was opened: what does not change with its size.
  const Geometry& geometry() const { return geometry_; }
  // As of now.
  std::uint64_t size_bytes() const;
  // How many segments it may come to have before it is opened anew.
  std::uint32_t growth_limit() const;
  // The geometry with `size_bytes` in all. Errors: invalid (too few segments, or too many).
  Result<Geometry> plan_size(std::uint64_t size_bytes) const;
  // Has the size and the segments of `geometry`, which the space is long enough for. Durable on return: a crash leaves
  // the old size or the new one. For SegmentPool.
  Status set_size(const Geometry& geometry);
  std::uint32_t tag() const { return tag_; }
  const std::array<std::uint8_t, 16>& uuid() const { return superblock_.uuid; }
  std::string label() const { return superblock_.label.data(); }

  bool any_superblock_readable() const;

  // The logical devices on the medium, with the place each has in the table.
  struct Device {
    std::uint32_t place = 0;
    DeviceRecord record;
  };
  std::vector<Device> devices() const;
  // Places whose record is damaged in both copies, or makes no sense (neither free nor usable).
  std::uint32_t damaged_device_records() const { return damaged_device_records_; }
  // False for these.
  bool place_usable(std::uint32_t place) const { return !unusable_[place]; }
  // Whether a device of this id was removed, so that segments it still has may be freed.
  bool was_removed(std::uint32_t device_id) const;

  // Adds a device: fills in record.device_id and returns its place. The state comes before the record, so that a crash
  // never leaves a device with another's dirty tail. Errors: no_space (the table is full), failed.
  Result<std::uint32_t> add_device(DeviceRecord& record);
  // Durable on return.
  Status set_settings(std::uint32_t place, const Settings& settings, std::optional<bool> detached = std::nullopt);
  // Durable on return.
  Status set_parked(std::uint32_t place, bool parked);
  // Whether writes may go around its log, or could since it was last closed in order. Durable on return.
  Status set_bypassed(std::uint32_t place, bool bypassed);
  bool bypassed(std::uint32_t place) const;
  Status set_device_size(std::uint32_t place, std::uint64_t size_bytes);
  // Forgets the device at `place`, durably.
  Status remove_device(std::uint32_t place);

  // The dirty tail of the device at `place`; integrity when both copies are damaged.
  Result<std::uint64_t> clean_epoch(std::uint32_t place) const;
  // Durable on return.
  Status set_clean_epoch(std::uint32_t place, std::uint64_t epoch);

  // Where the logs of a device began and ended when it was closed in order: sums over its streams.
  struct Closed {
    std::uint64_t first_lsns = 0;
    std::uint64_t next_lsns = 0;
    bool operator==(const Closed&) const = default;
  };
  // Nothing unless the device at `place` was closed in order and nothing was appended since.
  std::optional<Closed> closed(std::uint32_t place) const;
  // Durable on return. Nothing may be appended to a closed device.
  Status set_closed(std::uint32_t place, const std::optional<Closed>& closed);

 private:
  CacheDev(std::unique_ptr<PmemSpace> space, Access access, const Superblock& superblock, const Geometry& geometry);
  Status store_superblock();
  Status store_flag(std::uint32_t place, std::uint32_t flag, bool on);
  Status store_device(std::uint32_t place, DeviceRecord& record);  // under mutex_, as the next one
  Status store_state(std::uint32_t place, DeviceState& state);
  void load_devices();
  void reject_doubles();
  void repair_copies();

  std::unique_ptr<PmemSpace> space_;
  const Access access_;
  Geometry geometry_;
  std::uint32_t tag_;
  std::uint32_t damaged_device_records_ = 0;
  Repairs repairs_;
  std::array<bool, kMaxDevices> unusable_{};  // since opening; not to be overwritten
  mutable std::mutex mutex_;                  // guards all below
  Superblock superblock_;
  std::array<DeviceRecord, kMaxDevices> records_{};
  std::array<DeviceState, kMaxDevices> states_{};
  std::array<bool, kMaxDevices> state_lost_{};
  std::array<bool, kMaxDevices> was_used_{};  // by a device that was removed; its state is still there
};

}  // namespace pcache
