// Units of size, and rounding to them.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace pcache {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

inline constexpr std::uint64_t kSectorSize = 512;  // the smallest unit of a backing device
inline constexpr std::uint64_t kBlockSize = 4096;  // the unit of caching

// For unsigned values; a unit may be a literal. Any unit but 0 will do, not only powers of two. The result has the
// wider type of the two, so that a 64-bit unit never cuts a value off.
template <typename T, typename U>
concept SizeAndUnit = std::unsigned_integral<T> && std::integral<U>;

template <typename T, typename U>
requires SizeAndUnit<T, U>
using WiderSize = std::make_unsigned_t<std::common_type_t<T, U>>;

template <typename T, typename U>
requires SizeAndUnit<T, U>
constexpr WiderSize<T, U> align_down(T value, U unit) {
  return static_cast<WiderSize<T, U>>(value) - static_cast<WiderSize<T, U>>(value) % static_cast<WiderSize<T, U>>(unit);
}

// The caller sees to it that the result fits into its type.
template <typename T, typename U>
requires SizeAndUnit<T, U>
constexpr WiderSize<T, U> align_up(T value, U unit) {
  const auto wide_unit = static_cast<WiderSize<T, U>>(unit);
  return align_down(static_cast<WiderSize<T, U>>(value + (wide_unit - 1)), wide_unit);
}

template <typename T, typename U>
requires SizeAndUnit<T, U>
constexpr WiderSize<T, U> div_ceil(T value, U unit) {
  const auto wide_unit = static_cast<WiderSize<T, U>>(unit);
  return static_cast<WiderSize<T, U>>(value / wide_unit + (value % wide_unit != 0));
}

template <typename T, typename U>
requires SizeAndUnit<T, U>
constexpr bool is_aligned(T value, U unit) {
  return static_cast<WiderSize<T, U>>(value) % static_cast<WiderSize<T, U>>(unit) == 0;
}

}  // namespace pcache
