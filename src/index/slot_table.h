// What memory knows of each slot of the cache device: 16 bytes a slot, the log seen without reading the medium.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/huge_array.h"

namespace pcache {

using SlotId = std::uint32_t;  // segment x slots per segment + slot
inline constexpr SlotId kNoSlot = 0xffffffff;

enum class SlotType : std::uint8_t { none = 0, write = 1, clean = 2, zero = 3, lost = 4, filler = 5, gone = 6 };

// A slot's block and state in one word, so that a reader sees them together.
struct SlotKey {
  std::uint64_t block = 0;  // 48 bits
  SlotType type = SlotType::none;
  bool linked = false;  // the index points here: this is what the block reads as
  bool dirty = false;   // not yet on the backing

  std::uint64_t pack() const {
    return block | std::uint64_t{static_cast<std::uint8_t>(type)} << 48 | std::uint64_t{linked} << 56 |
           std::uint64_t{dirty} << 57;
  }
  static SlotKey unpack(std::uint64_t word) {
    return {word & 0xffffffffffff, static_cast<SlotType>(word >> 48 & 0xff), (word >> 56 & 1) != 0,
            (word >> 57 & 1) != 0};
  }
};

// Slots are written under the lock of the stream that owns their segment and may be read by anybody at any time: each
// field is an atomic of its own, and what belongs together is put together by the stream's sequence counter.
class SlotTable {
  struct Node {
    std::atomic<std::uint64_t> key;
    std::atomic<std::uint32_t> next;  // slot + 1, so that fresh zeroed memory means "none"
    std::atomic<std::uint32_t> value;
  };
  static_assert(sizeof(Node) == 16);

 public:
  // `capacity`: how many there may be one day; 0: as many as there are now.
  explicit SlotTable(std::size_t slots, std::size_t capacity = 0)
      : nodes_(std::max(slots, capacity), slots), frequencies_(std::max(slots, capacity), slots), size_(slots) {}

  std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  std::size_t capacity() const { return nodes_.size(); }
  // For a cache device that became larger or smaller; of what is taken away nothing is in use.
  void set_size(std::size_t slots) {
    nodes_.use(slots);
    frequencies_.use(slots);
    size_.store(slots, std::memory_order_relaxed);
  }
  static constexpr std::size_t bytes_per_slot() { return sizeof(Node) + 1; }

  SlotKey key(SlotId slot) const { return SlotKey::unpack(nodes_[slot].key.load(std::memory_order_relaxed)); }
  void set_key(SlotId slot, const SlotKey& key) { nodes_[slot].key.store(key.pack(), std::memory_order_relaxed); }

  // CRC-32C of the cell; for a zero record the number of blocks.
  std::uint32_t value(SlotId slot) const { return nodes_[slot].value.load(std::memory_order_relaxed); }
  void set_value(SlotId slot, std::uint32_t value) { nodes_[slot].value.store(value, std::memory_order_relaxed); }

  // The next slot in the same chain of the index, kNoSlot at its end.
  SlotId next(SlotId slot) const { return nodes_[slot].next.load(std::memory_order_relaxed) - 1; }
  void set_next(SlotId slot, SlotId next) { nodes_[slot].next.store(next + 1, std::memory_order_relaxed); }

  // How often the slot was read since it was filled, as far as that is worth knowing. Reads at the same time may count
  // as one.
  static constexpr std::uint8_t kMostFrequent = 3;
  std::uint8_t frequency(SlotId slot) const { return frequencies_[slot].load(std::memory_order_relaxed); }
  void set_frequency(SlotId slot, std::uint8_t frequency) {
    if (this->frequency(slot) != frequency) frequencies_[slot].store(frequency, std::memory_order_relaxed);
  }
  void count_read(SlotId slot) {
    const std::uint8_t before = frequency(slot);
    if (before < kMostFrequent) frequencies_[slot].store(before + 1, std::memory_order_relaxed);
  }

  // The slot holds nothing any more.
  void clear(SlotId slot) {
    set_key(slot, SlotKey());
    set_frequency(slot, 0);
  }

  // Starts loading the slot's node into the CPU's cache.
  void prefetch(SlotId slot) const { __builtin_prefetch(&nodes_[slot]); }
  void prefetch_frequency(SlotId slot) const { __builtin_prefetch(&frequencies_[slot]); }

 private:
  HugeArray<Node> nodes_;
  HugeArray<std::atomic<std::uint8_t>> frequencies_;
  std::atomic<std::size_t> size_;
};

}  // namespace pcache
