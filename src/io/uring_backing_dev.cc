#include "io/uring_backing_dev.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/units.h"

namespace pcache {
namespace {

constexpr unsigned kRingEntries = 256;
constexpr unsigned kReapBatch = 64;
alignas(4096) constinit std::array<std::byte, kMiB> kZeroes{};  // never written to
// How often in a row an operation may be told to come again before that counts as a failure.
constexpr unsigned kMaxRetries = 100;
// How long a submission that the kernel refused for want of memory waits at most for the next attempt.
constexpr __kernel_timespec kResubmitInterval{1, 0};

std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

class UringBackingDev final : public BackingDev {
 public:
  UringBackingDev(std::string path, UniqueFd fd, BackingIdentity identity)
      : path_(std::move(path)), fd_(std::move(fd)), identity_(std::move(identity)), size_bytes_(identity_.size_bytes) {}

  ~UringBackingDev() override {
    if (!reaper_.joinable()) return;  // start() failed
    {
      std::unique_lock lock(mutex_);
      drained_.wait(lock, [this] { return in_flight_ == 0 && waiting_.empty(); });
      // A no-op without a request ends the reaper.
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data(sqe, nullptr);
      submit_prepared();
    }
    reaper_.join();
    io_uring_queue_exit(&ring_);
    while (!spare_.empty()) delete spare_.pop_front();
  }

  Status start() {
    if (const int error = io_uring_queue_init(kRingEntries, &ring_, 0); error < 0) {
      return Status::from_errno(-error, "cannot set up io_uring for backing device " + path_ +
                                            " (see the sysctl kernel.io_uring_disabled and the limits of a container)");
    }
    try {
      reaper_ = std::thread([this] { reap(); });
    } catch (const std::system_error&) {  // no thread: a shortage like that of memory, and told in the same way
      io_uring_queue_exit(&ring_);
      throw;
    }
    return Status();
  }

  std::uint64_t size_bytes() const override { return size_bytes_.load(std::memory_order_relaxed); }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }

  Result<std::uint64_t> refresh_size() override {
    std::uint64_t size = 0;
    if (const int error = look_at(size); error == ESTALE) {
      return Status(Errc::failed, "backing device " + path_ + " became shorter, or was deleted, while it was in use");
    } else if (error != 0) {
      return Status::from_errno(error, "cannot read the size of backing device " + path_);
    }
    size = std::max(align_down(size, kSectorSize), size_bytes());
    size_bytes_.store(size, std::memory_order_relaxed);
    return size;
  }

  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    if (!accepts(offset, buffer.size(), done)) return;
    const iovec part{buffer.data(), buffer.size()};
    start(Kind::read, offset, buffer.size(), {&part, 1}, done);
  }

  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override {
    std::uint64_t length = 0;
    for (const iovec& part : parts) length += part.iov_len;
    if (!accepts(offset, length, done) || !still_there(done)) return;
    start(Kind::write, offset, length, parts, done);
  }

  void flush(Completion done) override {
    if (still_there(done)) start(Kind::flush, 0, 0, {}, done);
  }

  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override {
    if (!accepts(offset, length, done) || !still_there(done)) return;
    start(zero_kind_.load(std::memory_order_relaxed), offset, length, {}, done);
  }

  std::shared_ptr<const BackingPulse> pulse() const override { return pulse_; }

