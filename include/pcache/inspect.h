// What can be found out about a cache device that is not mounted, and what can be got out of it. Nothing here changes a
// byte of a cache device or a backing device.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pcache/byte_range.h"
#include "pcache/result.h"

namespace pcache {

enum class DamageKind {
  superblock,
  device_record,
  device_state,
  segment_entry,
  key_record,
  clean_data,  // cached blocks that the backing device has too
  dirty_data,  // blocks that nothing else has
  lost_data,   // dirty blocks that were found unreadable before, and are recorded as lost
  backing,     // what only the backing device has, and cannot be read from there
};

// The lower-case word used in text and JSON.
const char* to_string(DamageKind kind);

// One thing that is wrong with a cache device.
struct Damage {
  DamageKind kind = DamageKind::superblock;
  std::string logic_dev;           // name; empty when it is of none, or of one that is not known
  std::uint64_t cache_offset = 0;  // where on the cache device it begins
  // What part of the logical device it concerns; nothing when that is not known, or all of it.
  std::optional<ByteRange> range;
  bool certain = true;    // false: the range is what damaged records seem to say
  bool dirty = false;     // data that no backing device has is concerned, or may be
  bool harmless = false;  // nothing is lost: another copy is right, and takes the place of this one
  std::string detail;     // one line for a person
};

struct CheckedLogicDev {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::string backing;  // path
  bool failed = false;  // a mount would answer EIO to everything
  std::string detail;   // why
  std::uint64_t dirty_bytes = 0;
  std::uint64_t cached_bytes = 0;
  std::uint64_t lost_bytes = 0;
};

struct CheckReport {
  std::string path;
  std::string uuid;
  std::string label;
  std::uint64_t size_bytes = 0;
  bool closed_in_order = false;
  std::uint64_t damages = 0;  // how often `report` was called
  std::vector<CheckedLogicDev> logic_devs;
};

// The label of the cache device at `path`, also while it is in use, where that is a file. Errors: not_found,
// permission, busy, integrity, invalid (not a cache device, or one of another version), failed.
Result<std::string> cache_dev_label(const std::string& path);

// Looks at everything that a mount would use of the cache device at `path`, every cached block included, and calls
// `report` with each thing that is wrong. Takes the memory that a mount takes. What a crash explains is no damage.
// Errors: not_found, busy (in use), permission, integrity (both copies of the superblock damaged, or
// truncated), invalid (not a cache device, a newer version, or no file), failed.
Result<CheckReport> check_cache_dev(const std::string& path, const std::function<void(const Damage&)>& report);

struct SalvageOptions {
  std::string image;  // the file to make; must not exist
  // Where the backing device is now, or a copy of it; empty: where it was when the logical device was last up.
  std::string backing;
};

struct SalvageReport {
  std::uint64_t size_bytes = 0;
  std::string backing;              // path; empty: there was none
  std::string backing_detail;       // why there was none
  std::uint64_t dirty_bytes = 0;    // got from the cache, newer than what the backing has
  std::uint64_t missing_bytes = 0;  // known to be missing; they are zeroes in the image
  std::uint64_t damages = 0;        // how often `report` was called
};

// Makes a file of what the logical device `name` on the cache device at `path` would read as: its backing with all
// dirty data, whatever state the logical device is in. Calls `report` with everything that could not be got, or of
// which it is not known whether it was: bytes that are missing are zeroes in the image, and what may be older than it
// should be (`certain` is false) is the newest that was found. Without the backing the image has what is cached. Where
// an error is returned no file is left. Errors: as check_cache_dev(), and not_found (no such logical device, no
// `backing`), busy (the image exists), invalid (`backing` is of another size), no_space, failed (the image cannot be
// written).
Result<SalvageReport> salvage_logic_dev(const std::string& path, const std::string& name, const SalvageOptions& options,
                                        const std::function<void(const Damage&)>& report);

// --- What is stored, as it is stored; docs/on_media_format.md says what the fields mean

// Of the first and the second copy: "good", "older", "blank" or "damaged".
using CopyWords = std::array<std::string, 2>;

struct DumpedSuperblock {
  std::string path;
  CopyWords copies;
  std::uint64_t sequence = 0;
  std::uint32_t version = 0;
  std::uint32_t cache_tag = 0;
  std::string uuid;
  std::string label;
  std::uint64_t size_bytes = 0;
  std::uint64_t segment_size_bytes = 0;
  std::uint32_t segments = 0;
  std::uint32_t slots_per_segment = 0;
  std::uint64_t first_segment = 0;  // byte offset
  std::uint32_t next_device_id = 0;
};

struct DumpedDevice {
  std::uint32_t place = 0;
  CopyWords copies;
  std::uint64_t sequence = 0;
  bool usable = false;          // false: what follows makes no sense, or is not known
  std::uint32_t device_id = 0;  // 0: the place is free again
  std::uint32_t streams = 0;
  std::uint64_t size_bytes = 0;
  std::string name;
  std::string backing_id;
  std::string backing_path;
  CopyWords state_copies;
  std::optional<std::uint64_t> clean_epoch;  // nothing when the device state is damaged
  std::optional<std::uint64_t> closed_lsns;  // where the logs ended; nothing when not closed in order
};

struct DumpedSegment {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;  // in bytes
  CopyWords copies;
  std::uint64_t sequence = 0;
  bool usable = false;  // false: what follows makes no sense, or is not known
  bool in_use = false;
  std::uint64_t generation = 0;
  std::uint64_t chain = 0;
  std::uint64_t first_lsn = 0;
  std::uint32_t device_id = 0;
  std::uint32_t stream = 0;
};

struct DumpedRecord {
  std::uint32_t segment = 0;
  std::uint32_t slot = 0;
  std::uint64_t offset = 0;  // in bytes
  bool valid = false;        // false: damaged or torn; the fields are what the bytes say
  std::uint64_t lsn = 0;
  std::uint64_t generation = 0;
  std::string type;  // "write", "clean", "zero", "lost", "filler", "gone", "void", "unknown"
  std::uint64_t block = 0;
  std::uint64_t count = 0;
  std::uint64_t epoch = 0;
  std::uint32_t device_id = 0;
  std::uint32_t stream = 0;
  std::uint32_t payload_crc = 0;
  std::uint32_t batch_pos = 0;
};

// Called in this order: the superblock once, every place of the device table that was ever used, every segment that
// was ever used, and every record of the segments in use, by segment and slot. Records of a segment's earlier lives and
// what was never written are left out.
struct DumpVisitor {
  std::function<void(const DumpedSuperblock&)> superblock;
  std::function<void(const DumpedDevice&)> device;
  std::function<void(const DumpedSegment&)> segment;
  std::function<void(const DumpedRecord&)> record;
};

// Tells what the cache device at `path` holds. Holds no more than one item in memory. Errors as check_cache_dev().
Status dump_cache_dev(const std::string& path, const DumpVisitor& visitor);

}  // namespace pcache
