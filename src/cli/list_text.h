// What there is, as a tree: each cache device with its logical devices.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace pcache {

// Of `status`, a line for each device.
std::string list_text(const nlohmann::json& status, const OutputStyle& style);

// The same for programs: cache devices, each with its `logic_devs`.
nlohmann::json list_json(const nlohmann::json& status);

}  // namespace pcache
