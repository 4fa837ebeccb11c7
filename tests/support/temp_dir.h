// A directory for a test's files, and the few things that tests do with files there.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace pcache {

// A new directory that is removed with all that is in it.
class TempDir {
 public:
  // In `parent`, or where the environment keeps temporary files.
  explicit TempDir(const std::string& parent = std::filesystem::temp_directory_path().string()) {
    std::string path = parent + "/pcache-test-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make a directory in " + parent);
    path_ = path;
  }
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A file of `size` bytes, each of them `fill`; of zeroes it is a hole.
inline void make_file(const std::string& path, std::size_t size, char fill = '\0') {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  bool made = fd && ftruncate(fd.get(), static_cast<off_t>(size)) == 0;
  if (fill != '\0') {
    const std::vector<char> content(size, fill);
    made = made && pwrite(fd.get(), content.data(), size, 0) == static_cast<ssize_t>(size);
  }
  if (!made) throw std::runtime_error("cannot make " + path);
}

inline void write_file(const std::string& path, std::uint64_t offset, std::string_view content) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || pwrite(fd.get(), content.data(), content.size(), static_cast<off_t>(offset)) !=
                 static_cast<ssize_t>(content.size())) {
    throw std::runtime_error("cannot write to " + path);
  }
}

// Up to `length` bytes of the file, read past any mapping of it.
inline std::string read_file(const std::string& path, std::uint64_t offset, std::size_t length) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string content(length, '?');
  const ssize_t n = fd ? pread(fd.get(), content.data(), length, static_cast<off_t>(offset)) : -1;
  if (n < 0) throw std::runtime_error("cannot read " + path);
  content.resize(static_cast<std::size_t>(n));
  return content;
}

inline struct stat stat_of(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) throw std::runtime_error("there is no " + path);
  return st;
}

}  // namespace pcache
