#include "tests/races/pauses.h"

#include <algorithm>

#include "base/pause_point.h"

namespace pcache {

void reach_pause_point(const char* name) { Pauses::instance().reach(name); }

Pauses& Pauses::instance() {
  static Pauses pauses;
  return pauses;
}

void Pauses::reset() {
  const std::lock_guard lock(mutex_);
  visited_.clear();
  armed_.clear();
}

void Pauses::stop_at(const std::string& point) {
  const std::lock_guard lock(mutex_);
  armed_.insert(point);
  std::erase(visited_, point);  // or await() would tell of those before
}

void Pauses::go(const std::string& point) {
  const std::lock_guard lock(mutex_);
  armed_.erase(point);
  stopped_.erase(point);
  changed_.notify_all();
}

void Pauses::go_all() {
  const std::lock_guard lock(mutex_);
  armed_.clear();
  stopped_.clear();
  changed_.notify_all();
}

bool Pauses::await(std::initializer_list<std::string> points) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::minutes(1), [&] {
    return std::any_of(points.begin(), points.end(), [this](const std::string& point) {
      return std::find(visited_.begin(), visited_.end(), point) != visited_.end();
    });
  });
}

bool Pauses::reached(const std::string& point) {
  const std::lock_guard lock(mutex_);
  return std::find(visited_.begin(), visited_.end(), point) != visited_.end();
}

std::vector<std::string> Pauses::visited() {
  const std::lock_guard lock(mutex_);
  return visited_;
}

void Pauses::reach(const std::string& point) {
  std::unique_lock lock(mutex_);
  if (std::find(visited_.begin(), visited_.end(), point) == visited_.end()) visited_.push_back(point);
  changed_.notify_all();
  if (armed_.erase(point) == 0) return;
  stopped_.insert(point);
  changed_.wait(lock, [&] { return stopped_.count(point) == 0; });
}

}  // namespace pcache
