// The command line about itself, for its manual page.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace pcache {

// Every command with its words and options, and the options of all commands, in the language of scdoc(5).
std::string manual_text(const CLI::App& app);

// The settings of logical devices, each with what it does, what it can be and its default, in the same form.
std::string settings_manual_text();

}  // namespace pcache
