// What a backing device is, found out without opening it for I/O.
#pragma once

#include <string>

#include "pcache/backing_dev.h"
#include "pcache/result.h"

struct stat;

namespace pcache {

// Whether `st`, of what is at `path`, can be a backing device at all. Errors: invalid (neither block device nor file).
Status check_backing_kind(const struct stat& st, const std::string& path);

// Identity of the device or file behind the open descriptor `fd`, whose path is `path`. It names the thing, not its
// content, so that it stays when data is written.
// Errors: invalid (neither a block device nor a file, empty, not a multiple of 512 bytes), failed.
Result<BackingIdentity> identify_backing(int fd, const std::string& path);

}  // namespace pcache
