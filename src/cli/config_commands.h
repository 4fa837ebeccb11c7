// The configuration on the command line: what a mount takes from it, checking and printing it, and the one that a mount
// is in.
#pragma once

#include <string>

#include "cli/cli.h"

namespace pcache {

// Takes over what is configured in `path`; where that is empty, in the usual directory, if there is something and no
// cache device was named. Errors: invalid, naming file, line and column; those of read_config().
Status configure_mount(const std::string& path, MountArgs& args);

// Prints what is wrong with a configuration, or may become so. Returns the exit code: 2 where something is wrong.
int run_config_check(const CliActions& actions, const std::string& path, bool as_json);

// Prints it as one file.
int run_config_show(const std::string& path, bool as_json);

// Writes what the mount `mount` is made of as a configuration, to `file` or, where that is empty, to standard output.
int run_save(const std::string& mount, const std::string& file, bool as_json);

// Makes the mount what the configuration `path` says: adds what is missing, sets what differs, and takes back what is
// set and not in it. What is there and not configured is left alone.
int run_restore(const std::string& mount, const std::string& path, bool as_json);

}  // namespace pcache
