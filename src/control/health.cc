#include "control/health.h"

#include <algorithm>

#include "base/size_text.h"

namespace pcache {

const char* to_string(HealthLevel level) {
  return level == HealthLevel::ok ? "ok" : level == HealthLevel::warning ? "warning" : "critical";
}

Health health_of(const StatusReport& report, bool ending) {
  Health health;
  const auto add = [&health](HealthLevel level, std::string reason) {
    health.level = std::max(health.level, level);
    health.reasons.push_back(std::move(reason));
  };
  if (ending) add(HealthLevel::warning, "it is being taken down; what is under way ends first");
  for (const CacheDevStats& cache : report.cache_devs) {
    const std::string name = "cache device " + cache.label + ": ";
    if (cache.state == "failed" || cache.state == "missing") {
      add(HealthLevel::critical, name + "it is " + cache.state + ": " + cache.detail);
    }
    if (cache.damaged_records != 0) {
      add(HealthLevel::warning, name + std::to_string(cache.damaged_records) + " records of its log are damaged");
    }
    if (cache.unrepaired_copies != 0) {
      add(HealthLevel::warning,
          name + std::to_string(cache.unrepaired_copies) + " copies of its metadata cannot be written again");
    }
  }
  for (const LogicDevStats& device : report.logic_devs) {
    const std::string name = "logical device " + device.name + ": ";
    if (device.state == "failed" || device.state == "no_backing" || device.state == "missing") {
      add(HealthLevel::critical, name + "it is " + device.state + ": " + device.detail);
    } else if (device.backing_fails) {
      add(HealthLevel::warning, name + device.detail);
    }
    if (device.lost_bytes != 0) {
      add(HealthLevel::critical, name + format_size(device.lost_bytes) + " of dirty data cannot be read");
    }
  }
  return health;
}

}  // namespace pcache
