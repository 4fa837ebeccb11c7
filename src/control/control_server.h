// The control socket of a running mount.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pcache/device_manager.h"
#include "pcache/result.h"

namespace pcache {

// Answers requests (control/protocol.h) on a unix socket, each connection in its own order. Commands that may wait for
// I/O run beside the others, so that status always answers.
class ControlServer {
 public:
  // Listens at control_socket_path(mount_point), in the place of a dead daemon's socket. `manager` outlives the server.
  // `on_umount` is called on a thread of the server and must return at once.
  // Errors: busy (another daemon answers there), permission, failed.
  static Result<std::unique_ptr<ControlServer>> start(const std::string& mount_point, DeviceManager& manager,
                                                      std::function<void()> on_umount);

  // Waits for the commands under way and removes the socket.
  ~ControlServer();

 private:
  static Result<std::unique_ptr<ControlServer>> start_checked(const std::string& mount_point, DeviceManager& manager,
                                                              std::function<void()> on_umount);
  class Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pcache
