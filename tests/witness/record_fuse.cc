// A mount with a file `backing` that is an image file and records what reaches it.
//
// usage: record_fuse -f -s MNT IMAGE RECORDING
//
// A number written to the file `cut` beside it is a power cut: the backing had a volatile cache, so that each block
// written since the last flush is now what it was at that flush, or what was written last. The number is the seed.
//
// With -s one request is answered before the next is read: what stands before a flush in the recording was complete
// when the flush arrived, and what was not complete then stands after it.

#define FUSE_USE_VERSION 35

#include <fcntl.h>
#include <fuse.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>

#include "tests/witness/recording.h"

namespace {

using witness::Entry;
using witness::EntryKind;

constexpr const char* kBacking = "/backing";
constexpr const char* kCut = "/cut";
constexpr std::uint64_t kBlock = 4096;

using Block = std::array<char, kBlock>;

int image = -1;
int recording = -1;
std::uint64_t image_bytes = 0;
std::map<std::uint64_t, Block> flushed;  // what the blocks written since the last flush were then

[[noreturn]] void die(const std::string& what) {
  std::perror(("record_fuse: " + what).c_str());
  std::exit(1);
}

// A recording with a gap would accuse the wrong one, so that failing to write it ends everything.
void record(EntryKind kind, std::uint64_t offset, std::uint64_t length, const char* data) {
  Entry entry{kind, offset, length};
  const std::array<iovec, 2> parts{iovec{&entry, sizeof entry},
                                   iovec{const_cast<char*>(data), data == nullptr ? 0 : length}};
  const std::size_t total = parts[0].iov_len + parts[1].iov_len;
  if (writev(recording, parts.data(), 2) != static_cast<ssize_t>(total)) die("cannot write the recording");
}

void remember(std::uint64_t offset, std::uint64_t length) {
  for (std::uint64_t block = offset / kBlock; block * kBlock < offset + length; ++block) {
    const auto [it, is_new] = flushed.try_emplace(block);
    if (is_new && pread(image, it->second.data(), kBlock, static_cast<off_t>(block * kBlock)) != kBlock) {
      die("cannot read the image");
    }
  }
}

void cut(unsigned long seed) {
  std::mt19937_64 random(seed);
  for (const auto& [block, content] : flushed) {
    if (random() % 2 != 0) continue;
    if (pwrite(image, content.data(), kBlock, static_cast<off_t>(block * kBlock)) != kBlock)
      die("cannot write the image");
    record(EntryKind::write, block * kBlock, kBlock, content.data());
  }
  record(EntryKind::flush, 0, 0, nullptr);
  flushed.clear();
}

bool inside(off_t offset, std::uint64_t length) {
  return offset >= 0 && length <= image_bytes && static_cast<std::uint64_t>(offset) <= image_bytes - length;
}

int get_attributes(const char* path, struct stat* st, fuse_file_info*) {
  *st = {};
  if (std::strcmp(path, "/") == 0) {
    st->st_ino = 1;
    st->st_mode = S_IFDIR | 0755;
    st->st_nlink = 2;
    return 0;
  }
  const bool is_backing = std::strcmp(path, kBacking) == 0;
  if (!is_backing && std::strcmp(path, kCut) != 0) return -ENOENT;
  st->st_ino = is_backing ? 2 : 3;
  st->st_mode = S_IFREG | 0600;
  st->st_nlink = 1;
  st->st_size = is_backing ? static_cast<off_t>(image_bytes) : 0;
  return 0;
}

int read_directory(const char*, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*, fuse_readdir_flags) {
  for (const char* name : {".", "..", kBacking + 1, kCut + 1}) fill(buffer, name, nullptr, 0, fuse_fill_dir_flags{});
  return 0;
}

int open_file(const char*, fuse_file_info* info) {
  info->direct_io = 1;  // no page cache in between
  return 0;
}

int read_file(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info*) {
  if (std::strcmp(path, kCut) == 0) return 0;
  const ssize_t n = pread(image, buffer, size, offset);
  return n < 0 ? -errno : static_cast<int>(n);
}

int write_file(const char* path, const char* data, std::size_t size, off_t offset, fuse_file_info*) {
  if (std::strcmp(path, kCut) == 0) {
    cut(std::strtoul(std::string(data, size).c_str(), nullptr, 10));
    return static_cast<int>(size);
  }
  if (!inside(offset, size)) return -ENOSPC;
  remember(static_cast<std::uint64_t>(offset), size);
  const ssize_t n = pwrite(image, data, size, offset);
  if (n != static_cast<ssize_t>(size)) die("cannot write the image");
  record(EntryKind::write, static_cast<std::uint64_t>(offset), size, data);
  return static_cast<int>(n);
}

int sync_file(const char*, int, fuse_file_info*) {
  record(EntryKind::flush, 0, 0, nullptr);
  flushed.clear();
  return 0;
}

int allocate(const char*, int mode, off_t offset, off_t length, fuse_file_info*) {
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0 || (mode & FALLOC_FL_KEEP_SIZE) == 0) {
    return -EOPNOTSUPP;
  }
  if (length <= 0 || !inside(offset, static_cast<std::uint64_t>(length))) return -EINVAL;
  remember(static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length));
  if (fallocate(image, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) die("cannot punch the image");
  record(EntryKind::zero, static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length), nullptr);
  return 0;
}

void* start(fuse_conn_info*, fuse_config* config) {
  config->use_ino = 1;  // the backing's identity must not change while this runs
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: record_fuse -f -s MNT IMAGE RECORDING\n");
    return 2;
  }
  const char* image_path = argv[argc - 2];
  const char* recording_path = argv[argc - 1];
  image = open(image_path, O_RDWR | O_CLOEXEC);
  if (image < 0) die(std::string("cannot open ") + image_path);
  struct stat st {};
  if (fstat(image, &st) != 0) die(std::string("cannot inspect ") + image_path);
  image_bytes = static_cast<std::uint64_t>(st.st_size);
  if (image_bytes % kBlock != 0) die("the image is no multiple of 4 KiB");
  recording = open(recording_path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (recording < 0) die(std::string("cannot make ") + recording_path);
  const witness::RecordingHeader header{witness::kMagic, image_bytes};
  if (write(recording, &header, sizeof header) != static_cast<ssize_t>(sizeof header)) die("cannot write the header");

  fuse_operations operations{};
  operations.getattr = get_attributes;
  operations.readdir = read_directory;
  operations.open = open_file;
  operations.read = read_file;
  operations.write = write_file;
  operations.fsync = sync_file;
  operations.fallocate = allocate;
  operations.init = start;
  return fuse_main(argc - 2, argv, &operations, nullptr);
}
