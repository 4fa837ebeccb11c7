// How an asynchronous operation reports its end.
#pragma once

namespace pcache {

// Called exactly once for each operation started, possibly before the starting call returns, on any thread.
// `error`: 0, or a positive errno. The callee must not block: it may run on the thread that reaps I/O.
struct Completion {
  void (*done)(void* context, int error) = nullptr;
  void* context = nullptr;

  void operator()(int error) const { done(context, error); }
};

}  // namespace pcache
