#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace pcache {

std::uint32_t crc32c(const void* data, std::size_t length, std::uint32_t seed) {
  // ISA-L works on the complement of the usual value, takes a non-const pointer it does not write through, and an int
  // length, which no caller exceeds: the longest item is one metadata page.
  auto* bytes = const_cast<unsigned char*>(static_cast<const unsigned char*>(data));
  return ~crc32_iscsi(bytes, static_cast<int>(length), ~seed);
}

}  // namespace pcache
