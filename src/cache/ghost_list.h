// Which blocks were dropped from the cache, or not let in, a short while ago.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/huge_array.h"

namespace pcache {

// Remembers about as many blocks as it was made for, the oldest forgotten first; 2 bytes each. Blocks are known by a
// hash: one in some thousands that was never here is taken for one that was, which costs it nothing but a better place.
//
// Thread-safe without a lock: what threads add to one bucket at the same time may get lost.
class GhostList {
 public:
  explicit GhostList(std::size_t blocks);

  void add(std::uint32_t device_id, std::uint64_t block);
  // Whether the block is remembered. If it is, it is forgotten.
  bool take(std::uint32_t device_id, std::uint64_t block);

  // Memory in use: none before the first block is added.
  std::size_t bytes() const {
    return used_.load(std::memory_order_relaxed) ? words_.size() * sizeof(std::uint64_t) : 0;
  }

 private:
  // A row of fingerprints, the youngest first; 0 is none. Blocks spread over the rows evenly enough for all of them to
  // forget at about the same age.
  static constexpr std::size_t kRow = 16;
  static constexpr std::size_t kWords = kRow * sizeof(std::uint16_t) / sizeof(std::uint64_t);
  struct Row;
  struct Place {
    std::size_t first_word;
    std::uint16_t fingerprint;
  };
  Place place_of(std::uint32_t device_id, std::uint64_t block) const;
  Row load(const Place& place) const;
  void store(const Place& place, const Row& row);

  HugeArray<std::atomic<std::uint64_t>> words_;
  std::atomic<bool> used_{false};
};

}  // namespace pcache
