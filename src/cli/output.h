// Where results and errors of a command go.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "pcache/status.h"

namespace pcache {

// The text as part of one line, with nothing in it that a terminal would obey.
std::string printable(const std::string& text);

// Whether errors are for programs from now on: {"schema": ..., "error": {"code", "message"}}.
void report_as_json(bool as_json);

// Prints a failed status as one line on standard error. Returns the exit code.
int report(const Status& status);

// Prints what deserves attention, though all went well, as one line on standard error.
void warn(const std::string& message);

// Prints to standard output, and says so where that cannot be. Returns the exit code.
int print(const std::string& text);
int print_json(const nlohmann::json& value);

}  // namespace pcache
