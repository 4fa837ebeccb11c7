// Taking a mount down.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// Unmounts `mount_point` and waits until its daemon has ended, so that everything is on the cache device. A mount whose
// daemon is dead is detached; `only_dead`: no other one is taken down, and where there is none nothing is to do.
// Errors: not_found (no pcachefs there), busy (files are open; the daemon is not dead), timed_out (the daemon does not
// answer), no_daemon (a live daemon has no control socket), permission, failed.
Status umount_and_wait(const std::string& mount_point, bool only_dead);

}  // namespace pcache
