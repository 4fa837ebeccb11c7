// What a running mount can be asked to do: the command table behind the control socket.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "control/protocol.h"
#include "pcache/device_manager.h"

namespace pcache {

// What commands work on.
struct CommandContext {
  DeviceManager& manager;
  std::string mount_point;
  std::function<void()> on_umount;  // asks the daemon to end; returns at once
};

struct Command {
  const char* name;
  bool changes;  // only for root and the daemon's own user
  bool slow;     // may wait for I/O
  std::function<Result<nlohmann::json>(const CommandContext& context, const nlohmann::json& args)> run;
};

// The command called `name`, or null.
const Command* find_command(const std::string& name);

}  // namespace pcache
