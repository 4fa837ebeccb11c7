// Where the process of a mount says what has happened.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// To the journal where standard error is connected to it, or where the process is in the background and there is one;
// else to standard error in the foreground, and to syslog in the background. `level` is the least that is told:
// "debug", "info", "warning", "error". Invalid: another word.
Status start_logging(bool foreground, const std::string& level);

}  // namespace pcache
