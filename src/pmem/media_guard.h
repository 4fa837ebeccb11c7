// Copies to and from a mapping that survive a failing medium.
#pragma once

#include <cstddef>

namespace pcache {

// Installs the process-wide SIGBUS handler on first use. A SIGBUS (poisoned memory, a truncated file) inside a guarded
// call ends that call; any other goes to the handler that was there before. Thread-safe.
void install_media_guard();

// Runs `copy(to, from, length)` and returns true, or false when the medium failed on the way. install_media_guard() was
// called before. `copy` must hold nothing that an abrupt return would leak.
bool guarded_copy(void (*copy)(void* context, void* to, const void* from, std::size_t length), void* context, void* to,
                  const void* from, std::size_t length);

}  // namespace pcache
