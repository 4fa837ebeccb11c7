// What a backing device is, found out without opening it for I/O.
#pragma once

#include <string>

#include "pcache/backing_dev.h"
#include "pcache/result.h"

namespace pcache {

// Identity of the device or file behind the open descriptor `fd`, whose path is `path`.
// Errors: invalid (neither a block device nor a file, empty, not a multiple of 512 bytes), failed.
Result<BackingIdentity> identify_backing(int fd, const std::string& path);

}  // namespace pcache
