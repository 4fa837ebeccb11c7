// Settings of a test run, from the environment.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace pcache {

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

}  // namespace pcache
