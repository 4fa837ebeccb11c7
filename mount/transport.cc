#include "mount/transport.h"

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

namespace pcache {
namespace {

// Measured on two cores: long enough for a client that answers at once, short beside what a sleep and wake-up cost.
constexpr std::chrono::microseconds kLookTime{50};

// Of a serving thread; others have none and need none.
thread_local bool is_serving = false;
thread_local std::unique_ptr<AlignedBuffer> request_buffer;

}  // namespace

Transport::Transport(fuse_session* session, int threads)
    : session_(session),
      thread_count_(threads),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      ended_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      buffers_(kRequestBytes, 2 * static_cast<std::size_t>(threads)) {}

void Transport::start() {
  const int fd = fuse_session_fd(session_);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  for (int i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { serve(); });
}

void Transport::stop() {
  stopping_ = true;
  eventfd_write(wake_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::unique_ptr<AlignedBuffer> Transport::take_request_buffer() { return std::move(request_buffer); }

void Transport::return_request_buffer(std::unique_ptr<AlignedBuffer> buffer) {
  if (is_serving && !request_buffer) {
    request_buffer = std::move(buffer);  // what it is for next, most often
  } else {
    buffers_.give_back(std::move(buffer));
  }
}

void Transport::serve() {
  pthread_setname_np(pthread_self(), "fuse");
  const int fd = fuse_session_fd(session_);
  is_serving = true;
  bool just_served = false;
  while (!stopping_ && fuse_session_exited(session_) == 0) {
    if (!request_buffer) request_buffer = buffers_.take();
    ssize_t length = read(fd, request_buffer->data(), request_buffer->size());
    if (length < 0 && errno == EAGAIN && just_served) length = look_for_request(fd);
    if (length > 0) {
      fuse_buf request{};
      request.mem = request_buffer->data();
      request.size = static_cast<std::size_t>(length);
      fuse_session_process_buf(session_, &request);
      just_served = true;
      continue;
    }
    just_served = false;
    if (errno == EAGAIN) {
      if (!wait_for_request(fd)) break;
    } else if (errno != EINTR && errno != ENOENT) {  // ENOENT: it was interrupted meanwhile
      break;                                         // ENODEV: unmounted
    }
  }
  if (request_buffer) buffers_.give_back(std::move(request_buffer));
  eventfd_write(ended_.get(), 1);
  eventfd_write(wake_.get(), 1);  // the other threads see it too
}

// Reads on for a short time, as read(2) does; errno is EAGAIN when nothing came. Others that want to run, among them
// those who make the next request, get their turn in between.
ssize_t Transport::look_for_request(int fd) {
  constexpr int kLooksPerYield = 4;
  const auto until = std::chrono::steady_clock::now() + kLookTime;
  for (int looks = 1;; ++looks) {
    const ssize_t length = read(fd, request_buffer->data(), request_buffer->size());
    if (length >= 0 || errno != EAGAIN) return length;
    if (std::chrono::steady_clock::now() >= until) break;
    if (looks % kLooksPerYield == 0) sched_yield();
  }
  errno = EAGAIN;
  return -1;
}

// Returns false when the threads shall end.
bool Transport::wait_for_request(int fd) {
  pollfd events[2] = {{fd, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (poll(events, 2, -1) < 0 && errno == EINTR) {
  }
  return events[1].revents == 0 && !stopping_;
}

}  // namespace pcache
