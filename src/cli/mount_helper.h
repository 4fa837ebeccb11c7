// What mount(8) and umount(8) start for the types pcachefs and fuse.pcachefs, which is what the kernel calls both: this
// program, by the names mount.pcachefs, mount.fuse.pcachefs and umount.fuse.pcachefs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pcache/result.h"

namespace pcache {

// The same as words of `pcachefs`, if `argv` was called by one of those names; no words where there is nothing to do.
// Nothing: by another name. Invalid: options of mount(8) that it cannot do.
std::optional<Result<std::vector<std::string>>> words_of_mount_helper(int argc, const char* const* argv);

}  // namespace pcache
