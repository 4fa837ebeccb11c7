// Moves requests from the kernel to a libfuse session: threads that read /dev/fuse.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "mount/buffer_pool.h"

struct fuse_session;

namespace pcache {

// A round trip is mostly the wake-up of the reading thread, so each thread goes on looking for the next request for a
// short time after each one, giving way to others that want to run.
class Transport {
 public:
  static constexpr std::size_t kMaxWrite = 1 << 20;               // data of one request
  static constexpr std::size_t kRequestBytes = kMaxWrite + 4096;  // with its header
  static constexpr int kDefaultThreads = 2;

  // Serves the mounted `session` from start() on.
  Transport(fuse_session* session, int threads);
  ~Transport() { stop(); }

  void start();
  // Ends the threads after the request each is at; requests that complete elsewhere are not waited for.
  void stop();
  // Becomes readable when the kernel has ended the session (it was unmounted).
  int ended_fd() const { return ended_.get(); }

  // The buffer of the request that the calling thread is handling: it holds the request's data, and may hold the
  // answer's once that is not needed any more. Whoever takes it returns it, on any thread.
  static std::unique_ptr<AlignedBuffer> take_request_buffer();
  void return_request_buffer(std::unique_ptr<AlignedBuffer> buffer);

 private:
  void serve();
  ssize_t look_for_request(int fd);
  bool wait_for_request(int fd);

  fuse_session* session_;
  const int thread_count_;
  UniqueFd wake_;
  UniqueFd ended_;
  std::atomic<bool> stopping_{false};
  BufferPool buffers_;
  std::vector<std::thread> threads_;
};

}  // namespace pcache
