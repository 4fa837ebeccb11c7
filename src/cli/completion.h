// What a shell completes after `pcachefs`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace pcache {

// A script for bash that knows commands and options. What a logical device, a job or a setting is called it asks
// `pcachefs completion --of KIND`, and what files there are the shell.
std::string completion_script(const CLI::App& app);

}  // namespace pcache
