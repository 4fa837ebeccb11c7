#include "pmem/pmem2_space.h"

#include <fcntl.h>
#include <libpmem2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/file_lock.h"
#include "base/units.h"
#include "pmem/media_guard.h"

namespace pcache {
namespace {

struct ConfigDeleter {
  void operator()(pmem2_config* config) const { pmem2_config_delete(&config); }
};
struct SourceDeleter {
  void operator()(pmem2_source* source) const { pmem2_source_delete(&source); }
};

struct MapDeleter {
  void operator()(pmem2_map* map) const { pmem2_map_delete(&map); }
};

using Config = std::unique_ptr<pmem2_config, ConfigDeleter>;
using Source = std::unique_ptr<pmem2_source, SourceDeleter>;

struct ReservationDeleter {
  void operator()(pmem2_vm_reservation* reservation) const { pmem2_vm_reservation_delete(&reservation); }
};

// How many times as long as it is a cache device may become while it is mapped: addresses, which cost nothing.
constexpr std::size_t kGrowth = 8;

constexpr std::size_t kHugePage = 2 << 20;

// Addresses that begin where a huge page may.
pmem2_vm_reservation* reserve_addresses(std::size_t size) {
  pmem2_vm_reservation* reservation = nullptr;
  void* const hole = mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (hole == MAP_FAILED) return nullptr;
  munmap(hole, size + kHugePage);
  void* const begin = reinterpret_cast<void*>(align_up(reinterpret_cast<std::uintptr_t>(hole), kHugePage));
  // Somebody else may have taken them meanwhile.
  if (pmem2_vm_reservation_new(&reservation, begin, size) == 0) return reservation;
  return pmem2_vm_reservation_new(&reservation, nullptr, size) == 0 ? reservation : nullptr;
}

Status cannot_map(const std::string& path) {
  return Status(Errc::failed, "cannot map cache device " + path + ": " + pmem2_errormsg());
}

Status make_config(PmemAccess access, const std::string& path, Config& config) {
  pmem2_config* raw = nullptr;
  if (pmem2_config_new(&raw) != 0) return cannot_map(path);
  config.reset(raw);
  // The coarsest that we can live with, so that any medium will do.
  if (pmem2_config_set_required_store_granularity(raw, PMEM2_GRANULARITY_PAGE) != 0) return cannot_map(path);
  if (access == PmemAccess::inspect && pmem2_config_set_protection(raw, PMEM2_PROT_READ) != 0) return cannot_map(path);
  return Status();
}

Status open_source(int fd, const std::string& path, Source& source) {
  pmem2_source* raw = nullptr;
  if (pmem2_source_from_fd(&raw, fd) != 0) return cannot_map(path);
  source.reset(raw);
  return Status();
}

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

// A device-DAX node is a character device whose subsystem is "dax".
bool is_device_dax(const struct stat& st) {
  const std::string link =
      "/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" + std::to_string(minor(st.st_rdev)) + "/subsystem";
  char target[PATH_MAX];
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  return length > 0 && std::string(target, static_cast<std::size_t>(length)).ends_with("/dax");
}

Status check_kind(const struct stat& st, const std::string& path) {
  if (S_ISDIR(st.st_mode)) {
    return Status(Errc::invalid, path + " is a directory; name a file in it or a device-DAX node as the cache device");
  }
  if (!S_ISREG(st.st_mode) && !(S_ISCHR(st.st_mode) && is_device_dax(st))) {
    return Status(Errc::invalid, path + " is neither a file nor a device-DAX node; a cache device must be one of them");
  }
  if (!S_ISREG(st.st_mode)) return Status();
  if (st.st_size == 0) {
    return Status(Errc::integrity, path + " is empty; make a cache device of it with pcachefs format");
  }
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (!is_aligned(static_cast<std::uint64_t>(st.st_size), page)) {
    return Status(Errc::integrity, path + " has " + std::to_string(st.st_size) + " bytes, not a multiple of " +
                                       std::to_string(page) +
                                       ": it is not a pcachefs cache device, or was truncated; "
                                       "restore it, or format it anew");
  }
  return Status();
}

Status lock_exclusively(int fd, const struct stat& st, const std::string& path) {
  const int error = try_lock_exclusively(fd, S_ISCHR(st.st_mode));
  if (error == 0) return Status();
  if (error == EWOULDBLOCK) {
    return Status(Errc::busy,
                  "cache device " + path + " is in use, by this or another process; unmount it there first");
  }
  return Status::from_errno(error, "cannot lock cache device " + path);
}

}  // namespace

Pmem2Space::Pmem2Space(std::string path, UniqueFd fd, pmem2_map* map, pmem2_vm_reservation* reservation,
                       PmemAccess access)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      map_(map),
      reservation_(reservation),
      access_(access),
      base_(static_cast<std::byte*>(pmem2_map_get_address(map))),
      size_(pmem2_map_get_size(map)),
      mapped_(size_),
      granularity_(granularity_of(map)),
      copy_(pmem2_get_memcpy_fn(map)),
      drain_(pmem2_get_drain_fn(map)),
      persist_(pmem2_get_persist_fn(map)) {}

Pmem2Space::~Pmem2Space() {
  for (pmem2_map* map : further_) pmem2_map_delete(&map);
  pmem2_map_delete(&map_);
  if (reservation_ != nullptr) pmem2_vm_reservation_delete(&reservation_);
}

bool Pmem2Space::write(std::size_t offset, const void* source, std::size_t length) {
  PCACHE_CHECK(contains(offset, length), "a store outside the cache device");
  PCACHE_CHECK(access_ == PmemAccess::use, "a store to a cache device that is only inspected");
  std::byte* const to = base_ + offset;
  if (granularity_ == Granularity::page) return guarded([&] { std::memcpy(to, source, length); });
  return guarded([&] { copy_(to, source, length, PMEM2_F_MEM_NODRAIN | PMEM2_F_MEM_NONTEMPORAL); });
}

void Pmem2Space::drain() {
  if (granularity_ != Granularity::page) drain_();
}

Status Pmem2Space::persist(std::size_t offset, std::size_t length) {
  PCACHE_CHECK(contains(offset, length), "a range outside the cache device");
  if (granularity_ != Granularity::page) {
    // Writing back the lines of a page that is gone faults as a store does.
    if (guarded([&] { persist_(base_ + offset, length); })) return Status();
    return Status(Errc::failed, path_ + ": the medium failed while content was made durable; is the file truncated?");
  }
  // libpmem2's persist function gives no result; the system call that it makes does.
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t begin = align_down(offset, page);
  const std::size_t end = std::min(align_up(offset + length, page), size());
  if (msync(base_ + begin, end - begin, MS_SYNC) != 0) {
    return Status::from_errno(errno, path_ + ": cannot make the cache device's content durable");
  }
  return check_length(end);  // what lies beyond the end of a truncated file is skipped without an error
}

Status Pmem2Space::health() const {
  const std::unique_lock lock(size_mutex_, std::try_to_lock);
  return lock ? check_length(size()) : Status();  // whose size changes just now, which may take long, is there
}

Status Pmem2Space::check_length(std::size_t end) const {
  if (struct stat st{};
      fstat(fd_.get(), &st) != 0 || (S_ISREG(st.st_mode) && static_cast<std::size_t>(st.st_size) < end)) {
    return Status(Errc::failed, path_ + ": the cache device was truncated while it was in use");
  }
  return Status();
}

std::size_t Pmem2Space::available() const {
  struct stat st {};
  if (fstat(fd_.get(), &st) != 0) return size();
  std::size_t there = static_cast<std::size_t>(st.st_size);
  if (!S_ISREG(st.st_mode)) {
    Source source;
    if (!open_source(fd_.get(), path_, source).ok() || pmem2_source_size(source.get(), &there) != 0) return size();
  }
  return align_down(there, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
}

// Persist order: all blocks of the file, then its length. On failure it has the length that it had: what was allocated
// of the rest is given back.
Status Pmem2Space::allocate(std::size_t from, std::size_t to) const {
  const std::size_t there = available();
  const int error = to > from ? posix_fallocate(fd_.get(), static_cast<off_t>(from), static_cast<off_t>(to - from)) : 0;
  if (error == 0 && fsync(fd_.get()) == 0) return Status();
  Status failure =
      Status::from_errno(error != 0 ? error : errno, path_ + ": cannot allocate " + std::to_string(to) + " bytes");
  if (to > there && ftruncate(fd_.get(), static_cast<off_t>(there)) != 0) {
    return Status::from_errno(errno, path_ + ": cannot make it as short again as it was");
  }
  return failure;
}

Status Pmem2Space::grow(std::size_t from, std::size_t to) {
  const std::lock_guard lock(size_mutex_);
  if (!is_aligned(to, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)))) {
    return Status(Errc::invalid, path_ + " cannot have " + std::to_string(to) + " bytes, which are no whole pages");
  }
  if (to > mapped_ && (reservation_ == nullptr || to > pmem2_vm_reservation_get_size(reservation_))) {
    return Status(Errc::invalid, path_ + " cannot grow to " + std::to_string(to) +
                                     " bytes while it is mounted: there is room for " + std::to_string(kGrowth) +
                                     " times what it had then");
  }
  struct stat st {};
  if (fstat(fd_.get(), &st) != 0) return Status::from_errno(errno, "cannot inspect " + path_);
  if (S_ISREG(st.st_mode)) {
    if (Status status = allocate(from, to); !status.ok()) return status;
  } else if (const std::size_t there = available(); to > there) {
    return Status(Errc::invalid, path_ + " has only " + std::to_string(there) + " bytes");
  }
  if (to > mapped_) {
    if (Status status = map_more(to); !status.ok()) return status;
  }
  size_.store(std::max(size(), to), std::memory_order_release);
  return Status();
}

