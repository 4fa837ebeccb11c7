// A part of a logical device, in bytes.
#pragma once

#include <cstdint>

namespace pcache {

struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool operator==(const ByteRange&) const = default;
};

}  // namespace pcache
