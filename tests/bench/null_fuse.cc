// The reference for the mount's own cost: a FUSE server that does nothing but copy to and from populated memory,
// without libfuse and without anything of pcachefs. usage: null_fuse MNT SIZE_MIB [THREADS [POLL_MICROSECONDS]]; serves
// MNT/null until it is unmounted. Each thread reads requests from a descriptor of its own and looks for the next
// request for POLL_MICROSECONDS after each one before it sleeps.

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kMaxWrite = 1 << 20;
constexpr std::size_t kRequestBytes = kMaxWrite + 4096;
constexpr std::uint64_t kFileInode = 2;

[[noreturn]] void die(const std::string& what) {
  std::perror(("null_fuse: " + what).c_str());
  std::exit(1);
}

char* populated(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) die("cannot populate memory");
  return static_cast<char*>(memory);
}

struct Store {
  char* memory;
  std::uint64_t size;
};

fuse_attr attributes(const Store& store, std::uint64_t inode) {
  fuse_attr attr{};
  attr.ino = inode;
  attr.mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0755U : S_IFREG | 0600U;
  attr.nlink = 1;
  attr.size = inode == FUSE_ROOT_ID ? 0 : store.size;
  attr.blksize = 4096;
  return attr;
}

class Reader {
 public:
  Reader(int fd, const Store& store, std::chrono::microseconds look_time)
      : fd_(fd),
        store_(store),
        look_time_(look_time),
        request_(populated(kRequestBytes)),
        data_(populated(kMaxWrite)) {}

  void serve() {
    for (;;) {
      const ssize_t length = read(fd_, request_, kRequestBytes);
      if (length > 0) {
        answer();
        last_ = std::chrono::steady_clock::now();
      } else if (errno == EAGAIN) {
        if (std::chrono::steady_clock::now() - last_ < look_time_) continue;
        pollfd event{fd_, POLLIN, 0};
        poll(&event, 1, -1);
      } else if (errno != EINTR && errno != ENOENT) {
        return;  // ENODEV: unmounted
      }
    }
  }

 private:
  template <typename T>
  const T* body() const {
    return reinterpret_cast<const T*>(request_ + sizeof(fuse_in_header));
  }

  void reply(const void* data, std::size_t length, int error = 0) {
    const auto* in = reinterpret_cast<const fuse_in_header*>(request_);
    fuse_out_header out{static_cast<std::uint32_t>(sizeof out + length), -error, in->unique};
    const iovec parts[2] = {{&out, sizeof out}, {const_cast<void*>(data), length}};
    if (writev(fd_, parts, length == 0 ? 1 : 2) < 0 && errno != ENOENT) die("cannot reply");
  }

  void answer() {
    const auto* in = reinterpret_cast<const fuse_in_header*>(request_);
    switch (in->opcode) {
      case FUSE_INIT: {
        const auto* asked = body<fuse_init_in>();
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = FUSE_KERNEL_MINOR_VERSION;
        out.max_readahead = asked->max_readahead;
        out.flags = (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES) & asked->flags;
        out.max_background = 256;
        out.congestion_threshold = 192;
        out.max_write = kMaxWrite;
        out.time_gran = 1;
        out.max_pages = kMaxWrite / 4096;
        return reply(&out, sizeof out);
      }
      case FUSE_LOOKUP: {
        if (std::strcmp(body<char>(), "null") != 0) return reply(nullptr, 0, ENOENT);
        fuse_entry_out out{};
        out.nodeid = kFileInode;
        out.attr_valid = out.entry_valid = 3600;
        out.attr = attributes(store_, kFileInode);
        return reply(&out, sizeof out);
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr_valid = 3600;
        out.attr = attributes(store_, in->nodeid);
        return reply(&out, sizeof out);
      }
      case FUSE_OPEN: {
        fuse_open_out out{};
        out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
        return reply(&out, sizeof out);
      }
      case FUSE_READ: {
        const auto* wanted = body<fuse_read_in>();
        if (wanted->offset + wanted->size > store_.size) return reply(nullptr, 0, EINVAL);
        std::memcpy(data_, store_.memory + wanted->offset, wanted->size);
        return reply(data_, wanted->size);
      }
      case FUSE_WRITE: {
        const auto* wanted = body<fuse_write_in>();
        if (wanted->offset + wanted->size > store_.size) return reply(nullptr, 0, ENOSPC);
        std::memcpy(store_.memory + wanted->offset, wanted + 1, wanted->size);
        fuse_write_out out{wanted->size, 0};
        return reply(&out, sizeof out);
      }
      case FUSE_FLUSH:
      case FUSE_FSYNC:
      case FUSE_RELEASE:
        return reply(nullptr, 0);
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;
      default:
        return reply(nullptr, 0, ENOSYS);
    }
  }

  const int fd_;
  const Store& store_;
  const std::chrono::microseconds look_time_;
  char* const request_;
  char* const data_;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    std::fprintf(stderr, "usage: null_fuse MNT SIZE_MIB [THREADS [POLL_MICROSECONDS]]\n");
    return 2;
  }
  const Store store{populated(std::strtoull(argv[2], nullptr, 10) << 20), std::strtoull(argv[2], nullptr, 10) << 20};
  const int threads = argc > 3 ? std::atoi(argv[3]) : 2;
  const std::chrono::microseconds look_time(argc > 4 ? std::atoi(argv[4]) : 50);

  std::vector<int> descriptors{open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK)};
  if (descriptors[0] < 0) die("cannot open /dev/fuse");
  const std::string options = "fd=" + std::to_string(descriptors[0]) + ",rootmode=40000,user_id=0,group_id=0";
  if (mount("null_fuse", argv[1], "fuse.null_fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) die("cannot mount");
  for (int i = 1; i < threads; ++i) {
    descriptors.push_back(open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    auto original = static_cast<std::uint32_t>(descriptors[0]);
    if (ioctl(descriptors.back(), FUSE_DEV_IOC_CLONE, &original) != 0) die("cannot clone the descriptor");
  }
  std::vector<std::thread> readers;
  for (const int fd : descriptors) readers.emplace_back([&, fd] { Reader(fd, store, look_time).serve(); });
  for (std::thread& reader : readers) reader.join();
}
