// What a command says while it waits for the daemon.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

namespace pcache {

// A line that is written over again on a terminal, otherwise one every ten seconds.
class Progress {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `what` is being done with `name`, since `now`.
  Progress(std::ostream& out, bool is_terminal, std::string name, Time now);

  // So much is left at `now`.
  void update(std::uint64_t left_bytes, Time now);
  // Nothing more is said: ends the line that was written over.
  void end();

  // "12.5 MiB left, 2 MiB/s, 6 s to go".
  std::string text(std::uint64_t left_bytes, Time now) const;

 private:
  std::ostream& out_;
  const bool is_terminal_;
  const std::string name_;
  const Time begun_;
  Time said_;
  std::optional<std::uint64_t> first_left_;
  std::size_t line_ = 0;  // characters of the line that is there
};

}  // namespace pcache
