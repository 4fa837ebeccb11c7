// Whether a mount has lost its daemon.
#pragma once

#include <string>

namespace pcache {

// Whether what is mounted at `path` is a FUSE filesystem that nobody serves any more. The kernel is asked afresh: by
// what it remembers of the directory a mount looks alive for a second after its daemon died. Waits for a daemon that is
// there.
bool is_dead_mount(const std::string& path);

}  // namespace pcache
