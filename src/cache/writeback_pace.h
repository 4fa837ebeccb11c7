// How fast dirty data goes to the backing.
#pragma once

#include <cstdint>

namespace pcache {

// For one thread.
class WritebackPace {
 public:
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

  // What the settings of the same names say; a rate_max of 0 is no limit.
  struct Limits {
    std::uint64_t dirty_low = 0;   // bytes
    std::uint64_t dirty_high = 0;  // bytes, at least dirty_low
    std::uint64_t rate_min = 0;    // bytes a second
    std::uint64_t rate_max = 0;
    std::uint64_t max_age_ms = 0;
  };
  struct State {
    std::uint64_t now_ms = 0;
    std::uint64_t dirty_bytes = 0;
    std::uint64_t oldest_ms = 0;  // when the oldest dirty data was written; 0: there is none
    bool hurry = false;           // somebody waits for the end of it, or for space
  };

  // Bytes a second; 0: writeback rests. What asks for most decides:
  //   hurry         no limit
  //   dirty_high    once more is dirty, rate_max until no more than dirty_low is
  //   in between    from rate_min to rate_max, as far as dirty data is from dirty_low to dirty_high; without a rate_max
  //                 there is nothing to rise to, and it stays rate_min
  //   below         rate_min
  //   age           data of half of max_age_ms: what makes all clean in time, above rate_max too; without a rate_max no
  //                 limit
  std::uint64_t rate(const Limits& limits, const State& state);

  // How many bytes may be written now at `rate`; 0: none, for rest_ms(). What was written may have been more.
  std::uint64_t allowance(std::uint64_t rate, std::uint64_t now_ms);
  void spend(std::uint64_t bytes);
  std::uint64_t rest_ms() const;

  // How often one has to look for dirty data, whose age counts from when it was seen.
  static std::uint64_t poll_ms(std::uint64_t max_age_ms);
  // The age at which writeback begins because of it.
  static std::uint64_t begin_ms(std::uint64_t max_age_ms) { return max_age_ms / 2; }

 private:
  bool draining_down_ = false;  // from dirty_high to dirty_low
  std::uint64_t rate_ = 0;      // of the last allowance
  std::uint64_t since_ms_ = 0;  // up to when it is accounted for
  std::int64_t credit_ = 0;     // bytes
};

}  // namespace pcache
