// The segment table in memory and on the medium: which segments are free, which belong to which stream, and who reads.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/huge_array.h"
#include "boost/circular_buffer.hpp"
#include "media/segment_entry.h"
#include "segment/cache_dev.h"

namespace pcache {

using SegmentId = std::uint32_t;

// What a segment is taken into use for.
struct SegmentUse {
  std::uint32_t device_id = 0;
  std::uint32_t stream = 0;
  std::uint64_t chain = 0;
  std::uint64_t first_lsn = 0;
};

// Whether no record of this formatting was ever stored in a segment: each slot is blank, or has a record of an earlier
// formatting. False where that cannot be told for sure.
bool was_never_used(const CacheDev& cache_dev, SegmentId id);

// Whether the first page of a segment's records has one of this formatting. Its entry had been durable before: where it
// is blank, it was lost.
bool holds_records(const CacheDev& cache_dev, SegmentId id);

// Thread-safe.
class SegmentPool {
 public:
  // Loads the table, and where the cache device is not only inspected stores copies again that are damaged. Segments
  // whose entry is damaged in both copies are set aside, never free and never part of a log, but for those that were
  // never used.
  explicit SegmentPool(CacheDev& cache_dev);

  struct Taken {
    SegmentId id = 0;
    std::uint64_t generation = 0;
  };
  // Takes a free segment, with a generation it never had. Durable on return. Nothing when none is free; a failed Status
  // when the medium failed.
  Result<std::optional<Taken>> take(const SegmentUse& use);

  // Makes a segment free. Durable on return: none of its records can be replayed any more.
  // The caller has seen to it that no reader holds a pin and none can get one.
  Status release(SegmentId id);

  // Lends a free segment for what a restart may forget: on the medium it stays free. Nothing when none is free.
  std::optional<SegmentId> borrow();
  // Takes it back; no reader holds a pin and none can get one.
  void give_back(SegmentId id);

  // --- Another size

  // Has the segments of `longer` too, which the space is long enough for; they are free. Durable on return. Persist
  // order: copies of the new segments' entries that are damaged, the superblock. Errors: integrity (an entry is
  // damaged, or not that of a free segment), failed. Nothing changed then.
  Status grow(const Geometry& longer);

  // No segment from `end` on is taken or lent any more, until open_up(). Errors: integrity (the entry of one of them is
  // damaged, so that nobody can empty it).
  Status fence_off(SegmentId end);
  void open_up();
  // How many of the fenced segments are in use.
  std::uint32_t fenced_in_use() const;
  // Has only the segments of `shorter`, from the first fenced one on none, of which none is in use. Durable on return.
  // Persist order: their entries, which say that they are free, were durable before; the superblock.
  Status shrink(const Geometry& shorter);

  std::uint32_t total() const { return total_.load(std::memory_order_relaxed); }
  std::uint32_t free_count() const { return free_count_.load(std::memory_order_relaxed); }
  std::uint32_t borrowed_count() const { return borrowed_count_.load(std::memory_order_relaxed); }
  const std::vector<SegmentId>& damaged() const { return damaged_; }
  std::uint32_t damaged_count() const { return static_cast<std::uint32_t>(damaged_.size()); }
  // Copies of entries that were damaged and stored again.
  const Repairs& repairs() const { return repairs_; }
  // Of all segments ever taken since opening, in which place this one came: tells old from young across streams.
  std::uint64_t age(SegmentId id) const;

  // Every segment in use, as the table says. For replay.
  struct InUse {
    SegmentId id = 0;
    SegmentEntry entry;
  };
  std::vector<InUse> in_use() const;

  // Keeps the segment's cells as they are until unpin(). Lock-free; a full memory fence.
  void pin(SegmentId id) {
    pins_[id].fetch_add(1, std::memory_order_seq_cst);
#if !defined(__x86_64__)
    std::atomic_thread_fence(std::memory_order_seq_cst);  // there a locked instruction is none
#endif
  }
  void unpin(SegmentId id) { pins_[id].fetch_sub(1, std::memory_order_release); }
  bool pinned(SegmentId id) const { return pins_[id].load(std::memory_order_acquire) != 0; }

 private:
  Status store(SegmentId id, SegmentEntry& entry);
  void add_free(SegmentId id);
  void count_free() { free_count_.store(static_cast<std::uint32_t>(free_.size()), std::memory_order_relaxed); }

  CacheDev& cache_dev_;
  HugeArray<std::atomic<std::uint32_t>> pins_;  // for all that there may be one day: they are used without a lock
  std::atomic<std::uint32_t> total_;
  std::atomic<std::uint32_t> free_count_{0};
  std::atomic<std::uint32_t> borrowed_count_{0};
  std::vector<SegmentId> damaged_;
  Repairs repairs_;
  mutable std::mutex mutex_;  // guards all below
  std::vector<SegmentEntry> entries_;
  std::vector<std::uint64_t> ages_;
  boost::circular_buffer<SegmentId> free_;  // taken at the back, released at the front; has room for all
  std::uint64_t taken_ = 0;
  SegmentId fence_ = ~SegmentId{0};     // no segment from here on is handed out
  std::vector<SegmentId> fenced_free_;  // of those behind it; has room for all of them
};

}  // namespace pcache
