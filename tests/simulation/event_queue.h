// Simulated time: what happens next, and when.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace pcache {

// Events of the same time come in the order in which they were added.
class EventQueue {
 public:
  std::uint64_t now_ms() const { return now_ms_; }

  void after(std::uint64_t delay_ms, std::function<void()> event) {
    events_.emplace(std::pair(now_ms_ + delay_ms, next_number_++), std::move(event));
  }

  // Moves on to the next event and lets it happen. False: there is none.
  bool step() {
    if (events_.empty()) return false;
    auto first = events_.extract(events_.begin());
    now_ms_ = first.key().first;
    first.mapped()();
    return true;
  }

 private:
  std::uint64_t now_ms_ = 1;
  std::uint64_t next_number_ = 0;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::function<void()>> events_;
};

}  // namespace pcache
