// What the kernel says of mounts.
#pragma once

#include <sys/types.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pcache {

// The options of the pcachefs that is mounted at `path`, dead or alive, which is not touched; nothing if there is none.
std::optional<std::string> mount_options(const std::string& path);

// Where filesystems on these devices are mounted.
std::vector<std::string> mount_points_of(const std::set<dev_t>& devices);

}  // namespace pcache
