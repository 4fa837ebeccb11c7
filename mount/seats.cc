#include "mount/seats.h"

#include <algorithm>
#include <thread>

namespace pcache {
namespace {

thread_local const Seats* seated_at = nullptr;

}  // namespace

int Seats::for_this_machine() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency() / 2), 1, 4); }

bool Seats::sit_down() {
  if (seated_at == this) {
    if (!closed_) return true;
    stand_up();
    return false;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return free_ > 0 || closed_; });
  if (closed_) return false;
  --free_;
  seated_at = this;
  return true;
}

void Seats::stand_up() {
  if (seated_at != this) return;
  seated_at = nullptr;
  {
    const std::lock_guard lock(mutex_);
    ++free_;
  }
  changed_.notify_one();
}

void Seats::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace pcache
