// What a user may change of a logical device in use, drawn at random: the same for all random tests.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cache/mode.h"
#include "pcache/settings.h"

namespace pcache {

// `below(n)` draws a number below n.
template <typename Below>
ModeChoice random_mode(Below below) {
  return {static_cast<Mode>(below(5)), below(6) == 0};
}

// One to three settings other than the mode. They may contradict each other, or what else is set: check_settings()
// says so, and so does the device. Of a share_min, `most_share_min` percent are drawn at most.
template <typename Below>
Settings random_settings(Below below, std::uint32_t most_share_min) {
  const auto one_of = [&](std::initializer_list<std::uint64_t> values) { return values.begin()[below(values.size())]; };
  Settings changes;
  for (std::uint64_t left = 1 + below(3); left > 0; --left) {
    switch (below(11)) {
      case 0:
        changes.set(Setting::dirty_high, kPercent | one_of({0, 5, 30, 50, 95}));
        break;
      case 1:
        changes.set(Setting::dirty_low, one_of({kPercent | 0, kPercent | 5, kPercent | 40, 300'000}));
        break;
      case 2:
        changes.set(Setting::dirty_max_age, one_of({0, 100, 1000, 20'000}));
        break;
      case 3:
        changes.set(Setting::writeback_rate_min, one_of({0, 100'000, 1'000'000}));
        break;
      case 4:
        changes.set(Setting::writeback_rate_max, one_of({0, 300'000, 3'000'000}));
        break;
      case 5:
        changes.set(Setting::full_policy, below(3));
        break;
      case 6:
        changes.set(Setting::full_max_wait, one_of({30'000, 60'000, 86'400'000}));
        break;
      case 7:
        changes.set(Setting::share_min, kPercent | below(most_share_min + 1));
        break;
      case 8:
        changes.set(Setting::share_max, kPercent | one_of({0, 20, 50, 70, 100, 100}));
        break;
      case 9:
        changes.set(Setting::admission, below(2));
        break;
      default:
        changes.set(Setting::sequential_bypass, one_of({0, 4096, 32'768, 1'000'000}));
    }
  }
  return changes;
}

}  // namespace pcache
