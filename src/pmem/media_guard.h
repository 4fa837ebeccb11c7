// Access to a mapping that survives a failing medium.
#pragma once

#include <memory>
#include <type_traits>

namespace pcache {

// Installs the process-wide SIGBUS handler on first use. A SIGBUS (poisoned memory, a truncated file) inside a guarded
// call ends that call; any other goes to the handler that was there before, or ends the process as it would have.
// Thread-safe.
void install_media_guard();

// Runs `access(context)` and returns true, or false when the medium failed on the way. install_media_guard() was called
// before. Costs no system call. May be nested; a failure ends the innermost call.
bool guarded_call(void (*access)(void* context), void* context);

// The same for a callable, whose result is ignored. A failure leaves it without unwinding: it must hold nothing whose
// destruction matters (no lock, no allocation), so it is best a lone copy.
template <typename Access>
bool guarded(Access&& access) {
  using Callable = std::remove_reference_t<Access>;
  static_assert(std::is_trivially_destructible_v<Callable>, "a failing medium would skip the destruction");
  return guarded_call([](void* context) { (*static_cast<Callable*>(context))(); }, std::addressof(access));
}

}  // namespace pcache
