// Threads that read the kernel's requests from /dev/fuse.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "mount/request_pool.h"
#include "pcache/result.h"

namespace pcache {

// A round trip is mostly the wake-up of the reading thread, so each thread goes on looking for the next request for a
// short time after each one, giving way to others that want to run.
class Transport {
 public:
  static constexpr int kDefaultThreads = 2;
  // Answers a request and gives it back to its pool. Called by all serving threads.
  using Handler = std::function<void(std::unique_ptr<Request>)>;

  // Serves the mount on `fuse_fd`, which the caller keeps open, from start() on. Each thread has a descriptor of its
  // own for that mount, and with it a queue of its own in the kernel. Errors: those of opening /dev/fuse.
  static Result<std::unique_ptr<Transport>> open(int fuse_fd, int threads, Handler handler);
  ~Transport() { stop(); }

  void start();
  // Ends the threads after the request each is at; requests that complete elsewhere are not waited for.
  void stop();
  // Waits until every request has been answered. After stop().
  void wait_idle() { requests_.wait_idle(); }
  // Becomes readable when the kernel has ended the session (it was unmounted).
  int ended_fd() const { return ended_.get(); }

 private:
  Transport(int threads, Handler handler);
  void serve(int fd);
  ssize_t look_for_request(int fd, Request& request);
  bool wait_for_request(int fd);

  Handler handler_;
  UniqueFd wake_;
  UniqueFd ended_;
  std::atomic<bool> stopping_{false};
  RequestPool requests_;
  std::vector<UniqueFd> descriptors_;  // one a thread
  std::vector<std::thread> threads_;
};

}  // namespace pcache
