#include "cache/direct_gate.h"

#include <algorithm>

namespace pcache {
namespace {

bool overlap(const WriteOp& a, const WriteOp& b) {
  return a.direct->first_block < b.direct->end_block && b.direct->first_block < a.direct->end_block;
}

}  // namespace

DirectGate::Entry DirectGate::enter(std::unique_ptr<WriteOp>& op) {
  const std::lock_guard lock(mutex_);
  if (state_ == State::shut) return Entry::shut;
  entered_.reserve(entered_.size() + waiting_.size() + 1);
  // One that is tried again comes before those that waited behind it.
  const auto place = waiting_.insert(op->waited_at_gate ? waiting_.begin() : waiting_.end(), nullptr);
  *place = std::move(op);
  if (state_ == State::held || overlaps(static_cast<std::size_t>(place - waiting_.begin()))) return Entry::waits;
  op = std::move(*place);
  waiting_.erase(place);
  if (state_ == State::off && !op->direct->around) return Entry::off;
  let_in(*op);
  return Entry::entered;
}

// Whether one on the same blocks has entered, or waits for longer.
bool DirectGate::overlaps(std::size_t waiting) const {
  const WriteOp& op = *waiting_[waiting];
  return std::any_of(entered_.begin(), entered_.end(), [&](const WriteOp* other) { return overlap(*other, op); }) ||
         std::any_of(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(waiting),
                     [&](const auto& other) { return overlap(*other, op); });
}

void DirectGate::let_in(WriteOp& op) {
  entered_.push_back(&op);
  op.direct->entered = true;
  count_.store(entered_.size());
}

void DirectGate::leave(const WriteOp& op) {
  const std::lock_guard lock(mutex_);
  std::erase(entered_, &op);
  count_.store(entered_.size());
  if (entered_.empty()) emptied_.notify_all();
}

std::unique_ptr<WriteOp> DirectGate::next() {
  const std::lock_guard lock(mutex_);
  if (state_ != State::on && state_ != State::off) return nullptr;
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    if (overlaps(i)) continue;
    std::unique_ptr<WriteOp> op = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    op->waited_at_gate = true;
    if (state_ == State::on) let_in(*op);
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

bool DirectGate::await_empty(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return emptied_.wait_for(lock, timeout, [this] { return entered_.empty(); });
}

bool DirectGate::is_entered(std::uint64_t begin, std::uint64_t end) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(entered_.begin(), entered_.end(), [begin, end](const WriteOp* op) {
    return op->direct->first_block < end && begin < op->direct->end_block;
  });
}

}  // namespace pcache
