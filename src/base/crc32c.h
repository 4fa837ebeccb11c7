// CRC-32C (Castagnoli), the checksum of everything on a cache device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pcache {

// The CRC-32C of `length` bytes: crc32c("123456789", 9) is 0xe3069283. To go on after an earlier piece, give its result
// as `seed`. Thread-safe.
std::uint32_t crc32c(const void* data, std::size_t length, std::uint32_t seed = 0);

}  // namespace pcache
