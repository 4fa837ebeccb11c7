// The version of pcachefs, and of what it answers.
#pragma once

#include <nlohmann/json.hpp>

namespace pcache {

inline constexpr const char* kVersion = "0.1.0";

// The form of all that is printed as JSON: what reads one major version reads all of its minor ones, which only add.
inline nlohmann::json schema_json() { return {{"major", 1}, {"minor", 0}}; }

}  // namespace pcache
