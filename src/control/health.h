// How a mount is, in one word, for monitoring.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pcache/stats.h"

namespace pcache {

enum class HealthLevel : std::uint8_t {
  ok,
  warning,   // something needs a look: a backing that fails, damage, a device that was left out on purpose
  critical,  // something is not served, or is lost
};
const char* to_string(HealthLevel level);

struct Health {
  HealthLevel level = HealthLevel::ok;
  std::vector<std::string> reasons;  // one line each
};

// `ending`: the mount is being taken down.
Health health_of(const StatusReport& report, bool ending = false);

}  // namespace pcache