  // A file's holes; a block device answers that all of it is data. Nobody uses the descriptor's position, so that it
  // may move.
  BackingExtent extent_at(std::uint64_t offset) const override {
    const BackingExtent all{true, size_bytes()};
    const off_t data = lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
      // No data up to its end, which is elsewhere where it was truncated.
      struct stat st {};
      const bool intact =
          fstat(fd_.get(), &st) == 0 && S_ISREG(st.st_mode) && static_cast<std::uint64_t>(st.st_size) >= size_bytes();
      return intact ? BackingExtent{false, size_bytes()} : all;
    }
    if (data < 0) return all;
    if (static_cast<std::uint64_t>(data) > offset) {
      return {false, std::min(static_cast<std::uint64_t>(data), size_bytes())};
    }
    const off_t hole = lseek(fd_.get(), static_cast<off_t>(offset), SEEK_HOLE);
    if (hole < 0 || static_cast<std::uint64_t>(hole) <= offset) return all;
    return {true, std::min(static_cast<std::uint64_t>(hole), size_bytes())};
  }

 private:
  // The last three are ways to zero a range, the better ones first: a hole releases space, which not every device or
  // filesystem can; zeroing a range stays inside the device; writing zeroes always works.
  enum class Kind { read, write, flush, punch_hole, zero_range, write_zero_buffer };

  // One operation; what is left of it after a short transfer goes out again.
  struct Request {
    Kind kind = Kind::read;
    std::uint64_t offset = 0;
    std::uint64_t left = 0;
    std::vector<iovec> parts;
    std::size_t first_part = 0;
    unsigned retries = 0;
    Completion done;
    // Carries what the submitter wrote over to the reaper, as the way through the kernel is none that the language
    // knows.
    std::atomic<bool> published{false};
    Request* next = nullptr;  // in the list that it is in
  };

  // First come first served. Takes no memory, so that an operation that is under way needs none.
  class RequestList {
   public:
    bool empty() const { return first_ == nullptr; }
    void push_back(Request* request) {
      request->next = nullptr;
      (first_ == nullptr ? first_ : last_->next) = request;
      last_ = request;
    }
    Request* pop_front() {
      Request* const request = first_;
      first_ = request->next;
      return request;
    }
    // Puts all of `others` before the rest.
    void prepend(RequestList& others) {
      if (others.empty()) return;
      others.last_->next = first_;
      if (first_ == nullptr) last_ = others.last_;
      first_ = others.first_;
      others.first_ = nullptr;
    }

   private:
    Request* first_ = nullptr;
    Request* last_ = nullptr;
  };

  bool accepts(std::uint64_t offset, std::uint64_t length, Completion done) const {
    if (!is_aligned(offset, kSectorSize) || !is_aligned(length, kSectorSize) || offset > size_bytes() ||
        length > size_bytes() - offset) {
      done(EINVAL);
      return false;
    }
    if (length == 0) done(0);
    return length != 0;
  }

  // Writing behind the end of a file that was truncated would make it as long as before, with a hole in it, and what a
  // deleted file takes is nobody's. Once shorter it is never the same again.
  bool still_there(Completion done) {
    std::uint64_t size = 0;
    const int error = look_at(size);
    if (error != 0) done(error);
    return error == 0;
  }

  // Its size now; ESTALE where it is not what it was any more.
  int look_at(std::uint64_t& size) {
    struct stat st {};
    if (fstat(fd_.get(), &st) != 0) return errno;
    if (S_ISREG(st.st_mode)) {
      size = static_cast<std::uint64_t>(st.st_size);
    } else if (ioctl(fd_.get(), BLKGETSIZE64, &size) != 0) {
      return errno;
    }
    if (size < size_bytes()) shrank_.store(true, std::memory_order_relaxed);
    return shrank_.load(std::memory_order_relaxed) || st.st_nlink == 0 ? ESTALE : 0;
  }

  void start(Kind kind, std::uint64_t offset, std::uint64_t length, std::span<const iovec> parts, Completion done) {
    std::unique_ptr<Request> request;
    {
      const std::lock_guard lock(mutex_);
      if (!spare_.empty()) request.reset(spare_.pop_front());
    }
    try {
      if (!request) request = std::make_unique<Request>();
      request->parts.assign(parts.begin(), parts.end());
    } catch (const std::bad_alloc&) {
      return done(ENOMEM);
    }
    request->kind = kind;
    request->offset = offset;
    request->left = length;
    request->first_part = 0;
    request->retries = 0;
    request->done = done;
    submit(request.release());
  }

  // Never waits: what does not fit into the ring stands in a queue.
  void submit(Request* request) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(request);
    submit_waiting();
  }

  // The ring has room for the completions of all that is in flight, since that is at most the number of its entries.
  void submit_waiting() {
    while (!waiting_.empty() && in_flight_ < kRingEntries) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      Request* request = waiting_.pop_front();
      prepare(sqe, *request);
      io_uring_sqe_set_data(sqe, request);
      request->published.store(true, std::memory_order_release);
      if (in_flight_++ == 0) pulse_->silent_since_ns.store(now_ns(), std::memory_order_relaxed);
    }
    submit_prepared();
  }

  // What the kernel does not take now, for want of memory, stays in the ring and goes with the next call.
  void submit_prepared() {
    while (io_uring_sq_ready(&ring_) != 0) {
      const int submitted = io_uring_submit(&ring_);
      if (submitted <= 0 && submitted != -EINTR) return;
    }
  }

  void prepare(io_uring_sqe* sqe, const Request& request) const {
    const iovec* parts = request.parts.data() + request.first_part;
    const auto count = static_cast<unsigned>(request.parts.size() - request.first_part);
    switch (request.kind) {
      case Kind::read:
        io_uring_prep_readv(sqe, fd_.get(), parts, count, request.offset);
        break;
      case Kind::write:
        io_uring_prep_writev(sqe, fd_.get(), parts, count, request.offset);
        break;
      case Kind::flush:
        io_uring_prep_fsync(sqe, fd_.get(), IORING_FSYNC_DATASYNC);
        break;
      case Kind::punch_hole:
      case Kind::zero_range:
        io_uring_prep_fallocate(
            sqe, fd_.get(),
            FALLOC_FL_KEEP_SIZE | (request.kind == Kind::punch_hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
            static_cast<off_t>(request.offset), static_cast<off_t>(request.left));
        break;
      case Kind::write_zero_buffer:
        io_uring_prep_write(sqe, fd_.get(), kZeroes.data(),
                            static_cast<unsigned>(std::min<std::uint64_t>(request.left, kZeroes.size())),
                            request.offset);
        break;
    }
  }

  void reap() {
    pthread_setname_np(pthread_self(), "backing");
    // Without this feature a timed wait would use the submission queue, behind the lock's back.
    const bool may_time_out = (ring_.features & IORING_FEAT_EXT_ARG) != 0;
    for (bool stop = false; !stop;) {
      io_uring_cqe* first = nullptr;
      __kernel_timespec interval = kResubmitInterval;
      const int error = may_time_out ? io_uring_wait_cqe_timeout(&ring_, &first, &interval)  //
                                     : io_uring_wait_cqe(&ring_, &first);
      PCACHE_CHECK(error == 0 || error == -EINTR || error == -EAGAIN || error == -ETIME, "io_uring is broken");
      std::array<io_uring_cqe*, kReapBatch> batch{};
      RequestList again;
      RequestList finished;
      const unsigned count = error == 0 ? io_uring_peek_batch_cqe(&ring_, batch.data(), kReapBatch) : 0;
      unsigned ended = 0;
      for (unsigned i = 0; i < count; ++i) {
        auto* request = static_cast<Request*>(io_uring_cqe_get_data(batch[i]));
        if (request == nullptr) {
          stop = true;
          continue;
        }
        ++ended;
        if (request->published.load(std::memory_order_acquire) && must_go_again(*request, batch[i]->res)) {
          again.push_back(request);
        } else {
          finished.push_back(request);
        }
      }
      io_uring_cq_advance(&ring_, count);
      // Only after its completion has returned does an operation count as ended: the destructor waits for that.
      const std::lock_guard lock(mutex_);
      in_flight_ -= ended;
      if (ended != 0) pulse_->silent_since_ns.store(in_flight_ == 0 ? 0 : now_ns(), std::memory_order_relaxed);
      waiting_.prepend(again);
      spare_.prepend(finished);
      submit_waiting();
      if (in_flight_ == 0 && waiting_.empty()) drained_.notify_all();
    }
  }

  // Calls the completion and returns false, unless more is to be done for the operation.
  bool must_go_again(Request& request, int result) {
    const int error = result < 0 ? failure(request, -result) : progress(request, static_cast<std::uint64_t>(result));
    if (error == EAGAIN && ++request.retries <= kMaxRetries) return true;
    request.done(error == EAGAIN ? EIO : error);
    return false;
  }

  // EAGAIN: once more, perhaps in another way.
  int failure(Request& request, int error) {
    if (error == EINTR) return EAGAIN;
    const bool unsupported = error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
    if (unsupported && (request.kind == Kind::punch_hole || request.kind == Kind::zero_range)) {
      request.kind = request.kind == Kind::punch_hole ? Kind::zero_range : Kind::write_zero_buffer;
      zero_kind_.store(request.kind, std::memory_order_relaxed);
      return EAGAIN;
    }
    return error;
  }

  int progress(Request& request, std::uint64_t transferred) {
    if (request.kind == Kind::flush || request.kind == Kind::punch_hole || request.kind == Kind::zero_range) return 0;
    // Less than a sector inside the device's size: it has become shorter. The rest of a sector is done again.
    transferred = align_down(std::min(transferred, request.left), kSectorSize);
    if (transferred == 0) return EIO;
    request.offset += transferred;
    request.left -= transferred;
    request.retries = 0;
    while (transferred != 0 && request.first_part < request.parts.size()) {
      iovec& part = request.parts[request.first_part];
      const std::size_t step = std::min<std::size_t>(transferred, part.iov_len);
      part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
      part.iov_len -= step;
      transferred -= step;
      if (part.iov_len == 0) ++request.first_part;
    }
    return request.left == 0 ? 0 : EAGAIN;
  }

  const std::string path_;
  const UniqueFd fd_;
  const BackingIdentity identity_;
  std::atomic<std::uint64_t> size_bytes_;
  std::atomic<Kind> zero_kind_{Kind::punch_hole};
  std::atomic<bool> shrank_{false};
  io_uring ring_{};
  std::mutex mutex_;  // guards submission to the ring and all below
  std::condition_variable drained_;
  const std::shared_ptr<BackingPulse> pulse_ = std::make_shared<BackingPulse>();
  RequestList waiting_;
  RequestList spare_;
  unsigned in_flight_ = 0;
  std::thread reaper_;
};

}  // namespace

Result<std::unique_ptr<BackingDev>> make_uring_backing_dev(std::string path, UniqueFd fd, BackingIdentity identity) {
  auto device = std::make_unique<UringBackingDev>(std::move(path), std::move(fd), std::move(identity));
  if (Status status = device->start(); !status.ok()) return status;
  return std::unique_ptr<BackingDev>(std::move(device));
}

}  // namespace pcache
