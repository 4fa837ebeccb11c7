// Settings of logical devices on the command line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pcache/result.h"

namespace pcache {

// The parts of `text` between separators, without empty ones.
std::vector<std::string> split(const std::string& text, char separator);

// The argument "settings" of a command that "KEY=VALUE" words make. Errors: invalid, naming the word.
Result<nlohmann::json> settings_json(const std::vector<std::string>& assignments);

// Leaves in the reply of the command "get" only the setting called `key`.
void keep_setting(nlohmann::json& reply, const std::string& key);

// That reply for people: a line for each setting.
std::string settings_text(const nlohmann::json& reply);

}  // namespace pcache
