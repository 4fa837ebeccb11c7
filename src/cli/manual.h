// The command line about itself, for its manual page.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace pcache {

// Every command with its words and options, and the options of all commands, in the language of scdoc(5).
std::string manual_text(const CLI::App& app);

}  // namespace pcache
