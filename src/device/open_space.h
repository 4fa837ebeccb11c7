// A path as what a cache device is in, or may be.
#pragma once

#include <memory>
#include <string>

#include "pcache/pmem_space.h"
#include "pcache/result.h"

namespace pcache {

// Whether a superblock seems to be at one of its two places in an open file or device. `path` is for the error: failed.
Result<bool> has_superblock(int fd, const std::string& path);

// Opens what is to be a cache device. Errors: those of open_pmem_space(), but a file with part of a page, or an empty
// one, is only damaged (integrity) where it was a cache device, and otherwise no cache device (invalid).
Result<std::unique_ptr<PmemSpace>> open_cache_space(const std::string& path, PmemAccess access = PmemAccess::use);

}  // namespace pcache
