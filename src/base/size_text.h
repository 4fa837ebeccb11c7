// Sizes as people write them.
#pragma once

#include <cstdint>
#include <string>

#include "pcache/result.h"

namespace pcache {

// Bytes for "4096", "64K", "1.5G", "2TiB": a number, perhaps with a fraction, and a binary unit K, M, G, T, P or E in
// either case, perhaps with "B" or "iB"; part of a byte is cut off. Invalid: anything else, zero, a fraction without a
// unit, and what does not fit into 63 bits.
Result<std::uint64_t> parse_size(const std::string& text);

// The size in the largest unit that leaves a number of at least 1, with at most one decimal: "1.5 GiB".
std::string format_size(std::uint64_t bytes);

}  // namespace pcache
