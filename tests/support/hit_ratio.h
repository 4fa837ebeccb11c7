// What a trace hits in a cache: of two policies, and of the engine itself.
#pragma once

#include <cstdint>

#include "cache/cache.h"
#include "tests/support/traces.h"

namespace pcache {

// Reads after the warm-up that are not of a scan.
struct Hits {
  std::uint64_t reads = 0;
  std::uint64_t hits = 0;
  std::uint64_t stored = 0;  // blocks written to the cache, for all accesses of the whole trace

  double ratio() const { return static_cast<double>(hits) / static_cast<double>(reads); }
  std::uint64_t misses() const { return reads - hits; }
};

// Caches of exactly `capacity` blocks that take whatever is read or written, and evict
//   fifo: what came in first (a segment at a time and without a second look, the kernel's pcache drivers do that)
//   lru:  what was used least recently
Hits run_fifo(const Trace& trace, std::uint32_t capacity);
Hits run_lru(const Trace& trace, std::uint32_t capacity);

// The engine with a cache device of `cache_bytes` in memory, all included, formatted as users would; its background
// work is done between the accesses. Reads are checked. Ends the process where the engine fails.
Hits run_engine(const Trace& trace, std::uint64_t cache_bytes);

}  // namespace pcache
