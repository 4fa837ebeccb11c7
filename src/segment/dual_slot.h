// Reading and updating a metadata item that exists in two copies.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "media/meta_header.h"
#include "pcache/pmem_space.h"

namespace pcache {

// Where the two copies of an item are, as byte offsets.
struct DualSlot {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
};

// Whether the copy at `offset` is all zeroes, as format leaves what was never used.
template <typename T>
bool is_blank(const PmemSpace& space, std::uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes;
  return space.read(offset, bytes.data(), bytes.size()) &&
         std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// The newest valid copy, or nothing when neither is valid.
template <typename T>
std::optional<T> load_dual(const PmemSpace& space, DualSlot slot, std::uint32_t cache_tag) {
  std::optional<T> best;
  for (const std::uint64_t offset : {slot.first, slot.second}) {
    MetaHeader header;  // alone at first: most places of a table were never used
    if (!space.read(offset, &header, sizeof header) || header.magic != T::kMagic) continue;
    T copy;
    if (!space.read(offset, &copy, sizeof copy) || !is_valid(copy, cache_tag)) continue;
    if (!best || copy.header.sequence > best->header.sequence) best = copy;
  }
  return best;
}

// Persist order: the copy that is older or not valid, fence, the other copy, fence. A crash at any point leaves the old
// item or the new one, also where an earlier crash, or damage, left only one good copy: that one is written last.
// `item` gets the next sequence number and its checksum. Not synchronised per item.
template <typename T>
Status store_dual(PmemSpace& space, DualSlot slot, std::uint32_t cache_tag, T& item) {
  const auto stored_sequence = [&](std::uint64_t offset) -> std::uint64_t {
    T copy;
    return space.read(offset, &copy, sizeof copy) && is_valid(copy, cache_tag) ? copy.header.sequence : 0;
  };
  if (stored_sequence(slot.first) > stored_sequence(slot.second)) std::swap(slot.first, slot.second);
  ++item.header.sequence;
  seal(item, cache_tag);
  for (const std::uint64_t offset : {slot.first, slot.second}) {
    if (!space.write(offset, &item, sizeof item)) {
      return Status(Errc::failed, space.path() + ": the cache device failed while metadata was written");
    }
    if (Status status = space.persist(offset, sizeof item); !status.ok()) return status;
  }
  return Status();
}

}  // namespace pcache
