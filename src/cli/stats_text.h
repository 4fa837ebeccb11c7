// The statistics of a logical device for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace pcache {

// "850 ns", "1.25 us", "13.0 ms", "2.10 s".
std::string duration_text(std::uint64_t nanoseconds);

// Counters and latencies of `stats` (what `stats --json` prints); with `histograms`, how many took how long.
// With -H a line for each, of the name and the value; latencies in nanoseconds. Where they are of every logical device,
// the line begins with its name.
std::string stats_text(const nlohmann::json& stats, bool histograms, const OutputStyle& style);

}  // namespace pcache
