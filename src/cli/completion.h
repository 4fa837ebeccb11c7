// What a shell completes after `pcachefs`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace pcache {

// A script for bash that knows commands and options. What a logical device, a job or a setting is called it asks
// `pcachefs completion --of KIND`, and what files there are the shell.
std::string completion_script(const CLI::App& app);

// What a word of that kind (NAME, JOB, KEY, ...; as the help calls it) can be in `mount`, one a line; nothing where
// that is not known.
std::string completion_words(const std::string& kind, const std::string& mount);

}  // namespace pcache
