#include "mount/transport.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/no_throw.h"

namespace pcache {
namespace {

// Measured on two cores: long enough for a client that answers at once, short beside what a sleep and wake-up cost.
constexpr std::chrono::microseconds kLookTime{50};

}  // namespace

Result<std::unique_ptr<Transport>> Transport::open(int fuse_fd, int seats, Server& server) {
  std::unique_ptr<Transport> transport(new Transport(seats, server));
  for (UniqueFd* event : {&transport->wake_, &transport->ended_}) {
    event->reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!*event) return Status::from_errno(errno, "cannot make an eventfd for the serving threads");
  }
  for (int i = 0; i < threads_for(seats); ++i) {
    UniqueFd descriptor(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    auto original = static_cast<std::uint32_t>(fuse_fd);
    if (!descriptor || ioctl(descriptor.get(), FUSE_DEV_IOC_CLONE, &original) != 0) {
      return Status::from_errno(errno, "cannot open /dev/fuse for a serving thread");
    }
    transport->descriptors_.push_back(std::move(descriptor));
  }
  return transport;
}

Transport::Transport(int seats, Server& server)
    : server_(server),
      seats_(seats),
      requests_({.prefaulted = kMaxBatch + 2 * static_cast<std::size_t>(threads_for(seats)),
                 .kept_by_thread = kMaxBatch + 1}) {}

Status Transport::start() {
  Status status = no_throw("cannot start the serving threads", [&] {
    threads_.reserve(descriptors_.size());
    for (const UniqueFd& descriptor : descriptors_) {
      threads_.emplace_back([this, fd = descriptor.get()] { serve(fd); });
    }
    return Status();
  });
  if (!status.ok()) stop();
  return status;
}

void Transport::stop() {
  stopping_ = true;
  seats_.close();
  eventfd_write(wake_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Transport::serve(int fd) {
  pthread_setname_np(pthread_self(), "fuse");
  requests_.join();
  Batch batch;
  batch.reserve(kMaxBatch);
  bool just_served = false;
  while (seats_.sit_down()) {
    const int error = gather(fd, just_served, batch);
    just_served = !batch.empty();
    if (just_served) {
      serve_all(batch);
    } else if (error == EAGAIN) {
      if (!wait_for_request(fd)) break;
    } else if (error != EINTR && error != ENOENT) {  // ENOENT: it was interrupted meanwhile
      break;                                         // ENODEV: unmounted
    }
  }
  requests_.leave();
  seats_.close();  // the other threads end too
  eventfd_write(wake_.get(), 1);
  eventfd_write(ended_.get(), 1);
}

// Takes the request that is there, or, if `look`, that comes within a short time; and behind one that was there at once
// all others that are, up to one that takes long. Returns the error that ended it.
int Transport::gather(int fd, bool look, Batch& batch) {
  bool queued = true;
  while (queued && batch.size() < kMaxBatch) {
    auto request = requests_.take();
    ssize_t length = read(fd, request->space().data(), request->space().size());
    if (length < 0 && errno == EAGAIN && look && batch.empty()) {
      queued = false;
      length = look_for_request(fd, *request);
    }
    const int error = length < 0 ? errno : 0;
    if (error != 0 || !request->arrived(fd, static_cast<std::size_t>(length))) {
      RequestPool::give_back(std::move(request));
      if (error != 0) return error;
      continue;
    }
    const bool lasts = server_.arrived(*request);
    batch.push_back(std::move(request));
    if (lasts) {
      seats_.stand_up();
      break;
    }
  }
  return 0;
}

// Answers are held until all but the last request are served: that one may take long.
void Transport::serve_all(Batch& batch) {
  if (batch.size() > 1) {
    server_.announce(batch);
    RequestPool::hold_answers();
  }
  auto last = std::move(batch.back());
  batch.pop_back();
  for (std::unique_ptr<Request>& request : batch) server_.serve(std::move(request));
  batch.clear();
  RequestPool::send_answers();
  server_.serve(std::move(last));
}

// Reads on for a short time, as read(2) does; errno is EAGAIN when nothing came. Others that want to run, among them
// those who make the next request, get their turn in between, at first soon and then ever more rarely: a thread that
// gave way after every few looks would take turns with its client on one core for each single request.
ssize_t Transport::look_for_request(int fd, Request& request) {
  const auto until = std::chrono::steady_clock::now() + kLookTime;
  int next_yield = 4;
  for (int looks = 1;; ++looks) {
    const ssize_t length = read(fd, request.space().data(), request.space().size());
    if (length >= 0 || errno != EAGAIN) return length;
    if (std::chrono::steady_clock::now() >= until) break;
    if (looks == next_yield) {
      sched_yield();
      next_yield *= 2;
    }
  }
  errno = EAGAIN;
  return -1;
}

// Returns false when the threads shall end: nobody reads what wakes them.
bool Transport::wait_for_request(int fd) {
  pollfd events[2] = {{fd, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (poll(events, 2, -1) < 0 && errno == EINTR) {
  }
  return events[1].revents == 0;
}

}  // namespace pcache
