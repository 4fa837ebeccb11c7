// The commands that work on a cache device which is not mounted. They print, and return the exit code.
#pragma once

#include <string>

#include "cli/cli.h"

namespace pcache {

// 0 when nothing is wrong, 6 when something is.
int run_check(const CliActions& actions, const std::string& cache, bool as_json);

// Prints everything that is stored, but for the cells.
int run_dump(const CliActions& actions, const std::string& cache, bool as_json);

// 0 when the image has everything, 6 when something is missing or may be.
int run_salvage(const CliActions& actions, const std::string& cache, const std::string& name,
                const SalvageOptions& options, bool as_json);

}  // namespace pcache
