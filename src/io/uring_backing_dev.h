// A block device or file through io_uring.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "pcache/backing_dev.h"
#include "pcache/result.h"

namespace pcache {

// Serves `fd`, open for reading and writing and locked, as the backing device at `path`; takes it over. Completions run
// on one thread of the device; the device must not be destroyed there. Errors: permission (no io_uring for this
// process), failed.
Result<std::unique_ptr<BackingDev>> make_uring_backing_dev(std::string path, UniqueFd fd, BackingIdentity identity);

}  // namespace pcache
