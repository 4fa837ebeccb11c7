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

// Whether only errors are printed from now on.
void be_quiet(bool quiet);
bool is_quiet();

// Whether colours may be used on standard output: it is a terminal, and NO_COLOR is not set.
bool may_use_color();

// Asks on a terminal whether to go on with what throws something away; elsewhere, and where `yes` says so beforehand,
// it is as if somebody had agreed. Errors: failed (nobody did; nothing was changed).
Status confirm(const std::string& what, bool yes);
// What confirm() asks before something is formatted with force.
std::string overwrites(const std::string& path);

// Prints what deserves attention, though all went well, as one line on standard error.
void warn(const std::string& message);

// Prints to standard output, and says so where that cannot be. Returns the exit code.
int print(const std::string& text);
int print_json(const nlohmann::json& value);
// On one line, so that several can be told apart.
int print_json_line(const nlohmann::json& value);

}  // namespace pcache
