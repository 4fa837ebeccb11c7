// The command line: parses it, asks the daemon, prints, and returns the exit code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pcache/config.h"
#include "pcache/inspect.h"
#include "pcache/options.h"
#include "pcache/result.h"
#include "pcache/status.h"

namespace pcache {

// What `pcachefs mount` was given.
struct MountArgs {
  std::string mount_point;
  std::vector<std::string> caches;
  Config config;  // what is brought up besides
  CacheOptions options;
  bool foreground = false;
  bool allow_other = false;
  std::string http;  // "ADDR:PORT", or empty
  std::string source = "pcachefs";
  std::string log_level;  // empty: as configured, or "info"
};

// What the command line does itself instead of asking a daemon; main() supplies it.
struct CliActions {
  std::function<Status(const std::string& path, const FormatOptions& options)> format;
  // What could not be brought up of what is configured goes to `problems`, a line each.
  std::function<Status(const MountArgs& args, std::vector<std::string>& problems)> mount;
  std::function<Result<CheckReport>(const std::string& path, const std::function<void(const Damage&)>& report)> check;
  std::function<Status(const std::string& path, const DumpVisitor& visitor)> dump;
  std::function<Result<SalvageReport>(const std::string& path, const std::string& name, const SalvageOptions& options,
                                      const std::function<void(const Damage&)>& report)>
      salvage;
  std::function<Result<std::string>(const std::string& path)> label;  // of a cache device
};

// Runs the command line and returns the exit code of pcache/status.h. Results go to standard output, one line of error
// to standard error.
int run_cli(int argc, char** argv, const CliActions& actions);

}  // namespace pcache
