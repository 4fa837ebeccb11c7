// The cache device's mapping, through libpmem2.

#include <fcntl.h>
#include <libpmem2.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "base/unique_fd.h"
#include "base/units.h"
#include "pcache/pmem_space.h"
#include "pmem/media_guard.h"

namespace pcache {
namespace {

Status pmem2_error(const std::string& path, const std::string& what) {
  return Status(Errc::failed, path + ": " + what + ": " + pmem2_errormsg());
}

struct ConfigDeleter {
  void operator()(pmem2_config* config) const { pmem2_config_delete(&config); }
};
struct SourceDeleter {
  void operator()(pmem2_source* source) const { pmem2_source_delete(&source); }
};
struct MapDeleter {
  void operator()(pmem2_map* map) const { pmem2_map_delete(&map); }
};

Granularity granularity_of(pmem2_map* map) {
  switch (pmem2_map_get_store_granularity(map)) {
    case PMEM2_GRANULARITY_BYTE:
      return Granularity::byte;
    case PMEM2_GRANULARITY_CACHE_LINE:
      return Granularity::cache_line;
    case PMEM2_GRANULARITY_PAGE:
      break;
  }
  return Granularity::page;
}

class Pmem2Space final : public PmemSpace {
 public:
  Pmem2Space(std::string path, UniqueFd fd, pmem2_map* map)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        map_(map),
        base_(static_cast<std::byte*>(pmem2_map_get_address(map))),
        size_(pmem2_map_get_size(map)),
        granularity_(granularity_of(map)),
        memcpy_(pmem2_get_memcpy_fn(map)),
        drain_(pmem2_get_drain_fn(map)),
        persist_(pmem2_get_persist_fn(map)) {}

  std::size_t size() const override { return size_; }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return base_; }

  bool write(std::size_t offset, const void* source, std::size_t length) override {
    if (granularity_ == Granularity::page) return guarded_copy(copy_plain, nullptr, base_ + offset, source, length);
    return guarded_copy(copy_streaming, this, base_ + offset, source, length);
  }

  void drain() override {
    if (granularity_ != Granularity::page) drain_();
  }

  Status persist(std::size_t offset, std::size_t length) override {
    if (granularity_ == Granularity::page) {
      const std::size_t begin = align_down(offset, kPage);
      // libpmem2's persist function gives no result; the system call that it makes does.
      if (msync(base_ + begin, std::min<std::size_t>(align_up(offset + length, kPage), size_) - begin, MS_SYNC) != 0) {
        return Status::from_errno(errno, path_ + ": cannot make the cache device's content durable");
      }
      return Status();
    }
    persist_(base_ + offset, length);
    return Status();
  }

  bool read(std::size_t offset, void* destination, std::size_t length) const override {
    return guarded_copy(copy_plain, nullptr, destination, base_ + offset, length);
  }

 private:
  static constexpr std::size_t kPage = 4096;

  static void copy_plain(void*, void* to, const void* from, std::size_t length) { std::memcpy(to, from, length); }
  static void copy_streaming(void* self, void* to, const void* from, std::size_t length) {
    static_cast<Pmem2Space*>(self)->memcpy_(to, from, length, PMEM2_F_MEM_NODRAIN | PMEM2_F_MEM_NONTEMPORAL);
  }

  const std::string path_;
  const UniqueFd fd_;  // holds the lock
  const std::unique_ptr<pmem2_map, MapDeleter> map_;
  std::byte* const base_;
  const std::size_t size_;
  const Granularity granularity_;
  const pmem2_memcpy_fn memcpy_;
  const pmem2_drain_fn drain_;
  const pmem2_persist_fn persist_;
};

// A device-DAX node is a character device whose subsystem is "dax".
bool is_device_dax(const struct stat& st) {
  const std::string link =
      "/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" + std::to_string(minor(st.st_rdev)) + "/subsystem";
  char target[PATH_MAX];
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  if (length <= 0) return false;
  const std::string subsystem(target, static_cast<std::size_t>(length));
  return subsystem.ends_with("/dax");
}

}  // namespace

Result<std::unique_ptr<PmemSpace>> open_pmem_space(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    if (errno == EISDIR) return Status(Errc::invalid, path + " is a directory, not a cache device");
    return Status::from_errno(errno, "cannot open cache device " + path);
  }
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return Status::from_errno(errno, "cannot inspect cache device " + path);
  if (!S_ISREG(st.st_mode) && !(S_ISCHR(st.st_mode) && is_device_dax(st))) {
    return Status(Errc::invalid, path + " is neither a file nor a device-DAX node; a cache device must be one of them");
  }
  if (S_ISREG(st.st_mode) && st.st_size == 0) {
    return Status(Errc::invalid, path + " is empty; make a cache device of it with pcachefs format");
  }
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Status(Errc::busy, "cache device " + path + " is in use by another process");
    return Status::from_errno(errno, "cannot lock cache device " + path);
  }

  pmem2_config* raw_config = nullptr;
  if (pmem2_config_new(&raw_config) != 0) return pmem2_error(path, "no configuration for a mapping");
  const std::unique_ptr<pmem2_config, ConfigDeleter> config(raw_config);
  if (pmem2_config_set_required_store_granularity(config.get(), PMEM2_GRANULARITY_PAGE) != 0) {
    return pmem2_error(path, "no granularity for a mapping");
  }
  pmem2_source* raw_source = nullptr;
  if (pmem2_source_from_fd(&raw_source, fd.get()) != 0) return pmem2_error(path, "it cannot be mapped");
  const std::unique_ptr<pmem2_source, SourceDeleter> source(raw_source);
  pmem2_map* map = nullptr;
  if (pmem2_map_new(&map, config.get(), source.get()) != 0) return pmem2_error(path, "it cannot be mapped");
  install_media_guard();
  return std::unique_ptr<PmemSpace>(std::make_unique<Pmem2Space>(path, std::move(fd), map));
}

}  // namespace pcache
