// The status report for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace pcache {

// A few lines for each cache device and logical device of `status` (what `status --json` prints).
std::string status_text(const nlohmann::json& status);

}  // namespace pcache
