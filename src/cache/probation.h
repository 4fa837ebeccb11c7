// Segments for blocks that were read from the backing once and have to prove that they are worth more.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "boost/circular_buffer.hpp"
#include "index/slot_table.h"
#include "segment/segment_pool.h"

namespace pcache {

// One logical device's part of the probation: borrowed segments without records, oldest first. On the medium they are
// free: a restart forgets what is in them, and nothing has to be in any order there.
//
// Thread-safe. Claimed slots belong to the stream of the block that is put there, as if its log had them: they are
// claimed and filled under its lock. Taking segments away is for reclaim, one thread at a time.
class Probation {
 public:
  Probation(SegmentPool& pool, std::uint32_t slots_per_segment);

  // Claims up to `count` slots in a row, of a new segment if need be and `may_grow`. Returns how many, from `first` on.
  std::uint32_t claim(std::uint32_t count, bool may_grow, SlotId& first);

  std::uint32_t segments() const;
  bool holds_any_from(SegmentId id) const;
  // Makes room for as many as the pool is going to have.
  void reserve_segments(std::uint32_t segments);

  // The segment to take away next, and its age. `full`: nothing will be claimed in it any more.
  struct Oldest {
    SegmentId id = 0;
    std::uint64_t age = 0;
    bool full = false;
  };
  std::optional<Oldest> oldest() const;
  // Nothing will be claimed in the oldest segment any more. Returns it.
  std::optional<SegmentId> seal_oldest();
  // Gives the oldest segment back, which is sealed and empty, and which no reader has pinned.
  void give_back_oldest();

  // Calls `visit(slot)` for each slot that may have been claimed.
  template <typename Visit>
  void for_each_slot(Visit visit) const {
    const std::lock_guard lock(mutex_);
    for (const SegmentId id : segments_) {
      for (SlotId slot = id * slots_; slot < (id + 1) * slots_; ++slot) visit(slot);
    }
  }

 private:
  SegmentPool& pool_;
  const std::uint32_t slots_;
  mutable std::mutex mutex_;  // guards all below; comes after a stream's lock
  // Has room for all that the pool has, since claiming allocates nothing.
  boost::circular_buffer<SegmentId> segments_;
  std::uint32_t claimed_;  // slots of the youngest
};

}  // namespace pcache
