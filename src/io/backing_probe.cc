#include "io/backing_probe.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "base/unique_fd.h"
#include "base/units.h"

namespace pcache {
namespace {

constexpr std::size_t kMaxIdLength = 128;

std::string device_number(dev_t device) { return std::to_string(major(device)) + ":" + std::to_string(minor(device)); }

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const std::size_t end = line.find_last_not_of(" \t\n");
  return end == std::string::npos ? "" : line.substr(0, end + 1);
}

// A name of the filesystem on block device `device` that survives a reboot, or its device number where there is none (a
// tmpfs, an overlay).
std::string filesystem_id(dev_t device) {
  const std::unique_ptr<char, decltype(&free)> node(blkid_devno_to_devname(device), &free);
  if (node) {
    const std::unique_ptr<char, decltype(&free)> uuid(blkid_get_tag_value(nullptr, "UUID", node.get()), &free);
    if (uuid) return uuid.get();
  }
  return "dev-" + device_number(device);
}

std::string file_id(const struct stat& st) {
  return "file:" + filesystem_id(st.st_dev) + ":" + std::to_string(st.st_ino);
}

// Names of the hardware, not of what is stored on it: those change when the data does.
std::string block_device_id(dev_t device) {
  const std::string sys = "/sys/dev/block/" + device_number(device) + "/";
  if (const std::string backing_file = first_line(sys + "loop/backing_file"); !backing_file.empty()) {
    struct stat st {};
    if (stat(backing_file.c_str(), &st) == 0) return "loop:" + file_id(st) + "+" + first_line(sys + "loop/offset");
  }
  if (const std::string mapper = first_line(sys + "dm/uuid"); !mapper.empty()) return "dm:" + mapper;
  // A partition has the disk's attributes one directory up.
  const std::string partition = first_line(sys + "partition");
  const std::string disk = partition.empty() ? sys : sys + "../";
  for (const char* attribute : {"wwid", "device/wwid", "device/serial", "serial", "device/cid"}) {
    if (const std::string id = first_line(disk + attribute); !id.empty()) {
      return "disk:" + id + (partition.empty() ? "" : "-part" + partition);
    }
  }
  return "dev:" + device_number(device);
}

}  // namespace

Result<BackingIdentity> identify_backing(int fd, const std::string& path) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return Status::from_errno(errno, "cannot inspect backing device " + path);
  BackingIdentity identity;
  if (S_ISBLK(st.st_mode)) {
    if (ioctl(fd, BLKGETSIZE64, &identity.size_bytes) != 0) {
      return Status::from_errno(errno, "cannot read the size of backing device " + path);
    }
    identity.id = block_device_id(st.st_rdev);
  } else if (S_ISREG(st.st_mode)) {
    identity.size_bytes = static_cast<std::uint64_t>(st.st_size);
    identity.id = file_id(st);
  } else {
    return Status(Errc::invalid, path + " is neither a block device nor a file; a backing device must be one of them");
  }
  if (identity.size_bytes == 0) return Status(Errc::invalid, "backing device " + path + " is empty; give it a size first");
  if (!is_aligned(identity.size_bytes, kSectorSize)) {
    return Status(Errc::invalid, "backing device " + path + " has " + std::to_string(identity.size_bytes) +
                                     " bytes, which is not a multiple of 512; extend it with truncate");
  }
  identity.id.resize(std::min(identity.id.size(), kMaxIdLength));
  return identity;
}

Result<BackingIdentity> probe_backing(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Status::from_errno(errno, "cannot open backing device " + path);
  return identify_backing(fd.get(), path);
}

}  // namespace pcache
