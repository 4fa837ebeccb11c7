#include "device/foreign_content.h"

#include <blkid/blkid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/units.h"

namespace pcache {
namespace {

struct ProbeDeleter {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};

Result<bool> has_data(int fd, const std::string& path, off_t offset, std::size_t length) {
  std::vector<char> bytes(length);
  std::size_t done = 0;
  while (done < length) {
    const ssize_t n = pread(fd, bytes.data() + done, length - done, offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::from_errno(errno, "cannot read " + path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return std::any_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(done), [](char c) { return c != 0; });
}

}  // namespace

Result<std::string> describe_content(int fd, const std::string& path) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return Status::from_errno(errno, "cannot inspect " + path);
  if (!S_ISREG(st.st_mode)) return std::string();  // a device-DAX node cannot be read; its superblock was looked at
  const std::unique_ptr<std::remove_pointer_t<blkid_probe>, ProbeDeleter> probe(blkid_new_probe());
  if (probe && blkid_probe_set_device(probe.get(), fd, 0, 0) == 0) {
    blkid_probe_enable_partitions(probe.get(), 1);
    blkid_probe_enable_superblocks(probe.get(), 1);
    if (blkid_do_fullprobe(probe.get()) == 0) {
      const char* type = nullptr;
      if (blkid_probe_lookup_value(probe.get(), "TYPE", &type, nullptr) == 0)
        return std::string("a ") + type + " filesystem";
      if (blkid_probe_lookup_value(probe.get(), "PTTYPE", &type, nullptr) == 0) {
        return std::string("a ") + type + " partition table";
      }
    }
  }
  const auto length = static_cast<std::size_t>(std::min<off_t>(st.st_size, static_cast<off_t>(kMiB)));
  for (const off_t offset : {off_t{0}, st.st_size - static_cast<off_t>(length)}) {
    const auto data = has_data(fd, path, offset, length);
    if (!data) return data.status();
    if (*data) return std::string("data");
  }
  return std::string();
}

}  // namespace pcache
