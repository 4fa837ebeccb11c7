// The text after `-o`.
#pragma once

#include <string>

#include "cli/cli.h"
#include "pcache/result.h"

namespace pcache {

// Sets in `args` what the comma-separated `text` says: ack=durable|flush, epoch_max_ms=N, allow_other,
// http=ADDR:PORT, log_level=LEVEL, and settings of logical devices but for the mode, which count for all of the mount.
// Invalid: anything else; the error names it.
Status parse_mount_options(const std::string& text, MountArgs& args);

}  // namespace pcache