// What was mapped before a file became shorter is mapped still.
Status Pmem2Space::map_more(std::size_t to) {
  Source source;  // a new one, since it knows the length
  if (Status status = open_source(fd_.get(), path_, source); !status.ok()) return status;
  Config config;
  if (Status status = make_config(access_, path_, config); !status.ok()) return status;
  further_.reserve(further_.size() + 1);
  pmem2_map* map = nullptr;
  if (pmem2_config_set_offset(config.get(), mapped_) != 0 || pmem2_config_set_length(config.get(), to - mapped_) != 0 ||
      pmem2_config_set_vm_reservation(config.get(), reservation_, mapped_) != 0 ||
      pmem2_map_new(&map, config.get(), source.get()) != 0) {
    return cannot_map(path_);
  }
  further_.push_back(map);
  mapped_ = to;
  return Status();
}

Status Pmem2Space::shrink(std::size_t size) {
  const std::lock_guard lock(size_mutex_);
  PCACHE_CHECK(size <= this->size(), "a cache device becomes longer by being shrunk");
  size_.store(size, std::memory_order_release);
  struct stat st {};
  if (fstat(fd_.get(), &st) != 0) return Status::from_errno(errno, "cannot inspect " + path_);
  if (S_ISREG(st.st_mode) && ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    return Status::from_errno(
        errno, path_ + ": cannot truncate it; what is behind byte " + std::to_string(size) + " is not used any more");
  }
  return Status();
}

