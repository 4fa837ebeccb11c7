// Making a cache device, without destroying anything by mistake.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/file_lock.h"
#include "base/no_throw.h"
#include "base/size_text.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "cache/cache.h"
#include "device/foreign_content.h"
#include "device/open_space.h"
#include "pcache/device_manager.h"
#include "pcache/pmem_space.h"
#include "segment/cache_dev.h"

namespace pcache {
namespace {

// Whether a file at `path`, of which `allocated` bytes are there already, can become a cache device of `size` bytes.
Status check_size(int fd, const std::string& path, std::uint64_t size, std::uint64_t allocated,
                  const FormatOptions& options) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (size > static_cast<std::uint64_t>(INT64_MAX)) return Status(Errc::invalid, path + ": the size is too large");
  if (!is_aligned(size, page)) {
    return Status(Errc::invalid, path + ": a size of " + std::to_string(size) + " bytes is not a multiple of " +
                                     std::to_string(page) + "; give another --size");
  }
  if (const auto plan = CacheDev::plan(path, size, options.segment_size_bytes); !plan) return plan.status();
  struct statvfs fs {};
  const std::uint64_t missing = size - std::min(size, allocated);
  if (fstatvfs(fd, &fs) == 0 && missing / fs.f_frsize > fs.f_bavail) {
    return Status(Errc::no_space, path + ": " + format_size(size) + " do not fit, its filesystem has " +
                                      format_size(fs.f_bavail * fs.f_frsize) + " left");
  }
  return Status();
}

// Makes the file `size` bytes long, all of them allocated: a store to a hole that the filesystem cannot fill would be a
// SIGBUS. On failure the file has `old_size` bytes, as before.
Status resize(int fd, const std::string& path, std::uint64_t old_size, std::uint64_t size) {
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) return Status::from_errno(errno, "cannot resize " + path);
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(size));
  if (error == 0) return Status();
  if (size > old_size && ftruncate(fd, static_cast<off_t>(old_size)) != 0) {
    return Status::from_errno(errno, "cannot resize " + path + " back");
  }
  return Status::from_errno(error, "cannot allocate " + format_size(size) + " for " + path);
}

Status write_format(const std::string& path, const FormatOptions& options) {
  auto space = open_pmem_space(path);
  if (!space) return space.status();
  CacheDev::FormatParams params;
  uuid_generate(params.uuid.data());
  params.label = label_of_new(path, options);
  params.segment_size = options.segment_size_bytes;
  return CacheDev::format(**space, params);
}

Status make_file(const std::string& path, const FormatOptions& options) {
  if (!options.size_bytes) {
    return Status(Errc::invalid, path + " does not exist; give --size to make a cache file there");
  }
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return Status::from_errno(errno, "cannot make cache file " + path);
  const Status status = no_throw("cannot format " + path, [&] {
    Status made = check_size(fd.get(), path, *options.size_bytes, 0, options);
    if (made.ok()) made = resize(fd.get(), path, 0, *options.size_bytes);
    if (made.ok()) made = write_format(path, options);
    return made;
  });
  if (!status.ok()) unlink(path.c_str());
  return status;
}

Status may_be_dirty(const std::string& path, const std::string& why) {
  return Status(Errc::dirty, path + " is a pcachefs cache device that cannot be read (" + why +
                                 ") and may hold dirty data; use --discard-dirty to give that up");
}

// Whether the cache device in `space` may go. Changes nothing.
Status check_cache(std::unique_ptr<PmemSpace> space, const FormatOptions& options, bool& is_cache) {
  const std::string path = space->path();
  for (const std::uint64_t offset : {std::uint64_t{0}, kMediaPage}) {
    Superblock copy;
    if (space->size() < offset + sizeof copy || !space->read(offset, &copy, sizeof copy)) continue;
    if (copy.signature == Superblock::kSignature) is_cache = true;
  }
  if (!is_cache || !options.force || options.discard_dirty) return Status();
  auto cache_dev = CacheDev::open(std::move(space), CacheDev::Access::inspect);
  if (!cache_dev) return may_be_dirty(path, cache_dev.status().message());
  const auto dirty = count_dirty_bytes(std::move(*cache_dev));
  if (!dirty || *dirty != 0) {
    return Status(Errc::dirty, path + " holds " + (dirty ? format_size(*dirty) + " of" : std::string("unreadable")) +
                                   " data that is not on a backing device yet; mount it and flush, or use "
                                   "--discard-dirty to give that up");
  }
  return Status();
}

