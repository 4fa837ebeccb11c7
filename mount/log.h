// Where the process of a mount says what has happened.
#pragma once

#include <string>

#include "pcache/status.h"

namespace pcache {

// To the journal where standard error is connected to it, or where the process is in the background and there is one;
// else to standard error in the foreground, and to syslog in the background. `level` is the least that is told:
// "debug", "info", "warning", "error". Invalid: another word. What is logged is written by a thread of its own: nobody
// who logs waits for a journal or terminal that takes nothing; then the oldest of what it has not taken is lost.
Status start_logging(bool foreground, const std::string& level);

// Writes what was not written yet, and logs nothing more. False where that is not taken in time; the thread waits on.
bool end_logging();

}  // namespace pcache
