#include "device/open_space.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "base/unique_fd.h"
#include "media/superblock.h"

namespace pcache {

Result<bool> has_superblock(int fd, const std::string& path) {
  for (const std::uint64_t offset : {std::uint64_t{0}, kMediaPage}) {
    std::array<char, sizeof(Superblock::signature)> signature{};
    const auto at = static_cast<off_t>(offset + offsetof(Superblock, signature));
    if (pread(fd, signature.data(), signature.size(), at) < 0) return Status::from_errno(errno, "cannot read " + path);
    if (signature == Superblock::kSignature) return true;
  }
  return false;
}

Result<std::unique_ptr<PmemSpace>> open_cache_space(const std::string& path, PmemAccess access) {
  auto space = open_pmem_space(path, access);
  if (space || space.status().code() != Errc::integrity) return space;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return space;
  const auto was_one = has_superblock(fd.get(), path);
  if (!was_one || *was_one) return space;
  return Status(Errc::invalid, path + " is not a pcachefs cache device; make one with pcachefs format");
}

}  // namespace pcache
