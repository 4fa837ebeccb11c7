// A block device or file through io_uring.

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "io/backing_probe.h"
#include "pcache/backing_dev.h"

namespace pcache {
namespace {

constexpr unsigned kRingEntries = 256;
constexpr std::size_t kZeroBufferBytes = kMiB;

class UringBackingDev final : public BackingDev {
 public:
  UringBackingDev(std::string path, UniqueFd fd, BackingIdentity identity, bool is_block_device)
      : path_(std::move(path)), fd_(std::move(fd)), identity_(std::move(identity)), is_block_device_(is_block_device) {}

  ~UringBackingDev() override {
    if (!reaper_.joinable()) return;
    {
      std::unique_lock lock(mutex_);
      drained_.wait(lock, [this] { return in_flight_ == 0 && waiting_.empty(); });
      // A no-op without a request wakes the reaper.
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data(sqe, nullptr);
      io_uring_submit(&ring_);
    }
    reaper_.join();
    io_uring_queue_exit(&ring_);
  }

  Status start() {
    if (const int error = io_uring_queue_init(kRingEntries, &ring_, 0); error < 0) {
      return Status::from_errno(-error, "cannot set up io_uring for backing device " + path_);
    }
    reaper_ = std::thread([this] { reap(); });
    return Status();
  }

  std::uint64_t size_bytes() const override { return identity_.size_bytes; }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }

  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    if (!accepts(offset, buffer.size(), done)) return;
    Request* request = make(Kind::read, offset, buffer.size(), done);
    request->parts.push_back({buffer.data(), buffer.size()});
    submit(request);
  }

  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override {
    std::uint64_t length = 0;
    for (const iovec& part : parts) length += part.iov_len;
    if (!accepts(offset, length, done)) return;
    Request* request = make(Kind::write, offset, length, done);
    request->parts.assign(parts.begin(), parts.end());
    submit(request);
  }

  void flush(Completion done) override { submit(make(Kind::flush, 0, 0, done)); }

  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override {
    if (!accepts(offset, length, done)) return;
    submit(make(can_zero_ ? Kind::zero : Kind::write_zero_buffer, offset, length, done));
  }

 private:
  enum class Kind { read, write, flush, zero, write_zero_buffer };

  // One operation; what is left of it after a short transfer goes out again.
  struct Request {
    Kind kind = Kind::read;
    std::uint64_t offset = 0;
    std::uint64_t left = 0;
    std::vector<iovec> parts;
    std::size_t first_part = 0;
    Completion done;
  };

  bool accepts(std::uint64_t offset, std::uint64_t length, Completion done) {
    const bool ok = is_aligned(offset, kSectorSize) && is_aligned(length, kSectorSize) &&
                    offset <= size_bytes() && length <= size_bytes() - offset;
    if (!ok) {
      done(EINVAL);
    } else if (length == 0) {
      done(0);
    }
    return ok && length != 0;
  }

