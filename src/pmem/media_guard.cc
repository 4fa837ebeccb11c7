#include "pmem/media_guard.h"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <mutex>

namespace pcache {
namespace {

// Where the calling thread's guarded call returns to; null outside of one. Volatile, since a handler reads it.
thread_local sigjmp_buf* volatile current_guard = nullptr;

struct sigaction previous_action;

void on_sigbus(int signal, siginfo_t* info, void* context) {
  if (sigjmp_buf* guard = current_guard; guard != nullptr) siglongjmp(*guard, 1);
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
    // The access is repeated on return and then ends the process as it would have without us.
    std::signal(SIGBUS, SIG_DFL);
  } else {
    previous_action.sa_handler(signal);
  }
}

}  // namespace

void install_media_guard() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Asked for before our handler can run: it reads the answer.
    sigaction(SIGBUS, nullptr, &previous_action);
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    // NODEFER: siglongjmp() without a saved mask leaves the signal unblocked, so that no access costs a system call.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, nullptr);
  });
}

bool guarded_call(void (*access)(void* context), void* context) {
  sigjmp_buf* const outer = current_guard;  // not changed after sigsetjmp(), hence valid after a jump
  sigjmp_buf guard;
  if (sigsetjmp(guard, 0) != 0) {
    current_guard = outer;
    return false;
  }
  current_guard = &guard;
  // Keep the compiler from moving parts of the access out of the guard's reach.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  access(context);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  current_guard = outer;
  return true;
}

}  // namespace pcache
