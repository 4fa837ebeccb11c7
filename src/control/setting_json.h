// Values of settings as JSON: numbers where they are plain numbers (milliseconds, bytes, ids), and otherwise texts, as
// "40%", "512M", "writeback", "0640".
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "pcache/settings.h"

namespace pcache {

nlohmann::json setting_to_json(Setting setting, std::uint64_t value);

// Those of `settings` that are given, by their names.
nlohmann::json settings_to_json(const Settings& settings);

// The word for a value, of which parse_setting() makes it; empty where `value` is neither a text nor a whole number.
std::string setting_word(const nlohmann::json& value);

// The value of the setting called `name` as format_setting() writes it, "4M" for 4194304; the word where it is none.
std::string setting_text(const std::string& name, const nlohmann::json& value);

}  // namespace pcache
