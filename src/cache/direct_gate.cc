#include "cache/direct_gate.h"

#include <algorithm>

#include "base/pause_point.h"

namespace pcache {
namespace {

bool overlap(const WriteOp& a, const WriteOp& b) {
  return a.direct->first_block < b.direct->end_block && b.direct->first_block < a.direct->end_block;
}

}  // namespace

DirectGate::Entry DirectGate::enter(std::unique_ptr<WriteOp>& op) {
  const std::lock_guard lock(mutex_);
  if (state_ == State::off) return Entry::off;
  if (state_ == State::shut) return Entry::shut;
  entered_.reserve(entered_.size() + waiting_.size() + 1);
  waiting_.push_back(nullptr);
  waiting_.back() = std::move(op);
  if (!may_enter(waiting_.size() - 1)) return Entry::waits;
  op = std::move(waiting_.back());
  waiting_.pop_back();
  entered_.push_back(op.get());
  op->direct->entered = true;
  count_.store(entered_.size());
  return Entry::entered;
}

bool DirectGate::may_enter(std::size_t waiting) const {
  const WriteOp& op = *waiting_[waiting];
  return state_ == State::on &&
         std::none_of(entered_.begin(), entered_.end(), [&](const WriteOp* other) { return overlap(*other, op); }) &&
         std::none_of(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(waiting),
                      [&](const auto& other) { return overlap(*other, op); });
}

void DirectGate::leave(const WriteOp& op) {
  const std::lock_guard lock(mutex_);
  std::erase(entered_, &op);
  count_.store(entered_.size());
  if (entered_.empty()) emptied_.notify_all();
}

std::unique_ptr<WriteOp> DirectGate::next() {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    if (!may_enter(i)) continue;
    std::unique_ptr<WriteOp> op = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    entered_.push_back(op.get());
    op->direct->entered = true;
    count_.store(entered_.size());
    return op;
  }
  return nullptr;
}

std::unique_ptr<WriteOp> DirectGate::take_waiting() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) return nullptr;
  std::unique_ptr<WriteOp> op = std::move(waiting_.front());
  waiting_.pop_front();
  return op;
}

void DirectGate::set(State state) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::shut) state_ = state;
}

void DirectGate::await_empty() {
  PCACHE_PAUSE_POINT("gate.awaited");
  std::unique_lock lock(mutex_);
  emptied_.wait(lock, [this] { return entered_.empty(); });
}

bool DirectGate::is_busy(std::uint64_t block) const {
  if (count_.load() == 0) return false;
  const std::lock_guard lock(mutex_);
  return std::any_of(entered_.begin(), entered_.end(), [block](const WriteOp* op) {
    return op->direct->first_block <= block && block < op->direct->end_block;
  });
}

}  // namespace pcache
