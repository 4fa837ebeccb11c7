// What can be chosen when a cache device is formatted, opened, or given a logical device.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "pcache/settings.h"
#include "pcache/status.h"

namespace pcache {

// What an acknowledged write has reached.
//   durable: data and mapping survive power loss
//   flush:   they survive the death of the process; power loss only after the next flush. Page-granularity media only.
enum class Ack { durable, flush };

const char* to_string(Ack ack);

struct FormatOptions {
  // Bytes; for a path that does not exist (a file is made and fully allocated), or an ordinary file to be resized.
  std::optional<std::uint64_t> size_bytes;
  // At most 63 bytes of [A-Za-z0-9_.-]; empty: the file name's stem.
  std::string label;
  // Power of two, 256 KiB to 64 MiB; 0: chosen from the size (about 1/256 of it, 1 MiB to 16 MiB).
  std::uint64_t segment_size_bytes = 0;
  // Overwrite what the path holds (another cache without dirty data, a foreign filesystem, any data).
  bool force = false;
  // Overwrite a cache that holds dirty data. Needs force too.
  bool discard_dirty = false;
};

// What a configuration says of the logical devices of a cache device.
struct ConfiguredSettings {
  Settings all;
  std::map<std::string, Settings> by_name;  // of one; these take the place of those of all

  Settings of(const std::string& name) const;
};

inline constexpr std::uint32_t kEpochMaxMs = 1000;

struct CacheOptions {
  // The label that the cache device has to have; empty: any.
  std::string label;
  // Unset: durable on byte and cache_line media, flush on page media.
  std::optional<Ack> ack;
  // Milliseconds after which an open epoch closes by itself; unset: kEpochMaxMs. Range 10 to 60,000.
  std::optional<std::uint32_t> epoch_max_ms;
  // Take the place of what is stored for each logical device, as long as the cache device is open. A mode that is
  // configured is switched to, and so stored.
  ConfiguredSettings configured;
  // The same, over what is configured. Not the mode.
  Settings settings;
};

// Errors: invalid, naming the option that is out of its range and the range.
Status check_cache_options(const CacheOptions& options);

// What becomes of data that is only in the cache when a logical device is removed.
enum class DirtyData {
  write_back,  // the backing gets it first
  keep,        // it stays in the cache device, and so does the record of the logical device
  discard,     // it is thrown away
};

struct AddOptions {
  // Label of the cache device; may be empty when there is only one.
  std::string cache_label;
  // Bytes of the backing that are exposed; must equal the backing's size when given.
  std::optional<std::uint64_t> size_bytes;
  // Stored with the logical device.
  Settings settings;
};

}  // namespace pcache
