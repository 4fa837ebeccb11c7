// Making a cache device, without destroying anything by mistake.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <cctype>
#include <cerrno>
#include <filesystem>

#include "base/size_text.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "cache/cache.h"
#include "device/foreign_content.h"
#include "pcache/device_manager.h"
#include "pcache/pmem_space.h"
#include "segment/cache_dev.h"

namespace pcache {
namespace {

Status check_label(const std::string& label) {
  if (label.size() > 63)
    return Status(Errc::invalid, "the label has " + std::to_string(label.size()) + " characters, 63 are allowed");
  for (const char c : label) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '.' && c != '-') {
      return Status(Errc::invalid, "label '" + label + "' contains '" + std::string(1, c) +
                                       "'; letters, digits, '_', '.' and '-' are allowed");
    }
  }
  return Status();
}

std::string label_from(const std::string& path) {
  std::string label = std::filesystem::path(path).stem().string().substr(0, 63);
  for (char& c : label) {
    if (!check_label(std::string(1, c)).ok()) c = '-';
  }
  return label.empty() ? "cache" : label;
}

// Fully allocated: a store to a hole that the filesystem cannot fill would be a SIGBUS.
Status allocate(int fd, const std::string& path, std::uint64_t size) {
  if (size > static_cast<std::uint64_t>(INT64_MAX)) return Status(Errc::invalid, path + ": the size is too large");
  struct statvfs fs {};
  if (fstatvfs(fd, &fs) == 0 && size / fs.f_frsize > fs.f_bavail) {
    return Status(Errc::no_space, path + ": " + format_size(size) + " do not fit, its filesystem has " +
                                      format_size(fs.f_bavail * fs.f_frsize) + " left");
  }
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(size)); error != 0) {
    return Status::from_errno(error, "cannot allocate " + format_size(size) + " for " + path);
  }
  return Status();
}

Status write_format(const std::string& path, const FormatOptions& options) {
  auto space = open_pmem_space(path);
  if (!space) return space.status();
  CacheDev::FormatParams params;
  uuid_generate(params.uuid.data());
  params.label = options.label.empty() ? label_from(path) : options.label;
  params.segment_size = options.segment_size_bytes;
  return CacheDev::format(**space, params);
}

Status make_file(const std::string& path, const FormatOptions& options) {
  if (!options.size_bytes) {
    return Status(Errc::invalid, path + " does not exist; give --size to make a cache file there");
  }
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return Status::from_errno(errno, "cannot make cache file " + path);
  Status status = allocate(fd.get(), path, *options.size_bytes);
  if (status.ok()) status = write_format(path, options);
  if (!status.ok()) unlink(path.c_str());
  return status;
}

// Whether the cache device that `path` holds, if it does, may go.
Status check_cache(const std::string& path, const FormatOptions& options, bool& is_cache) {
  auto space = open_pmem_space(path);
  if (!space) return space.status();
  Superblock copies[2];
  for (int i = 0; i < 2; ++i) {
    if ((*space)->size() < 2 * kMediaPage || !(*space)->read(i * kMediaPage, &copies[i], sizeof copies[i])) continue;
    if (copies[i].signature == Superblock::kSignature) is_cache = true;
  }
  if (!is_cache) return Status();
  if (!options.force) {
    return Status(Errc::busy, path + " is a pcachefs cache device already; use --force to make a new one of it");
  }
  if (options.discard_dirty) return Status();
  auto cache_dev = CacheDev::open(std::move(*space));
  if (!cache_dev) {
    return Status(Errc::dirty, path + " is a pcachefs cache device that cannot be read (" +
                                   cache_dev.status().message() +
                                   ") and may hold dirty data; use --discard-dirty to give that up");
  }
  const auto dirty = count_dirty_bytes(std::move(*cache_dev));
  if (!dirty || *dirty != 0) {
    return Status(Errc::dirty, path + " holds " + (dirty ? format_size(*dirty) + " of" : std::string("unreadable")) +
                                   " data that is not on a backing device yet; mount it and flush, or use "
                                   "--discard-dirty to give that up");
  }
  return Status();
}

}  // namespace

Status format_cache_dev(const std::string& path, const FormatOptions& options) {
  if (Status status = check_label(options.label); !status.ok()) return status;
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
  if (!S_ISREG(st.st_mode) || st.st_size != 0) {
    if (Status status = check_cache(path, options, is_cache); !status.ok()) return status;
  }
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return Status::from_errno(errno, "cannot open " + path);
  if (!is_cache && !options.force) {
    const auto content = describe_content(fd.get(), path);
    if (!content) return content.status();
    if (!content->empty()) {
      return Status(Errc::busy, path + " holds " + *content + "; use --force to overwrite it");
    }
  }
  if (S_ISREG(st.st_mode)) {
    const std::uint64_t size = options.size_bytes.value_or(static_cast<std::uint64_t>(st.st_size));
    if (size == 0) return Status(Errc::invalid, path + " is empty; give --size");
    if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return Status::from_errno(errno, "cannot resize " + path);
    if (Status status = allocate(fd.get(), path, size); !status.ok()) return status;
  }
  return write_format(path, options);
}

}  // namespace pcache
