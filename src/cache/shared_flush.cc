#include "cache/shared_flush.h"

#include <utility>

namespace pcache {

void SharedFlush::add(Waiter& waiter) {
  {
    const std::lock_guard lock(mutex_);
    waiter.next = nullptr;
    (waiting_.last == nullptr ? waiting_.first : waiting_.last->next) = &waiter;
    waiting_.last = &waiter;
    if (busy_) return;
    busy_ = true;
    under_way_ = std::exchange(waiting_, {});
  }
  begin();
}

void SharedFlush::begin() {
  began_ns_ = OpTimer::now();
  backing_.flush({[](void* context, int error) { static_cast<SharedFlush*>(context)->finish(error); }, this});
}

// The next flush begins before those of this one are told: with the last of them this object may be gone.
void SharedFlush::finish(int error) {
  timer_.add(OpTimer::Phase::backing_flush, OpTimer::now() - began_ns_);
  if (error != 0) failures_.fetch_add(1, std::memory_order_release);
  Waiter* done = nullptr;
  bool more = false;
  {
    const std::lock_guard lock(mutex_);
    done = under_way_.first;
    under_way_ = std::exchange(waiting_, {});
    more = busy_ = under_way_.first != nullptr;
  }
  if (more) begin();
  while (done != nullptr) {
    const Waiter waiter = *done;
    done = waiter.next;
    waiter.done(error);
  }
}

bool SharedFlush::take_untold() { return raise(told_, to_be_told_.load(std::memory_order_relaxed)); }

bool SharedFlush::raise(std::atomic<std::uint64_t>& count, std::uint64_t to) {
  std::uint64_t now = count.load(std::memory_order_relaxed);
  while (now < to) {
    if (count.compare_exchange_weak(now, to)) return true;
  }
  return false;
}

}  // namespace pcache
