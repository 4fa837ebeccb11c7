// What is wrong with a cache device that nobody uses, told without changing it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "cache/cache.h"
#include "segment/dual_slot.h"

namespace pcache {

// A metadata item of which a copy is not what it should be. What a crash explains is not told.
struct ItemDamage {
  enum class Item { superblock, device_record, device_state, segment_entry };
  Item item = Item::superblock;
  std::uint32_t number = 0;  // place of the device, or segment
  DualSlot slot;
  std::array<bool, 2> damaged{};
  bool lost = false;            // no copy can be used, or what it says makes no sense
  bool never_used = false;      // lost, but a segment's that never held anything
  std::uint32_t device_id = 0;  // that it is of; 0: none, or not known
};
void survey_items(const CacheDev& cache_dev, const std::function<void(const ItemDamage&)>& report);

// A run of neighbouring blocks that cannot be read from the cache device, or that a damaged segment entry hides.
struct BlockDamage {
  enum class Kind {
    clean_cell,  // the backing has it
    dirty_cell,  // nothing else has it
    lost,        // was dirty and unreadable before; recorded as such
  };
  Kind kind = Kind::clean_cell;
  std::uint64_t first_block = 0;
  std::uint64_t count = 0;
  std::uint64_t cache_offset = 0;  // of the first one's cell
};
// Reads and verifies every cell that `device` would read from.
void survey_cells(Cache& cache, CachedDevice& device, const std::function<void(const BlockDamage&)>& report);

// A run of blocks that the newest records in a segment are of, whose entry is damaged in both copies.
struct HiddenBlocks {
  std::uint32_t device_id = 0;
  std::uint64_t epoch = 0;  // the newest
  std::uint64_t first_block = 0;
  std::uint64_t count = 0;
};
void survey_hidden(const CacheDev& cache_dev, SegmentId segment,
                   const std::function<void(const HiddenBlocks&)>& report);

}  // namespace pcache
