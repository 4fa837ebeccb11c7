#include "control/run_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <filesystem>

#include "pcache/control_client.h"

namespace pcache {
namespace {

constexpr int kMaxLinks = 40;  // as the kernel follows them

bool is_trusted(uid_t user) { return user == 0 || user == geteuid(); }

Status refused(const std::string& dir, const std::string& why) {
  return Status(Errc::permission, "the run directory " + dir + " is not to be trusted: " + why);
}

// Who may change what a directory on the way leads to could put another one in the place of the run directory.
Status check_above(const std::string& dir, const std::string& above, const struct stat& st) {
  if (!is_trusted(st.st_uid)) {
    return refused(dir, above + " belongs to user " + std::to_string(st.st_uid) + ", who is neither root nor you");
  }
  // In a sticky directory, as /tmp is, others cannot touch what is not theirs.
  if (S_ISDIR(st.st_mode) && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0) {
    return refused(dir, "others may write in " + above + "; take that away with chmod go-w");
  }
  return Status();
}

// Everything on the way, also that of the links in it, as the kernel goes it.
Status check_way(const std::string& dir) {
  namespace fs = std::filesystem;
  const auto failed = [&dir](int error) { return Status::from_errno(error, "cannot use the run directory " + dir); };
  std::error_code error;
  const fs::path whole = fs::absolute(dir, error).parent_path();
  if (error) return failed(error.value());
  std::deque<fs::path> parts(whole.begin(), whole.end());
  fs::path at;
  for (int links = 0; !parts.empty();) {
    const fs::path above = at / parts.front();
    parts.pop_front();
    struct stat st {};
    if (lstat(above.c_str(), &st) != 0) return failed(errno);
    if (Status trusted = check_above(dir, above, st); !trusted.ok()) return trusted;
    if (!S_ISLNK(st.st_mode)) {
      at = above;
      continue;
    }
    if (++links > kMaxLinks) return failed(ELOOP);
    const fs::path target = fs::read_symlink(above, error);
    if (error) return failed(error.value());
    parts.insert(parts.begin(), target.begin(), target.end());
  }
  return Status();
}

}  // namespace

std::string run_dir() {
  const char* dir = std::getenv("PCACHEFS_RUN_DIR");
  return dir != nullptr && *dir != '\0' ? dir : kControlDir;
}

Status check_run_dir() {
  std::string dir = run_dir();
  while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  struct stat st {};
  if (lstat(dir.c_str(), &st) != 0) return Status::from_errno(errno, "cannot use the run directory " + dir);
  if (S_ISLNK(st.st_mode)) {
    return refused(dir, "it is a symbolic link; remove it, or name its target with PCACHEFS_RUN_DIR");
  }
  if (!S_ISDIR(st.st_mode)) return Status(Errc::invalid, "the run directory " + dir + " is not a directory");
  if (!is_trusted(st.st_uid)) {
    return refused(dir, "it belongs to user " + std::to_string(st.st_uid) + ", who is neither root nor you");
  }
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return refused(dir, "others may write in it; take that away with chmod go-w");
  }
  return check_way(dir);
}

bool is_no_socket(const std::string& path) {
  struct stat st {};
  return lstat(path.c_str(), &st) == 0 && !S_ISSOCK(st.st_mode);
}

}  // namespace pcache
