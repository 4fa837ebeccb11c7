#include "io/backing_probe.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>

#include "base/crc32c.h"
#include "base/unique_fd.h"
#include "base/units.h"

namespace pcache {
namespace {

constexpr std::size_t kMaxIdLength = 128;

using CString = std::unique_ptr<char, decltype(&std::free)>;
using Probe = std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)>;

std::string hex(std::uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::string device_number(dev_t device) { return std::to_string(major(device)) + ":" + std::to_string(minor(device)); }

std::string device_node(dev_t device) {
  const CString node(blkid_devno_to_devname(device), &std::free);
  return node ? node.get() : "";
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const std::size_t end = line.find_last_not_of(" \t\n");
  return end == std::string::npos ? "" : line.substr(0, end + 1);
}

// Fits a name into what a cache device stores: the end of a long one is replaced by its checksum.
std::string storable(std::string id) {
  for (char& c : id) {
    if (c <= ' ' || c > '~') c = '_';
  }
  if (id.size() <= kMaxIdLength) return id;
  const std::string sum = "~" + hex(crc32c(id.data(), id.size()));
  return id.substr(0, kMaxIdLength - sum.size()) + sum;
}

#ifndef FS_IOC_GETFSUUID
// From Linux 6.9 on; as in its linux/fs.h.
struct fsuuid2 {
  __u8 len;
  __u8 uuid[16];
};
#define FS_IOC_GETFSUUID _IOR(0x15, 0, struct fsuuid2)
#endif

// The UUID of the filesystem that `fd` is on, as text; empty if the filesystem cannot tell.
std::string mounted_filesystem_uuid(int fd) {
  fsuuid2 answer{};
  if (fd < 0 || ioctl(fd, FS_IOC_GETFSUUID, &answer) != 0 || answer.len != sizeof answer.uuid) return "";
  if (std::all_of(std::begin(answer.uuid), std::end(answer.uuid), [](__u8 byte) { return byte == 0; })) return "";
  std::string text;
  for (std::size_t i = 0; i < sizeof answer.uuid; ++i) {
    std::array<char, 3> byte{};
    std::snprintf(byte.data(), byte.size(), "%02x", static_cast<unsigned>(answer.uuid[i]));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += byte.data();
  }
  return text;
}

// The same from the device that the filesystem is on; needs the right to read it.
std::string stored_filesystem_uuid(dev_t device) {
  const std::string node = device_node(device);
  if (node.empty()) return "";
  const Probe probe(blkid_new_probe_from_filename(node.c_str()), &blkid_free_probe);
  const char* uuid = nullptr;
  if (!probe || blkid_probe_enable_superblocks(probe.get(), 1) != 0 ||
      blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_UUID) != 0 || blkid_do_safeprobe(probe.get()) != 0 ||
      blkid_probe_lookup_value(probe.get(), "UUID", &uuid, nullptr) != 0) {
    return "";
  }
  return uuid;
}

// A name of the file's filesystem that survives a reboot, or its device number where there is none (a tmpfs, an
// overlay); the inode number; and its generation where there is one, since inode numbers are used again.
std::string file_id(int fd, const struct stat& st) {
  std::string filesystem = mounted_filesystem_uuid(fd);
  if (filesystem.empty()) filesystem = stored_filesystem_uuid(st.st_dev);
  if (filesystem.empty()) filesystem = "dev:" + device_number(st.st_dev);
  std::string id = "file:" + filesystem + ":" + std::to_string(st.st_ino);
  long generation = 0;  // an int's worth is filled in; a long is what the definition of the call says
  if (fd >= 0 && ioctl(fd, FS_IOC_GETVERSION, &generation) == 0) id += ":" + hex(static_cast<unsigned>(generation));
  return id;
}

// A loop device's number says nothing after a reboot; the file below it does. Empty if `sys` is not a loop device's.
std::string loop_id(const std::string& sys) {
  const std::string path = first_line(sys + "loop/backing_file");
  struct stat st {};
  if (path.empty() || stat(path.c_str(), &st) != 0) return "";
  const UniqueFd fd(S_ISREG(st.st_mode) ? open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1);
  const std::string offset = first_line(sys + "loop/offset");
  return "loop:" + (S_ISBLK(st.st_mode) ? "dev:" + device_number(st.st_rdev) : file_id(fd.get(), st)) +
         (offset.empty() || offset == "0" ? "" : "+" + offset);
}

// What the whole disk with the directory `sys` in sysfs is called by its maker or its own metadata; empty if it has
// none.
std::string disk_id(const std::string& sys) {
  if (std::string id = loop_id(sys); !id.empty()) return id;
  if (const std::string id = first_line(sys + "dm/uuid"); !id.empty()) return "dm:" + id;
  if (const std::string id = first_line(sys + "md/uuid"); !id.empty()) return "md:" + id;
  for (const char* attribute : {"wwid", "device/wwid", "device/serial", "serial", "device/cid"}) {
    if (const std::string id = first_line(sys + attribute); !id.empty()) return "disk:" + id;
  }
  return "";
}

// The partition's UUID in the table of the disk; empty if the table has none or cannot be read.
std::string partition_uuid(dev_t disk, dev_t partition) {
  const std::string node = device_node(disk);
  if (node.empty()) return "";
  const Probe probe(blkid_new_probe_from_filename(node.c_str()), &blkid_free_probe);
  if (!probe) return "";
  const blkid_partlist list = blkid_probe_get_partitions(probe.get());
  const blkid_partition entry = list == nullptr ? nullptr : blkid_partlist_devno_to_partition(list, partition);
  const char* uuid = entry == nullptr ? nullptr : blkid_partition_get_uuid(entry);
  return uuid == nullptr ? "" : uuid;
}

std::string block_device_id(dev_t device) {
  const std::string sys = "/sys/dev/block/" + device_number(device) + "/";
  const std::string partition = first_line(sys + "partition");
  if (partition.empty()) {
    const std::string id = disk_id(sys);
    return id.empty() ? "dev:" + device_number(device) : id;
  }
  // The disk's directory is one above its partition's.
  if (const std::string id = disk_id(sys + "../"); !id.empty()) return id + "-part" + partition;
  dev_t disk = 0;
  if (blkid_devno_to_wholedisk(device, nullptr, 0, &disk) == 0) {
    if (const std::string id = partition_uuid(disk, device); !id.empty()) return "partuuid:" + id;
  }
  return "dev:" + device_number(device);
}

}  // namespace

