// How much of a cache device its logical devices keep to themselves, and how much each may have.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "pcache/settings.h"
#include "pcache/status.h"

namespace pcache {

// In segments.
struct Share {
  std::uint32_t min = 0;  // what is clean below is not taken for others; rounded up
  std::uint32_t max = 0;  // rounded down
};

// Of a cache device of so many segments; all of them together are its 100 %.
Share share_of(std::uint64_t share_min, std::uint64_t share_max, std::uint32_t segments, std::uint64_t segment_size);

// Whether all of `mins`, the share_min of each logical device, leave the `kept_free` segments that the cache device
// needs free. Errors: invalid, with what is left.
Status check_shares(std::span<const std::uint32_t> mins, std::uint32_t segments, std::uint32_t kept_free,
                    std::uint64_t segment_size, const std::string& cache_label);

}  // namespace pcache
