// Which cache device is at a path, without keeping others from it.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "base/no_throw.h"
#include "base/unique_fd.h"
#include "device/open_to_inspect.h"
#include "media/superblock.h"
#include "pcache/inspect.h"

namespace pcache {
namespace {

// The same as CacheDev::open() makes of the superblock.
Result<std::string> label_in_file(int fd, const std::string& path) {
  std::optional<Superblock> best;
  bool damaged = false;
  for (const std::uint64_t offset : {std::uint64_t{0}, kMediaPage}) {
    Superblock copy{};
    const ssize_t n = pread(fd, &copy, sizeof copy, static_cast<off_t>(offset));
    if (n < 0) return Status::from_errno(errno, "cannot read " + path);
    switch (check_superblock(copy)) {
      case SuperblockCheck::ok:
        if (!best || copy.header.sequence > best->header.sequence) best = copy;
        break;
      case SuperblockCheck::other_version:
        return Status(Errc::invalid, path + " has a media format version that this pcachefs does not know");
      case SuperblockCheck::damaged:
        damaged = true;
        break;
      case SuperblockCheck::not_a_cache:
        break;
    }
  }
  if (best) return std::string(best->label.data());
  if (damaged) return Status(Errc::integrity, path + ": both copies of the superblock are damaged");
  return Status(Errc::invalid, path + " is not a pcachefs cache device; make one with pcachefs format");
}

}  // namespace

Result<std::string> cache_dev_label(const std::string& path) {
  return no_throw("cannot look at " + path, [&]() -> Result<std::string> {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat st {};
    if (!fd || fstat(fd.get(), &st) != 0) return Status::from_errno(errno, "cannot look at " + path);
    if (S_ISREG(st.st_mode)) return label_in_file(fd.get(), path);
    const auto cache_dev = open_to_inspect(path);
    if (!cache_dev) return cache_dev.status();
    return (*cache_dev)->label();
  });
}

}  // namespace pcache
