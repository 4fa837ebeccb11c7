// A command: what it is called, who may give it, what it takes, what it does. The table of all of them is behind the
// control socket, the command line and whatever else steers a running mount.
#pragma once

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "control/argument.h"
#include "control/health.h"
#include "pcache/device_manager.h"

namespace pcache {

class EventLog;
class Jobs;

// The end of a mount: first no command that changes something is begun any more, then the devices cannot be asked, and
// what they said last is all there is.
struct Ending {
  std::atomic<bool> begun{false};
  std::optional<StatusReport> last;  // of the I/O thread
};

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
  std::string http = {};           // where else it is served, as it was asked for; for port 0 with the real one
  const Ending* ending = nullptr;  // null: it does not end

  const HealthWatch* health_watch = nullptr;  // null: nobody looks

  Health health(const StatusReport& report) const {
    return health_watch != nullptr ? health_watch->health(report, is_ending()) : health_of(report, is_ending());
  }
  bool is_ending() const { return ending != nullptr && ending->begun; }
  StatusReport report() const { return is_ending() && ending->last ? *ending->last : manager.status(); }
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
  bool also_at_the_end = false;  // it asks no device, or takes what that said last
};

}  // namespace pcache
