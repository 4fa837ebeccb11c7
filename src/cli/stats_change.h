// What changed between two replies of `stats`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/stats.h"

namespace pcache {

// How much a number grew; 0 where it begins anew.
std::uint64_t growth(const nlohmann::json& before, const nlohmann::json& now, const char* key);

// What was measured of the latency `name` in between: buckets, how many, and the last bucket's bound as the longest.
LatencyStats latency_between(const nlohmann::json& before, const nlohmann::json& now, const std::string& name);

}  // namespace pcache
