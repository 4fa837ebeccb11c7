// Units of size, and rounding to them.
#pragma once

#include <cstdint>

namespace pcache {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

inline constexpr std::uint64_t kSectorSize = 512;  // the smallest unit of a backing device
inline constexpr std::uint64_t kBlockSize = 4096;  // the unit of caching

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t unit) { return value - value % unit; }
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) { return align_down(value + unit - 1, unit); }
constexpr std::uint64_t div_ceil(std::uint64_t value, std::uint64_t unit) { return value / unit + (value % unit != 0); }
constexpr bool is_aligned(std::uint64_t value, std::uint64_t unit) { return value % unit == 0; }

}  // namespace pcache
