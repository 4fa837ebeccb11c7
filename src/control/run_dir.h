// The directory of the control sockets.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// kControlDir, or what PCACHEFS_RUN_DIR names.
std::string run_dir();

// Whether what is there is what its owner put there: a directory itself, no link to one, of root or of this process'
// user, in which nobody else may write; and so is everything on the way to it, where a sticky directory may be written
// in. Errors: not_found, permission, invalid (no directory), failed.
Status check_run_dir();

// Whether something else than a socket is at `path`, if only a link to one.
bool is_no_socket(const std::string& path);

}  // namespace pcache
