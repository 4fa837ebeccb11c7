#include "base/dead_mount.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace pcache {

bool is_dead_mount(const std::string& path) {
  struct statx st {};
  if (statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) == 0) return false;
  return errno == ENOTCONN || errno == ECONNABORTED;  // the second: the daemon died while it was asked
}

}  // namespace pcache
