// Requests made beforehand, and who has them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "mount/request.h"

namespace pcache {

// Thread-safe. A thread that serves requests keeps some for itself, so that a request which is answered by the thread
// that read it never touches anything shared.
class RequestPool {
 public:
  struct Sizes {
    // So many requests are made at once and locked in memory (as far as the limits allow), so that serving a request
    // for the memory that we use ourselves cannot wait for us.
    std::size_t prefaulted = 0;
    std::size_t kept_by_thread = 1;
  };
  explicit RequestPool(const Sizes& sizes);

  // The calling thread serves requests of this pool from here on, until leave().
  void join();
  void leave();

  // A spare request, or a new one.
  std::unique_ptr<Request> take();
  // Sends the answer, if the request has one, and takes the request into the pool that it is from. On any thread.
  static void give_back(std::unique_ptr<Request> request);

  // What the calling thread gives back between these two is sent at their end: a client that the first answer wakes
  // finds the others, instead of being woken for each.
  static void hold_answers();
  static void send_answers();

  // Waits until no request is taken any more. Threads that have joined have left.
  void wait_idle();

 private:
  std::unique_ptr<Request> take_shared();
  void give_back_shared(std::unique_ptr<Request> request);

  const std::size_t kept_by_thread_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<std::unique_ptr<Request>> spare_;
  std::size_t taken_ = 0;  // with what the serving threads keep
};

}  // namespace pcache
