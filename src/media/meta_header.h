// The head of every metadata item that exists in two copies, and how an item is sealed and recognised.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/crc32c.h"
#include "media/layout.h"

namespace pcache {

// Little-endian, like everything on the medium.
struct MetaHeader {
  std::uint32_t crc;        // CRC-32C of the item from `magic` to its end
  std::uint32_t magic;      // which kind of item
  std::uint32_t cache_tag;  // which formatting of the cache device wrote it
  std::uint32_t place;      // which item of its kind: one that ended up elsewhere is recognised
  std::uint64_t sequence;   // grows with each update; the valid copy with the higher one counts
};
static_assert(sizeof(MetaHeader) == 24);

// T: a trivially copyable struct whose first member is `MetaHeader header` and which has T::kMagic.
template <typename T>
std::uint32_t meta_crc(const T& item) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&item);
  return crc32c(bytes + sizeof(std::uint32_t), sizeof(T) - sizeof(std::uint32_t));
}

// Fills in magic, tag, place and checksum. The sequence number is the caller's.
template <typename T>
void seal(T& item, std::uint32_t cache_tag, std::uint32_t place) {
  item.header.magic = T::kMagic;
  item.header.cache_tag = cache_tag;
  item.header.place = place;
  item.header.crc = meta_crc(item);
}

template <typename T>
bool is_valid(const T& item, std::uint32_t cache_tag, std::uint32_t place) {
  return item.header.magic == T::kMagic && item.header.cache_tag == cache_tag && item.header.place == place &&
         item.header.sequence < kCounterLimit && item.header.crc == meta_crc(item);
}

}  // namespace pcache
