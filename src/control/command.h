// A command: what it is called, who may give it, what it takes, what it does. The table of all of them is behind the
// control socket, the command line and whatever else steers a running mount.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/argument.h"
#include "pcache/device_manager.h"

namespace pcache {

class EventLog;
class Jobs;

// What commands work on.
struct CommandContext {
  DeviceManager& manager;
  std::string mount_point;
  std::function<void()> on_umount;  // asks the daemon to end; returns at once
  Jobs& jobs;
  EventLog& events;
  // Opens a cache device that is registered, as it is configured; empty: nothing is configured. Errors: as
  // DeviceManager::open_cache_dev().
  std::function<Status(const std::string& path)> open_cache_dev = {};
  std::string http = {};  // where else it is served, as it was asked for
};

enum class Caller : std::uint8_t {
  anyone,
  owner,  // root and the daemon's own user, over the unix socket
};

enum class Pace : std::uint8_t {
  at_once,  // waits for nothing
  slow,     // may wait for I/O
  job,      // only begins, and replies {"job": N}, by which `job` tells what became of it and `cancel` ends it
};

struct Command {
  const char* name;
  Caller caller;
  Pace pace;
  const char* help;
  const char* example;  // of the command line
  std::vector<Argument> args;
  std::function<Result<nlohmann::json>(const CommandContext& context, const Args& args)> run;  // an object
};

}  // namespace pcache