void Pmem2Space::prefault(std::size_t offset, std::size_t length) {
  PCACHE_CHECK(contains(offset, length), "a range outside the cache device");
  if (granularity_ == Granularity::page) return;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t begin = align_down(offset, page);
  (void)madvise(base_ + begin, std::min(align_up(offset + length, page), size()) - begin, MADV_POPULATE_WRITE);
}

bool Pmem2Space::read(std::size_t offset, void* destination, std::size_t length) const {
  PCACHE_CHECK(contains(offset, length), "a load outside the cache device");
  const std::byte* const from = base_ + offset;
  return guarded([&] { std::memcpy(destination, from, length); });
}

Result<std::unique_ptr<PmemSpace>> open_pmem_space(const std::string& path, PmemAccess access) {
  const std::string cannot_open = "cannot open cache device " + path;
  struct stat st {};
  // Before opening, which blocks on a pipe and has effects on some devices; then what was opened.
  if (stat(path.c_str(), &st) != 0) return Status::from_errno(errno, cannot_open);
  if (Status status = check_kind(st, path); !status.ok()) return status;
  const bool read_only = access == PmemAccess::inspect;
  UniqueFd fd(open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return Status::from_errno(errno, cannot_open);
  if (Status status = lock_exclusively(fd.get(), st, path); !status.ok()) return status;
  // Under the lock: whoever held it before may have resized the file.
  if (fstat(fd.get(), &st) != 0) return Status::from_errno(errno, cannot_open);
  if (Status status = check_kind(st, path); !status.ok()) return status;

  Config config;
  if (Status status = make_config(access, path, config); !status.ok()) return status;
  Source source;
  if (Status status = open_source(fd.get(), path, source); !status.ok()) return status;
  std::size_t size = 0;
  if (pmem2_source_size(source.get(), &size) != 0) return cannot_map(path);
  // Where there are not that many addresses, it cannot grow while it is mapped.
  std::unique_ptr<pmem2_vm_reservation, ReservationDeleter> reservation(read_only ? nullptr
                                                                                  : reserve_addresses(kGrowth * size));
  if (reservation != nullptr && pmem2_config_set_vm_reservation(config.get(), reservation.get(), 0) != 0) {
    return cannot_map(path);
  }
  pmem2_map* raw_map = nullptr;
  if (pmem2_map_new(&raw_map, config.get(), source.get()) != 0) return cannot_map(path);
  std::unique_ptr<pmem2_map, MapDeleter> map(raw_map);
  install_media_guard();
  auto space = std::make_unique<Pmem2Space>(path, std::move(fd), map.get(), reservation.get(), access);
  (void)map.release();  // they are the space's from here on
  (void)reservation.release();
  return std::unique_ptr<PmemSpace>(std::move(space));
}

}  // namespace pcache
