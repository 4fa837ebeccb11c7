// Finds the reads that go through a device in order among all that miss.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace pcache {

// Thread-safe. Follows as many runs at a time as there are trackers; the one that was not continued for longest gives
// way to a new one.
class SequentialReads {
 public:
  static constexpr std::size_t kTrackers = 8;
  // How far from a run's end a read may begin and still continue it: what is cached is not seen here, and reads ahead
  // arrive in any order.
  static constexpr std::uint64_t kSlackBlocks = 64;

  // `count` blocks from `first` on are read. Returns the length of the run that this continues or begins, in blocks,
  // from its beginning to the end of this read.
  std::uint64_t note(std::uint64_t first, std::uint64_t count);

 private:
  struct Run {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t last_use = 0;  // 0: never used
  };

  std::mutex mutex_;  // guards all below
  std::array<Run, kTrackers> runs_;
  std::uint64_t uses_ = 0;
};

}  // namespace pcache
