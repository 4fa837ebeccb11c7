// What a command says while it waits for a job of the daemon.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>

namespace pcache {

// How far a job is.
struct JobProgress {
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t bytes_per_second = 0;  // 0: not known
  std::uint64_t left_ms = 0;           // at that rate
};

// "20 MiB of 100 MiB, 2 MiB/s, 40 s to go".
std::string progress_text(const JobProgress& progress);

// A bar that is written over again on a terminal, otherwise a line every ten seconds.
class ProgressLine {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Something is being done with `name`, since `now`.
  ProgressLine(std::ostream& out, bool is_terminal, std::string name, Time now);

  void update(const JobProgress& progress, Time now);
  // Nothing more is said: ends the line that was written over.
  void end();

 private:
  std::ostream& out_;
  const bool is_terminal_;
  const std::string name_;
  Time said_;
  std::size_t line_ = 0;  // characters of the line that is there
};

}  // namespace pcache
