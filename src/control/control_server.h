// The control socket of a running mount.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "pcache/device_manager.h"
#include "pcache/result.h"

namespace pcache {

class ControlTree;

// Who is told what the server sees of the devices, on threads of the server, and must return at once. Each may be
// empty.
struct ControlListener {
  // At the start, each second and after commands. It stays out while the server hangs, or a device that it looks at.
  std::function<void(const StatusReport& report)> looked;
  // For each event. `severity` is "info", "warning" or "error".
  std::function<void(const std::string& severity, const std::string& object, const std::string& message)> happened;
};

struct ControlOptions {
  std::string http_address;  // "ADDR:PORT"; empty: the unix socket alone
  // Opens a cache device that is registered, as it is configured, on a thread that may wait; empty: nothing is
  // configured.
  std::function<Status(const std::string& path)> open_cache_dev = {};
  ControlListener listener = {};
};

// Answers HTTP (docs/control.md) on a unix socket, each connection in its own order, and on a TCP address where that is
// asked for. Commands that may wait for I/O run beside the others, so that status always answers.
class ControlServer {
 public:
  // Listens at control_socket_path(mount_point), in the place of a dead daemon's socket, and at
  // options.http_address, where nothing can be changed. `manager` outlives the server. `on_umount` is called
  // on a thread of the server and must return at once. Errors: busy (another daemon answers there, the address is
  // taken), invalid (the address), permission, failed.
  static Result<std::unique_ptr<ControlServer>> start(const std::string& mount_point, DeviceManager& manager,
                                                      std::function<void()> on_umount,
                                                      const ControlOptions& options = {});

  // Begins no command any more that changes something, ends the jobs, and waits for the commands under way. From then
  // on the devices are not asked any more: what they said last is what is answered. Nothing is asked of the tree any
  // more.
  void end_commands();

  // Does that, where it was not done, and removes the socket.
  ~ControlServer();

  // The commands as files; there as long as the server is. Nothing is asked of it once the server is being destroyed.
  ControlTree& tree();

  // The TCP port that it listens at; 0 if none.
  std::uint16_t http_port() const;

 private:
  static Result<std::unique_ptr<ControlServer>> start_checked(const std::string& mount_point, DeviceManager& manager,
                                                              std::function<void()> on_umount,
                                                              const ControlOptions& options);
  class Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pcache
