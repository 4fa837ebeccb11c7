// `pcachefs top`: what the logical devices of a mount do, live, on the whole terminal.
#pragma once

#include <string>

namespace pcache {

// Shows the mount until `q`. A daemon that goes away is said to be gone and looked for on. Returns the exit code:
// invalid where the interval is out of its range, or there is no terminal.
int run_top(const std::string& mount, double interval_seconds);

}  // namespace pcache
