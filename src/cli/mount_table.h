// What the kernel says of mounts.
#pragma once

#include <optional>
#include <string>

namespace pcache {

// The options of the pcachefs that is mounted at `path`, dead or alive, which is not touched; nothing if there is none.
std::optional<std::string> mount_options(const std::string& path);

}  // namespace pcache
