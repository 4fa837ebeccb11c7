#include "base/worker.h"

#include <pthread.h>

#include <algorithm>
#include <new>
#include <utility>

namespace pcache {
namespace {

// Longer sleeps end early; it keeps "for ever" (the type's largest value) from overflowing the clock.
constexpr std::chrono::milliseconds kLongestSleep = std::chrono::hours(1);
constexpr std::chrono::milliseconds kWithoutMemory{100};

}  // namespace

Worker::Worker(std::string name, std::function<std::chrono::milliseconds()> step)
    : name_(std::move(name)), step_(std::move(step)) {}

void Worker::start() {
  if (!thread_.joinable() && !stopping_) thread_ = std::thread([this] { run(); });
}

void Worker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Worker::kick() {
  const std::lock_guard lock(mutex_);
  kicked_ = true;
  wake_.notify_all();
}

// A step that finds no memory leaves things as they were, and is done again a little later.
std::chrono::milliseconds Worker::step() try { return step_(); } catch (const std::bad_alloc&) {
  return kWithoutMemory;
}

void Worker::run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());  // what the kernel takes
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    kicked_ = false;  // before the step: what a later kick announces, it may not see
    lock.unlock();
    const std::chrono::milliseconds idle = step();
    lock.lock();
    if (idle.count() > 0) wake_.wait_for(lock, std::min(idle, kLongestSleep), [this] { return kicked_ || stopping_; });
  }
}

}  // namespace pcache
