// Parts of a test that need a process of their own: another opener of a file, a user without rights.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

namespace pcache {

// What `body` returns (0 to 255) when it runs in a forked child; -1 when the child did not end by itself.
template <typename Body>
int result_in_child(Body body) {
  const pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) _exit(body());
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

// The same as a user who owns nothing: root becomes one, anybody else stays who they are.
template <typename Body>
int result_without_rights(Body body) {
  return result_in_child([&] { return geteuid() == 0 && setuid(65534) != 0 ? 255 : body(); });
}

}  // namespace pcache
