// Seeds of the simulation. A failure prints PCACHE_SIMULATION_SEED, which runs that seed alone and does the same again
// if PCACHE_SIMULATION_BUSY is the same: about how many busy seconds a seed has. PCACHE_SIMULATION_SEEDS says how many
// to run, PCACHE_SIMULATION_FIRST from which on.

#include "tests/simulation/simulation.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/simulation/sector_history.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

std::uint64_t busy_seconds() { return from_environment("PCACHE_SIMULATION_BUSY", 50); }

void print(const SimCounts& c) {
  const auto line = [](const char* what, std::uint64_t count) {
    std::printf("  %-28s %llu\n", what, static_cast<unsigned long long>(count));
  };
  std::printf("  %-28s %.1f (%.1f with pauses)\n", "hours that were busy", static_cast<double>(c.busy_seconds) / 3600,
              static_cast<double>(c.simulated_ms) / 3.6e6);
  line("seeds", c.seeds);
  line("reads", c.reads);
  line("writes", c.writes);
  line("discards", c.discards);
  line("flushes", c.flushes);
  line("drains", c.drains);
  line("operations that failed", c.failed_operations);
  line("restarts in order", c.closes);
  line("kills", c.kills);
  line("power cuts", c.power_cuts);
  line("  of both during an operation", c.in_operation);
  line("  during writeback", c.in_writeback);
  line("  during recovery", c.in_recovery);
  line("switches of the mode", c.switches);
  line("  that a backing failed", c.failed_switches);
  line("changes of settings", c.changes);
  line("removals", c.removals);
  line("  that keep the data", c.parks);
  line("growths of the cache device", c.growths);
  line("shrinkings of it", c.shrinkings);
  line("  that failed", c.failed_shrinkings);
  line("failures of backings", c.backing_faults);
  line("stalls of backings", c.stalls);
  line("states of backings checked", c.epochs_checked);
  line("blocks evicted", c.evicted_blocks);
  line("blocks relocated", c.relocated_blocks);
  line("writes that waited for space", c.space_waits);
}

// Says how to run the seed again when the program aborts or crashes in it.
class RerunNote {
 public:
  explicit RerunNote(const std::string& text) {
    std::snprintf(text_, sizeof text_, "%s\n", text.c_str());
    for (const int number : {SIGABRT, SIGSEGV, SIGBUS}) std::signal(number, say);
  }
  ~RerunNote() {
    for (const int number : {SIGABRT, SIGSEGV, SIGBUS}) std::signal(number, SIG_DFL);
  }

 private:
  static void say(int number) {
    std::signal(number, SIG_DFL);
    if (write(STDERR_FILENO, text_, std::strlen(text_)) >= 0) std::raise(number);
  }
  static inline char text_[128];
};

TEST(Simulation, OfEverySeedEndsWithAllDataAndAllAnswers) {
  std::uint64_t first = from_environment("PCACHE_SIMULATION_FIRST", 1);
  std::uint64_t count = from_environment("PCACHE_SIMULATION_SEEDS", 200);
  if (std::getenv("PCACHE_SIMULATION_SEED") != nullptr) {
    first = from_environment("PCACHE_SIMULATION_SEED", 0);
    count = 1;
  }
  SimCounts counts;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::string rerun =
        "PCACHE_SIMULATION_SEED=" + std::to_string(seed) + " PCACHE_SIMULATION_BUSY=" + std::to_string(busy_seconds());
    const RerunNote note(rerun);
    const std::string wrong = Simulation(seed, busy_seconds(), counts).run();
    EXPECT_EQ(wrong, "") << rerun;
    if (HasFailure()) break;
  }
  print(counts);
}

TEST(Simulation, OfOneSeedIsTheSameEveryTime) {
  const auto digest_of = [](std::uint64_t seed) {
    SimCounts counts;
    Simulation simulation(seed, 20, counts);
    EXPECT_EQ(simulation.run(), "") << "PCACHE_SIMULATION_SEED=" << seed << " PCACHE_SIMULATION_BUSY=20";
    return simulation.digest();
  };
  for (std::uint64_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(digest_of(seed), digest_of(seed)) << "seed " << seed;
  EXPECT_NE(digest_of(1), digest_of(2));
}

class WhatAFailedFlushTookAway : public testing::Test {
 protected:
  // Two writes that failed, of which the backing has the second, and no flush yet.
  WhatAFailedFlushTookAway() {
    for (std::uint64_t* const write : {&first_, &second_}) {
      *write = history_.begin(kSector, false, ++now_);
      history_.end(*write, false, ++now_);
    }
  }
  std::string read(std::uint64_t value, SectorHistory::Moment began) {
    std::array<std::byte, SectorHistory::kSectorBytes> content;
    SectorHistory::encode(value, kSector.first, content.data());
    return history_.check_read(kSector, content, began, ++now_);
  }

  static constexpr SectorHistory::Range kSector{3, 1};
  SectorHistory history_{8};
  SectorHistory::Moment now_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t second_ = 0;
};

TEST_F(WhatAFailedFlushTookAway, MayHaveBeenSeenByAReadThatWasUnderWay) {
  const SectorHistory::Moment began = ++now_;
  history_.may_revert(SectorHistory::Losable::everything, 0, ++now_);
  EXPECT_EQ(read(second_, began), "");
  EXPECT_EQ(read(first_, now_), "");
}

TEST_F(WhatAFailedFlushTookAway, WasNotWhatAReadSawAfterIt) {
  history_.may_revert(SectorHistory::Losable::everything, 0, ++now_);
  EXPECT_EQ(read(second_, ++now_), "");
  EXPECT_NE(read(first_, now_), "");
}

TEST_F(WhatAFailedFlushTookAway, IsNotWhatAWriteHasReplacedThatWasAcknowledged) {
  const SectorHistory::Moment began = ++now_;
  history_.may_revert(SectorHistory::Losable::everything, 0, ++now_);
  const std::uint64_t third = history_.begin(kSector, false, ++now_);
  history_.end(third, true, ++now_);
  EXPECT_EQ(read(third, began), "");
  EXPECT_NE(read(first_, now_), "");
}

TEST_F(WhatAFailedFlushTookAway, IsWhatFailedThoughAReadSawIt) {
  EXPECT_EQ(read(second_, ++now_), "");
  history_.may_revert(SectorHistory::Losable::what_failed, 0, ++now_);
  EXPECT_EQ(read(first_, ++now_), "");
}

TEST_F(WhatAFailedFlushTookAway, IsNothingThatWasAcknowledged) {
  const std::uint64_t third = history_.begin(kSector, false, ++now_);
  history_.end(third, true, ++now_);
  history_.may_revert(SectorHistory::Losable::what_failed, 0, ++now_);
  EXPECT_NE(read(first_, ++now_), "");
  EXPECT_EQ(read(third, ++now_), "");
}

TEST_F(WhatAFailedFlushTookAway, IsNothingThatWasAcknowledgedAfterAReadSawWhatFailed) {
  EXPECT_EQ(read(second_, ++now_), "");
  const std::uint64_t third = history_.begin(kSector, false, ++now_);
  history_.end(third, true, ++now_);
  history_.may_revert(SectorHistory::Losable::what_failed, 0, ++now_);
  EXPECT_NE(read(first_, ++now_), "");
}

}  // namespace
}  // namespace pcache
