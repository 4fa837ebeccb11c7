#include "mount/request.h"

#include <spdlog/spdlog.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace pcache {

void Request::send(int error, std::span<const std::byte> data) {
  fuse_out_header out{static_cast<std::uint32_t>(sizeof(fuse_out_header) + data.size()), error, header().unique};
  const iovec parts[2] = {{&out, sizeof out}, {const_cast<std::byte*>(data.data()), data.size()}};
  if (writev(fd_, parts, data.empty() ? 1 : 2) >= 0) return;
  // ENOENT: whoever asked is gone; ENODEV: so is the mount.
  if (errno != ENOENT && errno != ENODEV) spdlog::error("cannot answer the kernel: {}", std::strerror(errno));
}

}  // namespace pcache
