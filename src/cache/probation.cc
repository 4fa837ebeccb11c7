#include "cache/probation.h"

#include <algorithm>

namespace pcache {

Probation::Probation(SegmentPool& pool, std::uint32_t slots_per_segment)
    : pool_(pool), slots_(slots_per_segment), segments_(pool.total()), claimed_(slots_) {}

std::uint32_t Probation::claim(std::uint32_t count, bool may_grow, SlotId& first) {
  const std::lock_guard lock(mutex_);
  if (claimed_ == slots_) {
    if (!may_grow) return 0;
    const auto borrowed = pool_.borrow();
    if (!borrowed) return 0;
    segments_.push_back(*borrowed);
    claimed_ = 0;
  }
  const std::uint32_t claimed = std::min(count, slots_ - claimed_);
  first = segments_.back() * slots_ + claimed_;
  claimed_ += claimed;
  return claimed;
}

std::uint32_t Probation::segments() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint32_t>(segments_.size());
}

bool Probation::holds_any_from(SegmentId id) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(segments_.begin(), segments_.end(), [id](SegmentId segment) { return segment >= id; });
}

void Probation::reserve_segments(std::uint32_t segments) {
  const std::lock_guard lock(mutex_);
  if (segments_.capacity() < segments) segments_.set_capacity(segments);
}

std::optional<Probation::Oldest> Probation::oldest() const {
  const std::lock_guard lock(mutex_);
  if (segments_.empty()) return std::nullopt;
  return Oldest{segments_.front(), pool_.age(segments_.front()), segments_.size() > 1 || claimed_ == slots_};
}

std::optional<SegmentId> Probation::seal_oldest() {
  const std::lock_guard lock(mutex_);
  if (segments_.empty()) return std::nullopt;
  if (segments_.size() == 1) claimed_ = slots_;
  return segments_.front();
}

void Probation::give_back_oldest() {
  const std::lock_guard lock(mutex_);
  pool_.give_back(segments_.front());
  segments_.pop_front();
}

}  // namespace pcache
