// Stops the engine's threads at its pause points (src/base/pause_point.h).
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace pcache {

// One for the whole program; tests begin with reset().
class Pauses {
 public:
  static Pauses& instance();

  void reset();
  // The next thread that comes to `point` stops there until go().
  void stop_at(const std::string& point);
  void go(const std::string& point);
  void go_all();
  // Returns once a thread came to one of `points`; false if none does, which a minute decides.
  bool await(std::initializer_list<std::string> points);
  bool reached(const std::string& point);
  // The points that threads came to, in order, each once.
  std::vector<std::string> visited();

  // Called by every thread that comes to a point, and by tests for what they do themselves.
  void reach(const std::string& point);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> visited_;
  std::set<std::string> armed_;
  std::set<std::string> stopped_;
};

// A thread of a test; at its end nothing is stopped any more.
class TestThread {
 public:
  explicit TestThread(std::function<void()> body) : thread_(std::move(body)) {}
  ~TestThread() {
    if (!thread_.joinable()) return;
    Pauses::instance().go_all();
    thread_.join();
  }
  void join() { thread_.join(); }

 private:
  std::thread thread_;
};

}  // namespace pcache
