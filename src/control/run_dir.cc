#include "control/run_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "pcache/control_client.h"

namespace pcache {

std::string run_dir() {
  const char* dir = std::getenv("PCACHEFS_RUN_DIR");
  return dir != nullptr && *dir != '\0' ? dir : kControlDir;
}

Status check_run_dir() {
  const std::string dir = run_dir();
  struct stat st {};
  if (lstat(dir.c_str(), &st) != 0) return Status::from_errno(errno, "cannot use the run directory " + dir);
  const auto refused = [&dir](const std::string& why) {
    return Status(Errc::permission, "the run directory " + dir + " is not to be trusted: " + why);
  };
  if (S_ISLNK(st.st_mode)) return refused("it is a symbolic link; remove it, or name its target with PCACHEFS_RUN_DIR");
  if (!S_ISDIR(st.st_mode)) return Status(Errc::invalid, "the run directory " + dir + " is not a directory");
  if (st.st_uid != 0 && st.st_uid != geteuid()) {
    return refused("it belongs to user " + std::to_string(st.st_uid) + ", who is neither root nor you");
  }
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) return refused("others may write in it; take that away with chmod go-w");
  return Status();
}

bool is_no_socket(const std::string& path) {
  struct stat st {};
  return lstat(path.c_str(), &st) == 0 && !S_ISSOCK(st.st_mode);
}

}  // namespace pcache
