// Status and statistics as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "control/health.h"
#include "pcache/stats.h"

namespace pcache {

// What `pcachefs status --json` prints; fields as in pcache/stats.h, sizes as numbers of bytes. `ending`: the mount is
// being taken down.
nlohmann::json status_to_json(const StatusReport& report, const std::string& mount_point, const Health& health,
                              bool ending = false);
// What `state` says of that: "serving", "closing".
const char* state_word(bool ending);

// What `pcachefs stats --json` prints; latencies in nanoseconds.
nlohmann::json activity_to_json(const LogicDevActivity& activity);

}  // namespace pcache
