// Loop devices on files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "pcache/result.h"

namespace pcache {

struct LoopOptions {
  bool read_only = false;
  bool scan_partitions = false;
  std::uint32_t sector_size = 512;
};

// Makes a loop device on the file, past the page cache, and returns its path. Errors: busy (there is one, which is
// named), permission, not_found, failed.
Result<std::string> attach_loop_device(const std::string& file, const LoopOptions& options);

// The loop device on the file; nothing if there is none. Asks the file's filesystem. Errors: permission, failed.
Result<std::optional<std::string>> find_loop_device(const std::string& file);

// Makes the loop device on the file, if there is one, as long as the file has become. Returns its path. Errors:
// not_found (the file), permission, failed.
Result<std::optional<std::string>> grow_loop_device(const std::string& file);

// The path of the file that a loop device is on; empty if it is none, or on nothing.
std::string loop_device_file(const std::string& device);

// Detaches it. Errors: busy (somebody uses it; who, is named), permission, failed.
Status detach_loop_device(const std::string& device);

}  // namespace pcache
