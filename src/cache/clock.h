// Time for ages and delays.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace pcache {

// Tells the time in milliseconds: never goes back, is never 0. Any thread may ask.
using Clock = std::function<std::uint64_t()>;

inline std::uint64_t steady_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) + 1;
}

}  // namespace pcache
