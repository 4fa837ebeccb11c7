// How a mount is, in one word, for monitoring.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "pcache/stats.h"

namespace pcache {

enum class HealthLevel : std::uint8_t {
  ok,
  warning,   // something needs a look: a backing that fails, writes that wait, damage
  critical,  // something is not served, or is lost
};
const char* to_string(HealthLevel level);

struct Health {
  HealthLevel level = HealthLevel::ok;
  std::vector<std::string> reasons;  // one line each
};

// `ending`: the mount is being taken down.
Health health_of(const StatusReport& report, bool ending = false);

// The same with what has happened lately, of which a report has only how often it ever did. Thread-safe.
class HealthWatch {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kLately{10};

  // Sees what is different from the look before.
  void look(const StatusReport& report, Clock::time_point now = Clock::now());
  Health health(const StatusReport& report, bool ending = false, Clock::time_point now = Clock::now()) const;

 private:
  struct Reads {
    std::uint64_t errors = 0;
    std::optional<Clock::time_point> failed;  // the last time
  };
  mutable std::mutex mutex_;
  std::map<std::string, Reads> reads_;  // by logical device
};

}  // namespace pcache
