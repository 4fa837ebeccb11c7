#include "segment/segment_pool.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "media/key_record.h"
#include "segment/item_slots.h"

namespace pcache {

bool was_never_used(const CacheDev& cache_dev, SegmentId id) {
  const Geometry& g = cache_dev.geometry();
  const DualSlot slot = segment_entry_slot(g, id);
  for (const std::uint64_t offset : {slot.first, slot.second}) {
    SegmentEntry entry;  // what cannot be read cannot be taken into use
    if (!cache_dev.space().read(offset, &entry, sizeof entry)) return false;
  }
  for (std::uint32_t i = 0; i < g.slots_per_segment; ++i) {
    const std::uint64_t offset = g.record_offset(id, i);
    if (is_blank<KeyRecord>(cache_dev.space(), offset)) continue;
    KeyRecord record;
    if (!cache_dev.space().read(offset, &record, sizeof record)) return false;
    if (!is_intact(record) || record.cache_tag == cache_dev.tag()) return false;
  }
  return true;
}

// Persist order of repairs: see repair_dual().
SegmentPool::SegmentPool(CacheDev& cache_dev)
    : cache_dev_(cache_dev),
      pins_(cache_dev.growth_limit()),
      total_(cache_dev.geometry().segment_count),
      entries_(cache_dev.geometry().segment_count),
      ages_(cache_dev.geometry().segment_count),
      free_(cache_dev.geometry().segment_count) {
  PmemSpace& space = cache_dev_.space();
  for (SegmentId id = total(); id-- > 0;) {
    const DualSlot slot = segment_entry_slot(cache_dev_.geometry(), id);
    const auto entry = load_copies<SegmentEntry>(space, slot, cache_dev_.tag());
    if (entry.item && is_sane(*entry.item)) {
      entries_[id] = *entry.item;
      if (entry.item->state == SegmentState::free) free_.push_back(id);
      if (!cache_dev_.read_only()) repairs_ += repair_dual(space, slot, entry);
    } else if (entry.never_stored() ? !holds_records(cache_dev_, id) : !entry.item && was_never_used(cache_dev_, id)) {
      free_.push_back(id);
      if (!cache_dev_.read_only()) repairs_ += repair_dual(space, slot, entry);
    } else {
      damaged_.push_back(id);
    }
  }
  count_free();
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
  if (Status status = store(id, entry); !status.ok()) return status;
  ages_[id] = ++taken_;
  free_.pop_back();
  count_free();
  return std::optional<Taken>(Taken{id, entry.generation});
}

Status SegmentPool::release(SegmentId id) {
  const std::lock_guard lock(mutex_);
  SegmentEntry entry = entries_[id];
  entry.state = SegmentState::free;
  if (Status status = store(id, entry); !status.ok()) return status;
  add_free(id);
  return Status();
}

std::optional<SegmentId> SegmentPool::borrow() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return std::nullopt;
  const SegmentId id = free_.back();
  ages_[id] = ++taken_;
  free_.pop_back();
  count_free();
  borrowed_count_.fetch_add(1, std::memory_order_relaxed);
  return id;
}

void SegmentPool::give_back(SegmentId id) {
  const std::lock_guard lock(mutex_);
  borrowed_count_.fetch_sub(1, std::memory_order_relaxed);
  add_free(id);
}

// Under the lock.
void SegmentPool::add_free(SegmentId id) {
  if (id >= fence_) return fenced_free_.push_back(id);
  free_.push_front(id);
  count_free();
}

// What can fail comes before anything changes, but for copies of entries, which say what they said.
Status SegmentPool::grow(const Geometry& longer) {
  const std::lock_guard lock(mutex_);
  PmemSpace& space = cache_dev_.space();
  const SegmentId first = total();
  entries_.reserve(longer.segment_count);
  ages_.reserve(longer.segment_count);
  if (free_.capacity() < longer.segment_count) free_.set_capacity(longer.segment_count);
  std::vector<SegmentEntry> entries;
  for (SegmentId id = first; id < longer.segment_count; ++id) {
    const DualSlot slot = segment_entry_slot(longer, id);
    const auto found = load_copies<SegmentEntry>(space, slot, cache_dev_.tag());
    const bool free = found.item && is_sane(*found.item) && found.item->state == SegmentState::free;
    if (!free && (!found.never_stored() || holds_records(cache_dev_, id))) {
      return Status(Errc::integrity, space.path() + ": the table entry of segment " + std::to_string(id) +
                                         ", which it is to have, is damaged or not free");
    }
    repairs_ += repair_dual(space, slot, found);
    entries.push_back(found.item.value_or(SegmentEntry{}));
  }
  if (Status status = cache_dev_.set_size(longer); !status.ok()) return status;
  entries_.insert(entries_.end(), entries.begin(), entries.end());
  ages_.resize(longer.segment_count);
  total_.store(longer.segment_count, std::memory_order_relaxed);
  for (SegmentId id = first; id < longer.segment_count; ++id) add_free(id);
  return Status();
}

Status SegmentPool::fence_off(SegmentId end) {
  const std::lock_guard lock(mutex_);
  for (const SegmentId id : damaged_) {
    if (id < end) continue;
    return Status(Errc::integrity, cache_dev_.space().path() + ": the table entry of segment " + std::to_string(id) +
                                       " is damaged, and what it holds cannot be moved");
  }
  std::vector<SegmentId> fenced;
  fenced.reserve(total() - std::min(total(), end));
  for (const SegmentId id : free_) {
    if (id >= end) fenced.push_back(id);
  }
  fenced_free_ = std::move(fenced);
  fence_ = end;
  free_.erase(std::remove_if(free_.begin(), free_.end(), [end](SegmentId id) { return id >= end; }), free_.end());
  count_free();
  return Status();
}

void SegmentPool::open_up() {
  const std::lock_guard lock(mutex_);
  fence_ = ~SegmentId{0};
  for (const SegmentId id : fenced_free_) add_free(id);
  fenced_free_.clear();
}

std::uint32_t SegmentPool::fenced_in_use() const {
  const std::lock_guard lock(mutex_);
  return total() - std::min(total(), fence_) - static_cast<std::uint32_t>(fenced_free_.size());
}

Status SegmentPool::shrink(const Geometry& shorter) {
  const std::lock_guard lock(mutex_);
  PCACHE_CHECK(shorter.segment_count == fence_ && fenced_free_.size() == total() - fence_,
               "segments that are in use are given up");
  if (Status status = cache_dev_.set_size(shorter); !status.ok()) return status;
  entries_.resize(shorter.segment_count);
  ages_.resize(shorter.segment_count);
  total_.store(shorter.segment_count, std::memory_order_relaxed);
  fenced_free_.clear();
  fence_ = ~SegmentId{0};
  return Status();
}

// Under the lock. Memory follows once the entry is stored.
Status SegmentPool::store(SegmentId id, SegmentEntry& entry) {
  const DualSlot slot = segment_entry_slot(cache_dev_.geometry(), id);
  const Status status = store_dual(cache_dev_.space(), slot, cache_dev_.tag(), entry);
  if (status.ok()) entries_[id] = entry;
  return status;
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

bool holds_records(const CacheDev& cache_dev, SegmentId id) {
  std::array<KeyRecord, kMediaPage / kRecordSize> records;
  if (!cache_dev.space().read(cache_dev.geometry().record_offset(id, 0), records.data(), sizeof records)) return true;
  return std::any_of(records.begin(), records.end(),
                     [&](const KeyRecord& record) { return record.cache_tag == cache_dev.tag() && is_intact(record); });
}

}  // namespace pcache
