// How much a daemon logs, in words.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "pcache/status.h"

namespace pcache {

// From most to least.
inline constexpr std::array<const char*, 4> kLogLevels{"debug", "info", "warning", "error"};

// Errors: invalid, with the levels that there are.
inline Status check_log_level(const std::string& level) {
  if (std::find(kLogLevels.begin(), kLogLevels.end(), level) != kLogLevels.end()) return Status();
  std::string names;
  for (const char* const name : kLogLevels) names += (names.empty() ? "" : ", ") + std::string(name);
  return Status(Errc::invalid, "there is no log level '" + level + "'; there are " + names);
}

}  // namespace pcache
