#include "segment/segment_pool.h"

namespace pcache {

SegmentPool::SegmentPool(CacheDev& cache_dev)
    : cache_dev_(cache_dev),
      pins_(new std::atomic<std::uint32_t>[cache_dev.geometry().segment_count]()),
      entries_(cache_dev.geometry().segment_count),
      ages_(cache_dev.geometry().segment_count) {
  const PmemSpace& space = cache_dev_.space();
  for (SegmentId id = total(); id-- > 0;) {
    const auto entry = load_dual<SegmentEntry>(space, entry_slot(id), cache_dev_.tag());
    if (entry && entry->state <= SegmentState::log && entry->stream < kMaxStreams) {
      entries_[id] = *entry;
      if (entry->state == SegmentState::free) free_.push_back(id);
      continue;
    }
    // Never used since format: blank. A crash within the very first update may have torn the first copy while the
    // second is blank still.
    if (!entry && is_blank<SegmentEntry>(space, entry_slot(id).second)) {
      free_.push_back(id);
    } else {
      ++damaged_count_;
    }
  }
  free_count_ = static_cast<std::uint32_t>(free_.size());
}

// Persist order: the entry (first copy, second copy) before the first record of the segment, which the caller writes
// later. Records of the segment's earlier lives carry another generation.
Result<std::optional<SegmentPool::Taken>> SegmentPool::take(const SegmentUse& use) {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return std::optional<Taken>();
  const SegmentId id = free_.back();
  SegmentEntry entry = entries_[id];
  ++entry.generation;
  entry.chain = use.chain;
  entry.first_lsn = use.first_lsn;
  entry.device_id = use.device_id;
  entry.stream = static_cast<std::uint8_t>(use.stream);
  entry.state = SegmentState::log;
  if (Status status = store_dual(cache_dev_.space(), entry_slot(id), cache_dev_.tag(), entry); !status.ok()) {
    return status;
  }
  entries_[id] = entry;
  ages_[id] = ++taken_;
  free_.pop_back();
  free_count_.store(static_cast<std::uint32_t>(free_.size()), std::memory_order_relaxed);
  return std::optional<Taken>(Taken{id, entry.generation});
}

Status SegmentPool::release(SegmentId id) {
  const std::lock_guard lock(mutex_);
  SegmentEntry entry = entries_[id];
  entry.state = SegmentState::free;
  if (Status status = store_dual(cache_dev_.space(), entry_slot(id), cache_dev_.tag(), entry); !status.ok()) {
    return status;
  }
  entries_[id] = entry;
  free_.push_front(id);
  free_count_.store(static_cast<std::uint32_t>(free_.size()), std::memory_order_relaxed);
  return Status();
}

std::uint64_t SegmentPool::age(SegmentId id) const {
  const std::lock_guard lock(mutex_);
  return ages_[id];
}

std::vector<SegmentPool::InUse> SegmentPool::in_use() const {
  const std::lock_guard lock(mutex_);
  std::vector<InUse> segments;
  for (SegmentId id = 0; id < entries_.size(); ++id) {
    if (entries_[id].state == SegmentState::log) segments.push_back({id, entries_[id]});
  }
  return segments;
}

DualSlot SegmentPool::entry_slot(SegmentId id) const {
  const Geometry& g = cache_dev_.geometry();
  return {g.segment_table + id * kRecordSize, g.segment_table_copy + id * kRecordSize};
}

}  // namespace pcache
