// The status report for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace pcache {

// A few lines for each cache device and logical device of `status` (what `status --json` prints). With -H a line for
// each field: which device, the field, its value.
std::string status_text(const nlohmann::json& status, const OutputStyle& style = {});

}  // namespace pcache
