#include "cli/umount.h"

#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/dead_mount.h"
#include "base/unique_fd.h"
#include "cli/holders.h"
#include "cli/mount_table.h"
#include "pcache/control_client.h"

namespace pcache {

Status umount_and_wait(const std::string& mount_point, bool only_dead) {
  const std::string path = resolve_mount_point(mount_point);

  auto client = ControlClient::find(path);
  if (!client) {
    if (!mount_options(path) && only_dead) return Status();
    if (!mount_options(path)) return Status(Errc::not_found, "no pcachefs is mounted at " + mount_point);
    if (client.status().code() != Errc::no_daemon) return client.status();
    if (!is_dead_mount(path)) {
      return Status(Errc::no_daemon, "the daemon that serves " + mount_point + " has no control socket in " +
                                         control_socket_path(path) +
                                         "; is PCACHEFS_RUN_DIR another one? If the socket "
                                         "was deleted, umount -i " +
                                         mount_point + " takes the mount down");
    }
    if (umount2(path.c_str(), MNT_DETACH) != 0) {
      return Status::from_errno(errno, "cannot detach " + mount_point + ", whose daemon is dead");
    }
    return Status();
  }
  if (only_dead) {
    return Status(Errc::busy,
                  "the daemon that serves " + mount_point + " is not dead; without --dead it is taken down");
  }
  // One that does not answer would not end either, and without its mount it could not be found any more.
  const auto answer = client->call("ping", "{}", ControlClient::kAtOnceMs);
  if (!answer && answer.status().code() == Errc::timed_out) return answer.status();
  const auto pid = client->daemon_pid();
  if (!pid) return pid.status();
  const UniqueFd daemon(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  if (umount2(path.c_str(), 0) != 0 && errno != EINVAL) {  // EINVAL: unmounted already, the daemon is ending
    if (errno == EBUSY) {
      const auto holders = holders_of_mount(path);
      return Status(Errc::busy, mount_point + " is busy: " +
                                    (holders.empty() ? "close its files and unmap its loop devices"
                                                     : "it is used by " + holders_text(holders)));
    }
    return Status::from_errno(errno, "cannot unmount " + mount_point);
  }
  if (!daemon) return Status();  // it has ended already
  pollfd ended{daemon.get(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  return Status();
}

}  // namespace pcache
