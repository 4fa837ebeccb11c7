// Opens a backing device for this process alone.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/file_lock.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "io/backing_probe.h"
#include "io/uring_backing_dev.h"
#include "pcache/backing_dev.h"

namespace pcache {
namespace {

// udev takes a shared lock on a block device while it looks at it, which is over in a moment.
constexpr int kBlockLockAttempts = 50;
constexpr std::chrono::milliseconds kBlockLockInterval{20};

Status lock_exclusively(int fd, bool is_block_device, const std::string& path) {
  for (int attempt = 1;; ++attempt) {
    const int error = try_lock_exclusively(fd);
    if (error == 0) return Status();
    if (error != EWOULDBLOCK) return Status::from_errno(error, "cannot lock backing device " + path);
    if (!is_block_device || attempt == kBlockLockAttempts) {
      return Status(Errc::busy,
                    "backing device " + path + " is in use, as another logical device or by another process");
    }
    std::this_thread::sleep_for(kBlockLockInterval);
  }
}

// Whether direct I/O takes every multiple of 512 bytes. Where the kernel cannot tell, that is assumed for files; block
// devices name their sector size.
bool takes_sectors(int fd, bool is_block_device) {
  int sector = 0;
  if (is_block_device) return ioctl(fd, BLKSSZGET, &sector) != 0 || sector <= static_cast<int>(kSectorSize);
#ifdef STATX_DIOALIGN
  struct statx stx {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && (stx.stx_mask & STATX_DIOALIGN) != 0) {
    return stx.stx_dio_offset_align != 0 && stx.stx_dio_offset_align <= kSectorSize &&
           stx.stx_dio_mem_align <= kSectorSize;
  }
#endif
  return true;
}

}  // namespace

Result<std::unique_ptr<BackingDev>> open_backing_dev(const std::string& path) {
  const std::string cannot_open = "cannot open backing device " + path + " for reading and writing";
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Status::from_errno(errno, cannot_open);
  // Before opening, which blocks on a pipe.
  if (Status status = check_backing_kind(st, path); !status.ok()) return status;
  const bool is_block_device = S_ISBLK(st.st_mode);

  const int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | (is_block_device ? O_EXCL : 0);
  UniqueFd fd(open(path.c_str(), flags | O_DIRECT));
  // Some filesystems know no direct I/O. There the page cache is in between: slower, and as durable after a flush.
  if (!fd && errno == EINVAL) fd.reset(open(path.c_str(), flags));
  if (!fd) {
    if (errno == EBUSY) {
      return Status(Errc::busy,
                    "backing device " + path + " is mounted or held by another; unmount or release it first");
    }
    return Status::from_errno(errno, cannot_open);
  }
  int status_flags = fcntl(fd.get(), F_GETFL);
  if (!takes_sectors(fd.get(), is_block_device)) status_flags &= ~O_DIRECT;
  // O_NONBLOCK was for open() alone: io_uring would give up where it should wait.
  if (fcntl(fd.get(), F_SETFL, status_flags & ~O_NONBLOCK) != 0) return Status::from_errno(errno, cannot_open);
  if (int read_only = 0; is_block_device && ioctl(fd.get(), BLKROGET, &read_only) == 0 && read_only != 0) {
    return Status(Errc::permission, "backing device " + path + " is read-only; make it writable with blockdev --setrw");
  }
  if (Status status = lock_exclusively(fd.get(), is_block_device, path); !status.ok()) return status;
  auto identity = identify_backing(fd.get(), path);
  if (!identity) return identity.status();
  return make_uring_backing_dev(path, std::move(fd), std::move(identity).value());
}

}  // namespace pcache
