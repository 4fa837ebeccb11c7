// Operations that go to the backing directly: no two of them are on the same blocks at a time, none begins while
// another mode is being switched to, and what is for the log waits for those on its blocks.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cache/write_op.h"

namespace pcache {

// Thread-safe. Its lock is taken inside those of streams.
class DirectGate {
 public:
  enum class State {
    off,   // operations go to the log, but for some that go around it
    held,  // all wait
    on,
    shut,  // for good
  };
  enum class Entry {
    off,      // not taken: it belongs in the log
    waits,    // taken; next() or take_waiting() gives it back
    entered,  // not taken: it may go on, and leaves when it is finished
    shut,     // not taken: it fails
  };

  // `op` has said which blocks it is for, and whether it goes around the log, which only counts while the gate is off.
  // Those that wait are let in in their order, as far as they overlap. Throws std::bad_alloc; `op` is as before then.
  Entry enter(std::unique_ptr<WriteOp>& op);
  void leave(const WriteOp& op);
  // One that waited and need not any longer: it has entered, or, while the gate is off, is to be tried again. Null: all
  // have to.
  std::unique_ptr<WriteOp> next();
  // One that waits, whatever it waits for; null: none does.
  std::unique_ptr<WriteOp> take_waiting();

  void set(State state);
  // Returns whether all that entered have left, after `timeout` at the latest.
  bool await_empty(std::chrono::milliseconds timeout);
  // So many have entered and not left.
  std::size_t entered() const { return count_.load(); }
  // Whether an operation on `block` has entered and not left. Whoever asks under its stream's lock, and hears no, comes
  // before the operation takes that lock.
  bool is_busy(std::uint64_t block) const { return is_busy(block, block + 1); }
  // The same for any of blocks [begin, end).
  bool is_busy(std::uint64_t begin, std::uint64_t end) const { return count_.load() != 0 && is_entered(begin, end); }

 private:
  bool is_entered(std::uint64_t begin, std::uint64_t end) const;
  bool overlaps(std::size_t waiting) const;
  void let_in(WriteOp& op);

  mutable std::mutex mutex_;
  std::condition_variable emptied_;
  State state_ = State::off;
  std::vector<const WriteOp*> entered_;  // has room for those that wait too
  std::atomic<std::size_t> count_{0};    // of them
  std::deque<std::unique_ptr<WriteOp>> waiting_;
};

}  // namespace pcache
