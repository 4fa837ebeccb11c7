#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

#include "base/units.h"

namespace pcache {

std::uint32_t crc32c(const void* data, std::size_t length, std::uint32_t seed) {
  // ISA-L works on the complement of the usual value, takes a non-const pointer that it does not write through, and an
  // int for the length.
  auto* bytes = const_cast<unsigned char*>(static_cast<const unsigned char*>(data));
  std::uint32_t crc = ~seed;
  while (length != 0) {
    const std::size_t piece = std::min<std::size_t>(length, kGiB);
    crc = crc32_iscsi(bytes, static_cast<int>(piece), crc);
    bytes += piece;
    length -= piece;
  }
  return ~crc;
}

}  // namespace pcache
