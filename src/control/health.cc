#include "control/health.h"

#include <algorithm>

#include "base/size_text.h"

namespace pcache {

namespace {

// Longer than a write waits for its turn while the cache gives way smoothly.
constexpr std::uint64_t kLongWaitMs = 2000;
// Longer than disks take that try again by themselves.
constexpr std::uint64_t kLongSilenceMs = 30'000;

std::string seconds(std::uint64_t ms) { return std::to_string(ms / 1000) + " s"; }

}  // namespace

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
    const bool waits = device.waiting_writes != 0 && device.longest_wait_ms >= kLongWaitMs;
    if (device.backing_silent_ms >= kLongSilenceMs) {
      add(waits ? HealthLevel::critical : HealthLevel::warning,
          name + "backing device " + device.backing + " has answered nothing for " + seconds(device.backing_silent_ms));
    }
    if (waits) {
      add(HealthLevel::warning, name + std::to_string(device.waiting_writes) +
                                    " writes wait for space, the first for " + seconds(device.longest_wait_ms));
    }
    if (device.lost_bytes != 0) {
      add(HealthLevel::critical, name + format_size(device.lost_bytes) + " of dirty data cannot be read");
    }
  }
  return health;
}

void HealthWatch::look(const StatusReport& report, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  for (const LogicDevStats& device : report.logic_devs) {
    Reads& reads = reads_[device.name];
    if (device.backing_read_errors > reads.errors) reads.failed = now;
    reads.errors = device.backing_read_errors;
  }
  std::erase_if(reads_, [&report](const auto& known) {
    return std::none_of(report.logic_devs.begin(), report.logic_devs.end(),
                        [&known](const LogicDevStats& device) { return device.name == known.first; });
  });
}

Health HealthWatch::health(const StatusReport& report, bool ending, Clock::time_point now) const {
  Health health = health_of(report, ending);
  const std::lock_guard lock(mutex_);
  for (const auto& [name, reads] : reads_) {
    if (!reads.failed || now - *reads.failed > kLately) continue;
    const bool shown = std::any_of(report.logic_devs.begin(), report.logic_devs.end(),
                                   [&name = name](const LogicDevStats& device) { return device.name == name; });
    if (!shown) continue;
    health.level = std::max(health.level, HealthLevel::warning);
    health.reasons.push_back("logical device " + name + ": its backing device fails reads, " +
                             std::to_string(reads.errors) + " since it was brought up");
  }
  return health;
}

}  // namespace pcache
