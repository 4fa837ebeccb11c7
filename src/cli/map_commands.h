// Logical devices as block devices: loop devices on their files.
#pragma once

#include <cstdint>
#include <string>

namespace pcache {

struct MapArgs {
  std::string name;
  bool read_only = false;
  bool scan_partitions = false;
  std::uint64_t sector_size = 0;  // 0: what the backing device has
};

// Prints the loop device. Returns the exit code.
int run_map(const std::string& mount, const MapArgs& args, bool as_json);

// `name`: a logical device's, or its loop device.
int run_unmap(const std::string& mount, const std::string& name, bool as_json);

}  // namespace pcache
