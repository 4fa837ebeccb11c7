// A cache device that is only looked at.
#pragma once

#include <memory>
#include <string>

#include "pcache/result.h"
#include "segment/cache_dev.h"

namespace pcache {

// Locks the cache device against being mounted, and maps it without the right to write. Errors: those of
// open_pmem_space() and CacheDev::open().
Result<std::unique_ptr<CacheDev>> open_to_inspect(const std::string& path);

}  // namespace pcache
