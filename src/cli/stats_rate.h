// What a logical device does, a line for each interval.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace pcache {

// What happened between two replies of `stats`: operations and bytes a second, hits in percent of the blocks that were
// read, latencies of what was measured in between. Where the counters began anew meanwhile, since then.
nlohmann::json stats_rate(const nlohmann::json& before, const nlohmann::json& after);

// One line of it, and its heading, which is empty with -H.
std::string rate_heading(const OutputStyle& style);
std::string rate_text(const nlohmann::json& rate, const OutputStyle& style);

struct RateArgs {
  std::string name;
  double seconds = 1;
  std::uint64_t count = 0;  // 0: until it is interrupted
};
// Prints a line every interval, with `as_json` an object. Returns the exit code.
int run_rates(const std::string& mount, const RateArgs& args, const OutputStyle& style, bool as_json);

}  // namespace pcache
