// What umount(8) has to know of a mount.
#pragma once

#include <string>

namespace pcache {

// Notes for umount(8) that umount.fuse.pcachefs takes this mount down, which waits until everything is on media: by
// itself it sees only that it is some FUSE. Where that cannot be noted, umount does not wait, and nothing else changes.
void note_for_umount(const std::string& source, const std::string& mount_point);
// The mount is gone.
void forget_for_umount(const std::string& mount_point);

}  // namespace pcache
