// What a running mount can be asked to do.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/command.h"

namespace pcache {

const std::vector<Command>& all_commands();

// The command called `name`, or null.
const Command* find_command(const std::string& name);

// Checks what the command is given, and gives it. The reply names its schema. Errors also: busy (the mount ends).
Result<nlohmann::json> run_command(const Command& command, const CommandContext& context, const nlohmann::json& given);

// The table itself, for programs: {"commands": [{"name", "help", "changes", "pace", "args": [...]}]}.
nlohmann::json describe_commands();

}  // namespace pcache
