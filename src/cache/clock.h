// Time for ages and delays.
#pragma once

#include <chrono>
#include <cstdint>

namespace pcache {

// Milliseconds of a clock that never goes back. Never 0.
inline std::uint64_t now_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) + 1;
}

}  // namespace pcache
