#include "index/stream_index.h"

#include <algorithm>
#include <bit>

#include "base/backoff_lock.h"
#include "base/check.h"

namespace pcache {
namespace {

constexpr std::uint32_t kFirstBuckets = 16;
constexpr std::uint32_t kBucketsPerSlot = 2;  // a chain's second slot is another cache line to wait for
constexpr std::size_t kMostBuckets = 0xffffffff;
// A lookup without the lock that wanders through chains which are being changed notices after this many steps.
constexpr std::uint64_t kStepsUnchecked = 4096;

std::size_t buckets_for(std::size_t slots) {
  return std::clamp<std::size_t>(slots * kBucketsPerSlot, kFirstBuckets, kMostBuckets);
}

}  // namespace

StreamIndex::StreamIndex(SlotTable& slots)
    : slots_(slots), heads_(buckets_for(slots.capacity()), buckets_for(slots.size())), buckets_(kFirstBuckets) {}

void StreamIndex::reserve(std::size_t slots) { heads_.use(buckets_for(std::min(slots, slots_.capacity()))); }

SlotId StreamIndex::find(std::uint64_t block) const {
  SlotId slot = head(bucket_of(block));
  while (slot != kNoSlot && slots_.key(slot).block != block) slot = slots_.next(slot);
  return slot;
}

StreamIndex::Found StreamIndex::find_unlocked(std::uint64_t block) const {
  for (unsigned attempt = 0;;) {
    Found found;
    found.version = version_.load(std::memory_order_acquire);
    if (found.version % 2 != 0) {
      back_off(attempt++, [this] { return version_.load(std::memory_order_relaxed) % 2 != 0; });
      continue;
    }
    SlotId slot = head(bucket_of(block));
    for (std::uint64_t steps = 1; slot != kNoSlot; ++steps) {
      const SlotKey key = slots_.key(slot);
      if (key.block == block && key.linked) {
        found.slot = slot;
        found.key = key;
        found.value = slots_.value(slot);
        break;
      }
      slot = slots_.next(slot);
      if (steps % kStepsUnchecked != 0) continue;
      if (!still_valid(found)) break;
      PCACHE_CHECK(steps <= slots_.capacity(), "a chain of the index has more slots than there are");
    }
    if (still_valid(found)) return found;
  }
}

bool StreamIndex::still_valid(const Found& found) const {
  std::atomic_thread_fence(std::memory_order_acquire);
  return version_.load(std::memory_order_relaxed) == found.version;
}

SlotId StreamIndex::insert(SlotId slot, std::uint64_t block, SlotType type, bool dirty, std::uint32_t value) {
  const Change change(*this);
  const std::uint32_t bucket = bucket_of(block);
  SlotId before = kNoSlot;
  SlotId old = head(bucket);
  while (old != kNoSlot && slots_.key(old).block != block) {
    before = old;
    old = slots_.next(old);
  }
  if (old != kNoSlot) unlink(bucket, old, before);
  slots_.set_key(slot, {block, type, true, dirty});
  slots_.set_value(slot, value);
  slots_.set_next(slot, head(bucket));
  set_head(bucket, slot);
  ++count_;
  while (buckets_.load(std::memory_order_relaxed) < std::min<std::uint64_t>(count_ * kBucketsPerSlot, heads_.used()))
    grow();
  return old;
}

bool StreamIndex::erase(SlotId slot) {
  const SlotKey key = slots_.key(slot);
  if (!key.linked) return false;
  const Change change(*this);
  const std::uint32_t bucket = bucket_of(key.block);
  SlotId before = kNoSlot;
  for (SlotId at = head(bucket); at != slot; at = slots_.next(at)) before = at;
  unlink(bucket, slot, before);
  return true;
}

void StreamIndex::update(SlotId slot, const SlotKey& key) {
  const Change change(*this);
  slots_.set_key(slot, key);
}

void StreamIndex::unlink(std::uint32_t bucket, SlotId slot, SlotId before) {
  SlotKey key = slots_.key(slot);
  key.linked = false;
  slots_.set_key(slot, key);
  if (before == kNoSlot) {
    set_head(bucket, slots_.next(slot));
  } else {
    slots_.set_next(before, slots_.next(slot));
  }
  --count_;
}

void StreamIndex::grow() {
  const std::uint32_t buckets = buckets_.load(std::memory_order_relaxed);
  // The new bucket's number without its highest bit is the bucket that its blocks were folded onto.
  const std::uint32_t parent = buckets & (std::bit_floor(buckets) - 1);
  SlotId stay = kNoSlot;
  SlotId move = kNoSlot;
  for (SlotId slot = head(parent); slot != kNoSlot;) {
    const SlotId next = slots_.next(slot);
    SlotId& list = bucket_of(slots_.key(slot).block, buckets + 1) == parent ? stay : move;
    slots_.set_next(slot, list);
    list = slot;
    slot = next;
  }
  set_head(parent, stay);
  set_head(buckets, move);
  buckets_.store(buckets + 1, std::memory_order_relaxed);
}

}  // namespace pcache