// The same for a file with part of a page, which cannot be mapped as a cache device: one that was cut short.
Status check_cut_cache(int fd, const std::string& path, const FormatOptions& options, bool& is_cache) {
  if (const int error = try_lock_exclusively(fd); error != 0) {
    return error == EWOULDBLOCK ? Status(Errc::busy, path + " is in use by another process")
                                : Status::from_errno(error, "cannot lock " + path);
  }
  const auto was_one = has_superblock(fd, path);
  if (!was_one) return was_one.status();
  is_cache = *was_one;
  return is_cache && options.force && !options.discard_dirty ? may_be_dirty(path, "it was cut short") : Status();
}

Status format_checked(const std::string& path, const FormatOptions& options) {
  if (Status status = check_cache_dev_label(options.label); !status.ok()) return status;
  if (options.segment_size_bytes != 0 && !compute_geometry(INT64_MAX / 2, options.segment_size_bytes)) {
    return Status(Errc::invalid, "a segment size of " + format_size(options.segment_size_bytes) +
                                     " is not allowed; use a power of two from 256K to 64M");
  }
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) {
    return errno == ENOENT ? make_file(path, options) : Status::from_errno(errno, "cannot inspect " + path);
  }
  if (!S_ISREG(st.st_mode) && options.size_bytes) {
    return Status(Errc::invalid, path + " is not a file; --size is only for files");
  }

  bool is_cache = false;
  const bool is_file = S_ISREG(st.st_mode);
  const auto old_size = static_cast<std::uint64_t>(st.st_size);
  if (is_file && !is_aligned(old_size, static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)))) {
    // Locked by a descriptor that goes before the file is opened as a cache device.
    const UniqueFd own(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!own) return Status::from_errno(errno, "cannot open " + path);
    if (Status status = check_cut_cache(own.get(), path, options, is_cache); !status.ok()) return status;
  } else if (!is_file || old_size != 0) {
    auto space = open_pmem_space(path);
    if (!space) return space.status();
    if (Status status = check_cache(std::move(*space), options, is_cache); !status.ok()) return status;
  }
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return Status::from_errno(errno, "cannot open " + path);
  if (!options.force) {
    const Result<std::string> content =
        is_cache ? Result<std::string>("a pcachefs cache device") : describe_content(fd.get(), path);
    if (!content) return content.status();
    if (!content->empty()) {
      return Status(Errc::busy, path + " holds " + *content + "; use --force to overwrite it");
    }
  }
  if (is_file) {
    const std::uint64_t size = options.size_bytes.value_or(old_size);
    if (size == 0) return Status(Errc::invalid, path + " is empty; give --size");
    const std::uint64_t allocated = static_cast<std::uint64_t>(st.st_blocks) * 512;
    if (Status status = check_size(fd.get(), path, size, allocated, options); !status.ok()) return status;
    if (Status status = resize(fd.get(), path, old_size, size); !status.ok()) return status;
  }
  return write_format(path, options);
}

}  // namespace

std::string label_of_new(const std::string& path, const FormatOptions& options) {
  if (!options.label.empty()) return options.label;
  std::string label = std::filesystem::path(path).stem().string().substr(0, 63);
  for (char& c : label) {
    if (!check_cache_dev_label(std::string(1, c)).ok()) c = '-';
  }
  return label.empty() ? "cache" : label;
}

Status format_cache_dev(const std::string& path, const FormatOptions& options) {
  return no_throw("cannot format " + path, [&] { return format_checked(path, options); });
}

}  // namespace pcache
