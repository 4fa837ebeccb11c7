// One shard of a logical device: a key-log stream, its index, and what is going on in it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/backoff_lock.h"
#include "boost/circular_buffer.hpp"
#include "index/stream_index.h"
#include "index/zero_map.h"
#include "log/stream_log.h"

namespace pcache {

struct Fetch;

// A write of part of a block waits for the rest of it from the backing; any other write of the block in between makes
// what was read worthless.
struct BlockWatch {
  std::uint64_t block = 0;
  bool overtaken = false;
};

// Adds to a counter that only the holder of one lock changes, and anybody may read: no locked instruction.
inline void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

// Everything but the atomics and unlocked index lookups is guarded by `lock`. Where several streams are locked, it is
// in the order of their numbers.
struct Stream {
  Stream(CacheDev& cache_dev, SegmentPool& pool, SlotTable& slots, std::uint32_t device_id, std::uint32_t number)
      : index(slots), log(cache_dev, pool, device_id, number) {}

  static constexpr std::size_t kEpochsAtFirst = 64;
  static constexpr std::size_t kListedLost = 64;

  // Where an epoch that is not written back yet begins in this stream.
  struct EpochStart {
    std::uint64_t epoch = 0;
    std::uint64_t first_lsn = 0;
  };

  void is_lost(std::uint64_t block) {
    if (listed_lost < lost.size()) lost[listed_lost++] = block;
    bump(lost_blocks, 1);
  }
  void no_longer_lost(std::uint64_t block) {
    bump(lost_blocks, -std::uint64_t{1});
    const auto end = lost.begin() + static_cast<std::ptrdiff_t>(listed_lost);
    const auto found = std::find(lost.begin(), end, block);
    if (found != end) *found = lost[--listed_lost];
  }

  // Every slot before this one is on the backing.
  std::uint64_t first_dirty_lsn() const { return epochs.empty() ? log.next_lsn() : epochs.front().first_lsn; }

  BackoffLock lock;
  StreamIndex index;
  StreamLog log;
  ZeroMap zeros;
  // Oldest first; only those that have something to write back. Whoever closes an epoch makes room for the next
  // (CachedDevice::close_epoch()), so that a write never has to.
  boost::circular_buffer<EpochStart> epochs{kEpochsAtFirst};
  absl::flat_hash_map<std::uint64_t, Fetch*> fetches;  // blocks being read from the backing, by block
  std::vector<BlockWatch*> watches;
  // Of the slots before this one some may have left the index while a replay would still find them: no later record is
  // of the same blocks.
  std::uint64_t bare_end_lsn = 0;

  std::uint32_t clean_segments = 0;  // that reclaim may empty, as counted last

  std::array<std::uint64_t, kListedLost> lost{};  // for people: of the lost blocks as many as fit
  std::size_t listed_lost = 0;

  std::atomic<std::uint64_t> dirty_blocks{0};   // linked and dirty
  std::atomic<std::uint64_t> cached_blocks{0};  // linked
  std::atomic<std::uint64_t> lost_blocks{0};    // linked, dirty once and unreadable
  std::atomic<std::uint64_t> stored_slots{0};   // ever appended, since opening
  std::atomic<std::uint64_t> writes{0};         // requests that began in this stream
  std::atomic<std::uint64_t> write_bytes{0};
};

}  // namespace pcache
