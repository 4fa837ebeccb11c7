// Reads that miss: requests waiting for the backing, and the reads of the backing that they share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "pcache/completion.h"

namespace pcache {

class CachedDevice;
struct Stream;

// A read request of which something missed. Counts the fetches that it waits for; the last one completes and deletes
// it.
struct ReadOp {
  std::uint64_t offset = 0;
  std::span<std::byte> buffer;
  Completion done;
  std::atomic<int> pending{1};
  std::atomic<int> error{0};

  // Copies what the request wants of `block` from `content` (a whole block).
  void take_block(std::uint64_t block, const std::byte* content);
  void fail(int code) { error.store(code, std::memory_order_relaxed); }
  // Drops one count. Completes and deletes the request at the last.
  void put();
};

// One read of consecutive blocks of one window from the backing. Blocks that are written or discarded meanwhile leave
// `Stream::fetches`, so that nobody who comes later joins, and are not filled into the cache.
struct Fetch {
  CachedDevice& device;
  Stream& stream;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  bool shared = true;  // false: nobody joins, and nothing is kept
  AlignedBuffer buffer;
  std::uint64_t began_ns = 0;  // when the backing was asked; 0: not yet

  struct Waiter {
    ReadOp* op = nullptr;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  std::vector<Waiter> waiters;  // under the stream's lock
  bool sequential = false;      // part of a run that is too long to be cached
};

}  // namespace pcache
