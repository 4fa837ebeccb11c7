// Threads that read the kernel's requests from /dev/fuse.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "mount/request_pool.h"
#include "mount/seats.h"
#include "pcache/result.h"

namespace pcache {

// A round trip is mostly the wake-up of the reading thread, so a thread with a seat goes on looking for the next
// request for a short time after each one, giving way to others that want to run. Requests that have queued up are
// taken together, so that what they need from memory can be loaded for all of them at once.
class Transport {
 public:
  // Answers requests. Called by all serving threads.
  class Server {
   public:
    virtual ~Server() = default;
    // A request has come. Returns whether serving it may take long: no request is taken behind it meanwhile.
    virtual bool arrived(Request& request) = 0;
    // These are served next, in this order.
    virtual void announce(std::span<const std::unique_ptr<Request>> batch) = 0;
    // Answers the request and gives it back to its pool.
    virtual void serve(std::unique_ptr<Request> request) = 0;
  };

  // Serves the mount on `fuse_fd`, which the caller keeps open, from start() on; `server` outlives it. Each thread has
  // a descriptor of its own for that mount. Errors: those of opening /dev/fuse, failed.
  static Result<std::unique_ptr<Transport>> open(int fuse_fd, int seats, Server& server);
  ~Transport() { stop(); }

  // Errors: failed (no threads); then none serves.
  Status start();
  // Ends the threads after the requests each is at; requests that complete elsewhere are not waited for.
  void stop();
  // Waits until every request has been answered. After stop().
  void wait_idle() { requests_.wait_idle(); }
  // Becomes readable when the kernel has ended the session (it was unmounted).
  int ended_fd() const { return ended_.get(); }

 private:
  using Batch = std::vector<std::unique_ptr<Request>>;

  // With a seat given up, another thread has to be there for it; one more keeps two long requests from stopping all.
  static int threads_for(int seats) { return 2 * seats + 1; }

  Transport(int seats, Server& server);
  void serve(int fd);
  int gather(int fd, bool look, Batch& batch);
  void serve_all(Batch& batch);
  ssize_t look_for_request(int fd, Request& request);
  bool wait_for_request(int fd);

  Server& server_;
  UniqueFd wake_;
  UniqueFd ended_;
  std::atomic<bool> stopping_{false};
  Seats seats_;
  RequestPool requests_;
  std::vector<UniqueFd> descriptors_;  // one a thread
  std::vector<std::thread> threads_;
};

}  // namespace pcache
