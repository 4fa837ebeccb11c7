// The index of one stream: which slot holds a block now.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "base/huge_array.h"
#include "index/slot_table.h"

namespace pcache {

// A linear hash (W. Litwin, 1980) of chains through the slot table: it grows one bucket at a time, so that an insertion
// never rehashes more than one chain, cannot fail and allocates nothing.
//
// Changes need the stream's lock. Lookups need it too, or are made as find_unlocked() says.
class StreamIndex {
 public:
  explicit StreamIndex(SlotTable& slots);

  // The table is going to have so many slots. Under the stream's lock.
  void reserve(std::size_t slots);

  // The slot of `block`, or kNoSlot. Under the stream's lock.
  SlotId find(std::uint64_t block) const;

  // What a lookup without the lock found. Meaningful only once still_valid() was asked after pinning the segment.
  struct Found {
    SlotId slot = kNoSlot;
    SlotKey key;
    std::uint32_t value = 0;
    std::uint64_t version = 0;
  };
  // Looks `block` up while others may change the index. The caller then pins the slot's segment, calls still_valid(),
  // and starts over when that is false.
  Found find_unlocked(std::uint64_t block) const;
  bool still_valid(const Found& found) const;

  // Fills in `slot`, makes it the slot of `block`, and returns the slot that was before (its `linked` taken away), or
  // kNoSlot. Takes plain words: a struct of small fields read back as a whole would wait for the store buffer, and with
  // it for the media.
  SlotId insert(SlotId slot, std::uint64_t block, SlotType type, bool dirty, std::uint32_t value);

  // Takes `slot` out of the index if it is in it, and tells whether it was.
  bool erase(SlotId slot);

  // Changes a linked slot's key in place (its block must stay).
  void update(SlotId slot, const SlotKey& key);

  std::uint64_t count() const { return count_; }

  // The bucket of `block` where there are `buckets` of them (at least 1). Runs of 256 blocks are spread by multiplying
  // and folding twice (the first constant is Fibonacci hashing's, Knuth, TAOCP 6.4; the second an odd number without
  // pattern); inside a run neighbours stay neighbours, each run permuted in its own way, so that blocks at one stride
  // do not meet. Buckets that are not there yet fold onto the one that they will be split from.
  static std::uint32_t bucket_of(std::uint64_t block, std::uint32_t buckets) {
    constexpr std::uint64_t kRun = 256;
    std::uint64_t mixed = block / kRun * 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93;
    const auto hash = static_cast<std::uint32_t>(mixed >> 32) ^ static_cast<std::uint32_t>(block % kRun);
    const auto mask = static_cast<std::uint32_t>(std::bit_ceil(std::uint64_t{buckets}) - 1);
    const std::uint32_t bucket = hash & mask;
    return bucket < buckets ? bucket : bucket & (mask >> 1);
  }

  // Memory of one stream's buckets in use, in bytes.
  std::uint64_t bucket_bytes() const { return std::uint64_t{buckets_.load(std::memory_order_relaxed)} * 4; }

  // Starts loading what an operation on `block` is going to need: first its bucket; then, when that is there, the slot
  // that the bucket begins with.
  void prefetch_bucket(std::uint64_t block) const { __builtin_prefetch(&heads_[bucket_of(block)]); }
  void prefetch_slot(std::uint64_t block) const {
    if (const SlotId slot = first_slot(block); slot != kNoSlot) slots_.prefetch(slot);
  }
  // The slot that a search for `block` looks at first, most often the block's own; kNoSlot if there is none. Needs no
  // lock.
  SlotId first_slot(std::uint64_t block) const { return head(bucket_of(block)); }

 private:
  // Readers that overlap a change start over: odd while one is made.
  class Change {
   public:
    explicit Change(StreamIndex& index) : version_(index.version_) {
      version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_release);
    }
    ~Change() { version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    std::atomic<std::uint64_t>& version_;
  };

  std::uint32_t bucket_of(std::uint64_t block) const {
    return bucket_of(block, buckets_.load(std::memory_order_relaxed));
  }
  SlotId head(std::uint32_t bucket) const { return heads_[bucket].load(std::memory_order_relaxed) - 1; }
  void set_head(std::uint32_t bucket, SlotId slot) { heads_[bucket].store(slot + 1, std::memory_order_relaxed); }
  void unlink(std::uint32_t bucket, SlotId slot, SlotId before);
  void grow();

  SlotTable& slots_;
  HugeArray<std::atomic<std::uint32_t>> heads_;  // slot + 1
  std::atomic<std::uint32_t> buckets_;
  std::atomic<std::uint64_t> version_{0};
  std::uint64_t count_ = 0;
};

}  // namespace pcache
