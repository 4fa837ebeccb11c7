// Commands that go on after their reply: each on a thread of its own, with its progress and its end for all to see.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "pcache/result.h"

namespace pcache {

// How a job that is under way looks from inside. Thread-safe.
class JobRun {
 public:
  // So many bytes are left. What comes on top meanwhile makes the whole larger.
  void left(std::uint64_t bytes);

  enum class Wish : std::uint8_t {
    go_on,
    cancel,  // somebody cancelled it: end, and undo what would go on by itself
    stop,    // the daemon ends: end
  };
  Wish wish() const;

 private:
  friend class Jobs;
  mutable std::mutex mutex_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t left_bytes_ = 0;
  Wish wish_ = Wish::go_on;
};

// Thread-safe. Ends all jobs, and waits for them, when it is destroyed.
class Jobs {
 public:
  using Clock = std::chrono::steady_clock;
  // Runs until it is done, or until the run has another wish than to go on: then it returns what cancelled() gives.
  using Body = std::function<Status(JobRun& run)>;

  static constexpr std::size_t kMaxRunning = 32;
  static constexpr std::size_t kEndedKept = 64;

  Jobs() = default;
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Begins `body`, which does `command` to `object`. Returns the job's number. Errors: busy (kMaxRunning are under way,
  // or stop() was called), failed (no thread).
  Result<std::uint64_t> begin(const std::string& command, const std::string& object, Body body);

  // Every job under way and the last that have ended, oldest first; and one. Fields: docs/control.md.
  nlohmann::json list() const;
  Result<nlohmann::json> show(std::uint64_t number) const;

  // Asks a job to end; returns at once. Errors: not_found, invalid (it has ended).
  Status cancel(std::uint64_t number);

  // Asks all jobs to end, waits for them, and begins no more.
  void stop();

  // Calls `then` with the job's outcome when it has ended, on its thread, or at once if it has. It must not use Jobs.
  // Errors: not_found; it is not called then.
  using Then = std::function<void(const Status& outcome)>;
  Status when_ended(std::uint64_t number, Then then);

  static Status cancelled() { return Status(Errc::failed, "it was cancelled"); }

 private:
  struct Job {
    std::uint64_t number = 0;
    std::string command;
    std::string object;
    JobRun run;
    std::thread thread;
    Clock::time_point begun;
    // Guarded by the mutex of Jobs.
    bool ended = false;
    bool cancelled = false;
    Status outcome;
    Clock::time_point end;
    std::vector<Then> waiting;
  };

  nlohmann::json describe(const Job& job) const;
  void forget_old();

  mutable std::mutex mutex_;
  std::deque<std::unique_ptr<Job>> jobs_;
  std::uint64_t last_number_ = 0;
  bool stopped_ = false;
};

}  // namespace pcache
