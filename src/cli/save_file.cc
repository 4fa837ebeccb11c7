#include "cli/save_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/unique_fd.h"

namespace pcache {
namespace {

namespace fs = std::filesystem;

Status cannot_write(const std::string& path, int error) { return Status::from_errno(error, "cannot write " + path); }

// 0, or the errno.
int write_all(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    done += static_cast<std::size_t>(n);
  }
  return 0;
}

// Where the links end, also where nothing is there. Nothing, where that is an open file of a process: its name below
// /proc cannot be given to another file.
std::optional<fs::path> end_of_links(fs::path path) {
  constexpr int kMostLinks = 40;  // as the kernel
  std::error_code error;
  for (int i = 0; i < kMostLinks && fs::is_symlink(fs::symlink_status(path, error)); ++i) {
    if (fs::canonical(fs::absolute(path, error).parent_path(), error).string().starts_with("/proc/")) return {};
    const fs::path target = fs::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / target;
  }
  return path;
}

Status write_into(const std::string& path, const std::string& text) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return cannot_write(path, errno);
  const int error = write_all(fd.get(), text);
  return error == 0 ? Status() : cannot_write(path, error);
}

mode_t mode_of_new_files() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0644 & ~mask;
}

// Makes the new file in `next` what `before`, if that is not null, was. 0, or the errno.
int fill(int fd, const std::string& text, const struct stat* before) {
  if (const int error = write_all(fd, text); error != 0) return error;
  if (before != nullptr && fchown(fd, before->st_uid, before->st_gid) != 0) return errno;
  if (fchmod(fd, before != nullptr ? before->st_mode & 07777 : mode_of_new_files()) != 0) return errno;
  return fsync(fd) == 0 ? 0 : errno;
}

}  // namespace

Status save_file(const std::string& path, const std::string& text) {
  struct stat before {};
  const bool is_there = stat(path.c_str(), &before) == 0;
  if (!is_there && errno != ENOENT) return cannot_write(path, errno);
  const auto target = end_of_links(path);
  if (!target || (is_there && !S_ISREG(before.st_mode))) return write_into(path, text);
  std::string next = target->string() + ".XXXXXX";
  const UniqueFd fd(mkostemp(next.data(), O_CLOEXEC));
  if (!fd) return cannot_write(path, errno);
  int error = fill(fd.get(), text, is_there ? &before : nullptr);
  if (error == 0 && rename(next.c_str(), target->c_str()) != 0) error = errno;
  if (error != 0) {
    unlink(next.c_str());
    return cannot_write(path, error);
  }
  const std::string directory = target->parent_path();
  const UniqueFd dir_fd(open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir_fd) (void)fsync(dir_fd.get());  // the name: the file itself is on its disk
  return Status();
}

}  // namespace pcache
