// The statistics of a logical device for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace pcache {

// Counters and latencies of `stats` (what `stats --json` prints); with `histograms`, how many took how long.
std::string stats_text(const nlohmann::json& stats, bool histograms);

}  // namespace pcache
