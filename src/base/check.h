// PCACHE_CHECK: what must hold for the program to go on at all.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the process, naming the place and `message` (a string literal), when `condition` does not hold. In every build:
// going on after a broken invariant could destroy data that exists only in the cache.
#define PCACHE_CHECK(condition, message)                                                              \
  do {                                                                                                \
    if (!(condition)) [[unlikely]] {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", __FILE__, __LINE__, #condition, message); \
      std::abort();                                                                                   \
    }                                                                                                 \
  } while (false)
