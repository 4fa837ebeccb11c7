// Taking a mount down.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// Unmounts `mount_point` and waits until its daemon has ended, so that everything is on the cache device. A mount whose
// daemon is dead is detached. Errors: not_found (no pcachefs there), busy (files are open), permission, failed.
Status umount_and_wait(const std::string& mount_point);

}  // namespace pcache
