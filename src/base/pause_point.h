// Named places in the engine at which a test stops a thread, so that a race becomes one fixed order.
#pragma once

// Only in source files of the cache layer: tests that use the points have a copy of that layer which is compiled with
// PCACHE_PAUSE_POINTS. Everywhere else they are nothing.
#if defined(PCACHE_PAUSE_POINTS)
namespace pcache {
// The test's. A thread that comes to a point calls it, and goes on when it returns.
void reach_pause_point(const char* name);
}  // namespace pcache
#define PCACHE_PAUSE_POINT(name) ::pcache::reach_pause_point(name)
#else
#define PCACHE_PAUSE_POINT(name) static_cast<void>(0)
#endif
