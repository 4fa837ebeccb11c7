// Reading and updating a metadata item that exists in two copies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "media/meta_header.h"
#include "pcache/pmem_space.h"

namespace pcache {

// Where the two copies of an item are, as byte offsets, and which item of its kind it is.
struct DualSlot {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::uint32_t place = 0;
};

// Whether the copy at `offset` is all zeroes, as format leaves what was never used.
template <typename T>
bool is_blank(const PmemSpace& space, std::uint64_t offset) {
  static constexpr std::array<std::byte, sizeof(T)> kBlank{};
  std::array<std::byte, sizeof(T)> bytes;
  return space.read(offset, bytes.data(), bytes.size()) && std::memcmp(bytes.data(), kBlank.data(), sizeof(T)) == 0;
}

// What one of the two copies is worth.
enum class CopyState : std::uint8_t {
  good,     // valid, and none is newer
  older,    // valid, but a crash came between it and the newer one; or never written, for the same reason
  blank,    // all zeroes, and the other one is not valid either
  damaged,  // anything else
};

// The newest valid copy, or nothing when neither is valid; and what both are worth, first and second.
template <typename T>
struct DualCopies {
  std::optional<T> item;
  std::array<CopyState, 2> states{CopyState::damaged, CopyState::damaged};

  // Whether nothing was ever stored here: a crash within the very first update may have torn the first copy, while the
  // second is blank still.
  bool never_stored() const { return !item && states[1] == CopyState::blank; }
};

template <typename T>
DualCopies<T> load_copies(const PmemSpace& space, DualSlot slot, std::uint32_t cache_tag) {
  DualCopies<T> copies;
  const std::array<std::uint64_t, 2> offsets{slot.first, slot.second};
  std::array<std::uint64_t, 2> sequences{};
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    T copy;
    if (!space.read(offsets[i], &copy, sizeof copy)) continue;
    if (copy.header.magic != T::kMagic) {  // most places of a table were never used
      if (is_blank<T>(space, offsets[i])) copies.states[i] = CopyState::blank;
    } else if (is_valid(copy, cache_tag, slot.place)) {
      copies.states[i] = CopyState::good;
      sequences[i] = copy.header.sequence;
      if (!copies.item || copy.header.sequence > copies.item->header.sequence) copies.item = copy;
    }
  }
  if (!copies.item) return copies;
  const std::uint64_t newest = copies.item->header.sequence;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (copies.states[i] == CopyState::good && sequences[i] < newest) copies.states[i] = CopyState::older;
    // The first update stores both copies, so that none is blank after it.
    if (copies.states[i] == CopyState::blank) copies.states[i] = newest == 1 ? CopyState::older : CopyState::damaged;
  }
  return copies;
}

// The newest valid copy, or nothing when neither is valid.
template <typename T>
std::optional<T> load_dual(const PmemSpace& space, DualSlot slot, std::uint32_t cache_tag) {
  return load_copies<T>(space, slot, cache_tag).item;
}

// Persist order: the copy that is older or not valid, fence, the other copy, fence. A crash at any point leaves the old
// item or the new one, also where an earlier crash, or damage, left only one good copy: that one is written last.
// `item` gets the next sequence number and its checksum. Not synchronised per item.
template <typename T>
Status store_dual(PmemSpace& space, DualSlot slot, std::uint32_t cache_tag, T& item) {
  const auto stored_sequence = [&](std::uint64_t offset) -> std::uint64_t {
    T copy;
    return space.read(offset, &copy, sizeof copy) && is_valid(copy, cache_tag, slot.place) ? copy.header.sequence : 0;
  };
  if (stored_sequence(slot.first) > stored_sequence(slot.second)) std::swap(slot.first, slot.second);
  ++item.header.sequence;
  seal(item, cache_tag, slot.place);
  for (const std::uint64_t offset : {slot.first, slot.second}) {
    if (!space.write(offset, &item, sizeof item)) {
      return Status(Errc::failed, space.path() + ": the cache device failed while metadata was written");
    }
    if (Status status = space.persist(offset, sizeof item); !status.ok()) return status;
  }
  return Status();
}

// What came of storing copies again.
struct Repairs {
  std::uint32_t repaired = 0;  // copies that were damaged, or torn by a crash, and are right again
  std::uint32_t failed = 0;    // copies that could not be written: one copy is left

  Repairs& operator+=(const Repairs& other) {
    repaired += other.repaired;
    failed += other.failed;
    return *this;
  }
};

// Stores what `copies` has in the place of the copy that is damaged or older, and blanks what a crash left of an item's
// very first update: where the next one is torn too, it would complete it. Persist order: only a copy that does not
// count is written, so that a crash at any point leaves the item as it is. Where that fails the item has one copy, and
// nothing else changes.
template <typename T>
Repairs repair_dual(PmemSpace& space, DualSlot slot, const DualCopies<T>& copies) {
  Repairs repairs;
  const std::array<std::uint64_t, 2> offsets{slot.first, slot.second};
  if (copies.never_stored() && copies.states[0] != CopyState::blank) {
    const T blank{};
    const bool stored = space.write(offsets[0], &blank, sizeof blank) && space.persist(offsets[0], sizeof blank).ok();
    ++(stored ? repairs.repaired : repairs.failed);
  }
  if (!copies.item) return repairs;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (copies.states[i] == CopyState::good) continue;
    if (!space.write(offsets[i], &*copies.item, sizeof(T)) || !space.persist(offsets[i], sizeof(T)).ok()) {
      ++repairs.failed;
    } else if (copies.states[i] == CopyState::damaged) {
      ++repairs.repaired;
    }
  }
  return repairs;
}

}  // namespace pcache
