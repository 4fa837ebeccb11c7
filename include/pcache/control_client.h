// Talks to a running mount through its control socket.
#pragma once

#include <cstdint>
#include <string>

#include "pcache/result.h"

namespace pcache {

// Where control sockets live, unless the environment variable PCACHEFS_RUN_DIR names another directory.
inline constexpr const char* kControlDir = "/run/pcachefs";

// The control socket of the mount at `mount_point` (its canonical path, '/' escaped, below the control directory).
std::string control_socket_path(const std::string& mount_point);

// The mount point that `path` names, as the daemon there calls it. What is mounted there is not asked, so that this
// returns also where nobody answers for it.
std::string resolve_mount_point(const std::string& path);

// One request to a daemon, one reply. Not thread-safe; each call connects anew.
class ControlClient {
 public:
  // How long a daemon that is well takes at most for what waits for nothing, however busy the machine is.
  static constexpr std::uint64_t kAtOnceMs = 10'000;

  // Finds the running mount: the one at `mount_point`, or, when that is empty, the only one there is.
  // Errors: no_daemon (none, or none there), invalid (several: names them and asks for --mount),
  // permission, timed_out (it takes no connection).
  static Result<ControlClient> find(const std::string& mount_point);

  // Sends `command` with `arguments_json` (a JSON object) and returns the reply's "result" as JSON text. A refusal by
  // the daemon comes back as the Status it gave. `timeout_ms` 0: no limit. Errors also: no_daemon, timed_out (names the
  // process), failed.
  Result<std::string> call(const std::string& command, const std::string& arguments_json, std::uint64_t timeout_ms = 0);

  // Process id of the daemon, as the kernel names the socket's peer.
  Result<int> daemon_pid();

  const std::string& socket_path() const { return socket_path_; }

 private:
  explicit ControlClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}
  std::string socket_path_;
};

}  // namespace pcache
