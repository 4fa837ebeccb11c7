// Making durable what was read of a medium, bad pages or not.
#pragma once

#include <cstdint>

#include "media/layout.h"
#include "pcache/pmem_space.h"

namespace pcache {

// Makes `length` bytes from `offset` on durable, both multiples of kMediaPage. On other than page media a bad page is
// no reason to leave any other one out: of the bad one nothing was read, nor will be. Errors: as PmemSpace::persist(),
// on page media.
inline Status persist_readable(PmemSpace& space, std::uint64_t offset, std::uint64_t length) {
  const Status status = space.persist(offset, length);
  if (status.ok() || space.granularity() == Granularity::page) return status;
  for (std::uint64_t page = offset; page < offset + length; page += kMediaPage) (void)space.persist(page, kMediaPage);
  return Status();
}

}  // namespace pcache