Status check_backing_kind(const struct stat& st, const std::string& path) {
  if (S_ISBLK(st.st_mode) || S_ISREG(st.st_mode)) return Status();
  return Status(Errc::invalid, path +
                                   (S_ISDIR(st.st_mode) ? " is a directory" : " is neither a block device nor a file") +
                                   "; a backing device must be a block device or a file");
}

Result<BackingIdentity> identify_backing(int fd, const std::string& path) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return Status::from_errno(errno, "cannot inspect backing device " + path);
  if (Status status = check_backing_kind(st, path); !status.ok()) return status;
  BackingIdentity identity;
  if (S_ISBLK(st.st_mode)) {
    if (ioctl(fd, BLKGETSIZE64, &identity.size_bytes) != 0) {
      return Status::from_errno(errno, "cannot read the size of backing device " + path);
    }
  } else {
    identity.size_bytes = static_cast<std::uint64_t>(st.st_size);
  }
  if (identity.size_bytes == 0) {
    return Status(Errc::invalid, "backing device " + path + " is empty; give it a size first, with truncate --size");
  }
  if (!is_aligned(identity.size_bytes, kSectorSize)) {
    return Status(Errc::invalid, "backing device " + path + " has " + std::to_string(identity.size_bytes) +
                                     " bytes, which is not a multiple of 512; extend it with truncate --size=%512");
  }
  identity.id = storable(S_ISBLK(st.st_mode) ? block_device_id(st.st_rdev) : file_id(fd, st));
  return identity;
}

Result<BackingIdentity> probe_backing(const std::string& path) {
  const std::string cannot_open = "cannot open backing device " + path;
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Status::from_errno(errno, cannot_open);
  // Before opening, which blocks on a pipe.
  if (Status status = check_backing_kind(st, path); !status.ok()) return status;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return Status::from_errno(errno, cannot_open);
  return identify_backing(fd.get(), path);
}

}  // namespace pcache
