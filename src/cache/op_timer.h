// Measures how long the operations of a logical device take, and what of it goes where.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/latency_histogram.h"
#include "pcache/completion.h"
#include "pcache/stats.h"

namespace pcache {

// One in sixteen operations of each thread is measured: reading the clock several times takes as long as a tenth of a
// write. What takes long anyway, waits and the backing, is measured always. Thread-safe.
class OpTimer {
 public:
  enum class Op : std::uint8_t { read, write, flush, discard };
  // index: looking blocks up and publishing them; pmem: copies, checksums and fences; space: waiting for it; and each
  // kind of operation on the backing.
  enum class Phase : std::uint8_t { index, pmem, space, backing_read, backing_write, backing_flush };
  static constexpr std::size_t kOps = 4;
  static constexpr std::size_t kPhases = 6;

  static std::uint64_t now() {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }

  // Lives while an operation runs on its caller's stack. If it is one of those measured, `done` is replaced by a
  // completion that notes the end, and the phases too if it comes on this thread before the object is gone. The timer
  // may be gone before the object is: the end of an operation is what its device is kept for.
  class Begun {
   public:
    Begun(OpTimer& timer, Op op, Completion& done);
    ~Begun() {
      if (measured_) current_.watched = nullptr;
    }
    Begun(const Begun&) = delete;
    Begun& operator=(const Begun&) = delete;

   private:
    bool measured_ = false;
  };

  // What ran on this thread since the last mark, or the operation's beginning, was `phase`.
  static void mark(Phase phase) {
    if (current_.watched != nullptr) [[unlikely]]
      note(phase);
  }

  void add(Phase phase, std::uint64_t nanoseconds) { phases_[static_cast<std::size_t>(phase)].add(nanoseconds); }

  // What was measured since the beginning or the last reset(), operations first; those that nothing was measured of
  // are there with 0.
  std::vector<LatencyStats> list() const;
  void reset();

 private:
  // An operation that is measured.
  struct Watched {
    OpTimer* timer = nullptr;
    Op op = Op::read;
    std::uint64_t began = 0;
    Completion done;
  };
  struct Current {
    Watched* watched = nullptr;  // null: nothing is measured
    std::uint64_t last = 0;
    std::array<std::uint64_t, kPhases> spent{};
  };
  static constexpr std::size_t kWatched = 64;  // at a time: others are not measured

  Watched* take();
  static void finished(void* context, int error);
  static void note(Phase phase);

  static constinit thread_local Current current_;
  static constinit thread_local std::uint32_t tick_;

  std::array<LatencyHistogram, kOps> ops_;
  std::array<LatencyHistogram, kPhases> phases_;
  std::array<Watched, kWatched> watched_;
  std::atomic<std::uint64_t> free_{~std::uint64_t{0}};  // of watched_, as bits
};

}  // namespace pcache
