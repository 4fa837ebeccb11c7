// A background thread that does one step after another.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace pcache {

// start(), stop() and running() are for one thread; kick() is for any.
class Worker {
 public:
  // `step` does a piece of work and returns how long it has nothing more to do unless kicked; 0: there is more now. It
  // may throw std::bad_alloc, and is then repeated.
  Worker(std::string name, std::function<std::chrono::milliseconds()> step);
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();
  // Returns when the step under way has ended. Idempotent; a stopped worker cannot be started again.
  void stop();
  bool running() const { return thread_.joinable(); }

  // Makes the next step come at once. A kick during a step is followed by another step.
  void kick();

 private:
  void run();
  std::chrono::milliseconds step();

  const std::string name_;
  const std::function<std::chrono::milliseconds()> step_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool kicked_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace pcache