  Request* make(Kind kind, std::uint64_t offset, std::uint64_t length, Completion done) {
    Request* request = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (!spare_.empty()) {
        request = spare_.back().release();
        spare_.pop_back();
      }
    }
    if (request == nullptr) request = new Request;
    request->kind = kind;
    request->offset = offset;
    request->left = length;
    request->parts.clear();
    request->first_part = 0;
    request->done = done;
    return request;
  }

  // Never blocks: what does not fit into the ring waits in a queue, first come first served.
  void submit(Request* request) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(request);
    submit_waiting();
  }

  void submit_waiting() {
    unsigned prepared = 0;
    while (!waiting_.empty() && in_flight_ < kRingEntries) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      Request* request = waiting_.front();
      waiting_.pop_front();
      prepare(sqe, request);
      io_uring_sqe_set_data(sqe, request);
      ++in_flight_;
      ++prepared;
    }
    if (prepared != 0) io_uring_submit(&ring_);
  }

  void prepare(io_uring_sqe* sqe, Request* request) {
    const iovec* parts = request->parts.data() + request->first_part;
    const auto count = static_cast<unsigned>(request->parts.size() - request->first_part);
    switch (request->kind) {
      case Kind::read:
        io_uring_prep_readv(sqe, fd_.get(), parts, count, request->offset);
        break;
      case Kind::write:
        io_uring_prep_writev(sqe, fd_.get(), parts, count, request->offset);
        break;
      case Kind::flush:
        io_uring_prep_fsync(sqe, fd_.get(), IORING_FSYNC_DATASYNC);
        break;
      case Kind::zero:
        io_uring_prep_fallocate(sqe, fd_.get(),
                                FALLOC_FL_KEEP_SIZE | (is_block_device_ ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE),
                                static_cast<off_t>(request->offset), static_cast<off_t>(request->left));
        break;
      case Kind::write_zero_buffer:
        io_uring_prep_write(sqe, fd_.get(), zeroes().data(),
                            static_cast<unsigned>(std::min<std::uint64_t>(request->left, kZeroBufferBytes)),
                            request->offset);
        break;
    }
  }

  static AlignedBuffer& zeroes() {
    static AlignedBuffer buffer = [] {
      AlignedBuffer b(kZeroBufferBytes);
      std::fill_n(b.data(), b.size(), std::byte{0});
      return b;
    }();
    return buffer;
  }

  void reap() {
    pthread_setname_np(pthread_self(), "backing");
    for (;;) {
      io_uring_cqe* cqe = nullptr;
      const int error = io_uring_wait_cqe(&ring_, &cqe);
      if (error == -EINTR || error == -EAGAIN) continue;
      if (error < 0) std::abort();  // the ring itself is broken: nothing can be acknowledged any more
      auto* request = static_cast<Request*>(io_uring_cqe_get_data(cqe));
      const int result = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (request != nullptr) {
        finish(request, result);
      } else {
        return;
      }
    }
  }

  void finish(Request* request, int result) {
    int error = 0;
    bool again = false;
    if (result < 0) {
      again = result == -EINTR || result == -EAGAIN;
      error = -result;
      if (request->kind == Kind::zero && (error == EOPNOTSUPP || error == ENOSYS || error == EINVAL)) {
        can_zero_ = false;
        request->kind = Kind::write_zero_buffer;
        again = true;
      }
    } else if (request->kind == Kind::read || request->kind == Kind::write || request->kind == Kind::write_zero_buffer) {
      // Nothing transferred inside the device's size: it has become shorter.
      if (result == 0) {
        error = EIO;
      } else {
        advance(*request, static_cast<std::uint64_t>(result));
        again = request->left != 0;
      }
    }
    if (!again) {
      const Completion done = request->done;
      done(error);  // before it counts as ended, so that the destructor waits for it
    }
    const std::lock_guard lock(mutex_);
    --in_flight_;
    if (again) {
      waiting_.push_front(request);
    } else {
      spare_.emplace_back(request);
    }
    submit_waiting();
    if (in_flight_ == 0 && waiting_.empty()) drained_.notify_all();
  }

  static void advance(Request& request, std::uint64_t transferred) {
    request.offset += transferred;
    request.left -= std::min(request.left, transferred);
    while (transferred != 0 && request.first_part < request.parts.size()) {
      iovec& part = request.parts[request.first_part];
      const std::uint64_t step = std::min<std::uint64_t>(transferred, part.iov_len);
      part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
      part.iov_len -= step;
      transferred -= step;
      if (part.iov_len == 0) ++request.first_part;
    }
  }

  const std::string path_;
  const UniqueFd fd_;
  const BackingIdentity identity_;
  const bool is_block_device_;
  std::atomic<bool> can_zero_{true};
  io_uring ring_{};
  std::mutex mutex_;  // guards submission to the ring and all below
  std::condition_variable drained_;
  std::deque<Request*> waiting_;
  std::vector<std::unique_ptr<Request>> spare_;
  unsigned in_flight_ = 0;
  std::thread reaper_;
};

// Takes both kinds of lock on the file, since another opener may know only one of them.
Status lock_exclusively(int fd, const std::string& path) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0) return Status();
  if (errno == EWOULDBLOCK || errno == EAGAIN || errno == EACCES) {
    return Status(Errc::busy, "backing device " + path + " is in use by another process or logical device");
  }
  return Status::from_errno(errno, "cannot lock backing device " + path);
}

}  // namespace

Result<std::unique_ptr<BackingDev>> open_backing_dev(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Status::from_errno(errno, "cannot open backing device " + path);
  const bool is_block_device = S_ISBLK(st.st_mode);
  if (!is_block_device && !S_ISREG(st.st_mode)) {
    return Status(Errc::invalid, path + " is neither a block device nor a file; a backing device must be one of them");
  }
  const int flags = O_RDWR | O_CLOEXEC | (is_block_device ? O_EXCL : 0);
  UniqueFd fd(open(path.c_str(), flags | O_DIRECT));
  // Some filesystems know no direct I/O; there the page cache is in between, and flush is what makes data durable.
  if (!fd && errno == EINVAL) fd.reset(open(path.c_str(), flags));
  if (!fd) {
    if (errno == EBUSY) return Status(Errc::busy, "backing device " + path + " is mounted or in use");
    return Status::from_errno(errno, "cannot open backing device " + path + " for reading and writing");
  }
  if (is_block_device) {
    int read_only = 0;
    if (ioctl(fd.get(), BLKROGET, &read_only) == 0 && read_only != 0) {
      return Status(Errc::permission, "backing device " + path + " is read-only");
    }
  }
  if (Status status = lock_exclusively(fd.get(), path); !status.ok()) return status;
  auto identity = identify_backing(fd.get(), path);
  if (!identity) return identity.status();
  auto device =
      std::make_unique<UringBackingDev>(path, std::move(fd), std::move(identity).value(), is_block_device);
  if (Status status = device->start(); !status.ok()) return status;
  return std::unique_ptr<BackingDev>(std::move(device));
}

}  // namespace pcache
