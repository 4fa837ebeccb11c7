// Threads for what may wait.
#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "control/asio.h"

namespace pcache {

// Run what is posted to `io`. Unlike asio's pool they give up the threads that there are when another one cannot be
// made: that one waits for them for ever.
class Workers {
 public:
  explicit Workers(std::size_t count) {
    try {
      threads_.reserve(count);
      while (threads_.size() < count) threads_.emplace_back([this] { io.run(); });
    } catch (...) {
      join();
      throw;
    }
  }
  ~Workers() { join(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Waits until all is done that was posted.
  void join() {
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  boost::asio::io_context io;

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io.get_executor()};
  std::vector<std::thread> threads_;
};

}  // namespace pcache
