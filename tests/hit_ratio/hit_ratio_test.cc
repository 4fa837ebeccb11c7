// What has to hold of the engine's hit ratios; tests/bench/hit_ratio.cc shows them on larger devices. The traces are
// the same on every machine, and everything is done by one thread: the figures are too.

#include "tests/support/hit_ratio.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace pcache {
namespace {

constexpr std::uint32_t kBlocks = 200'000;
constexpr std::size_t kLength = 600'000;

TEST(HitRatio, OfTheReferencePoliciesIsAsWorkedOutByHand) {
  const auto trace_of = [](std::initializer_list<std::uint32_t> blocks) {
    Trace trace{"by hand", 8, 0, {}};
    for (const std::uint32_t block : blocks) trace.accesses.push_back({block, false, false});
    return trace;
  };
  // With room for two, FIFO has dropped 1 for 3 though it was read again; LRU has dropped 2.
  const Trace trace = trace_of({1, 2, 1, 3, 1, 2});
  EXPECT_EQ(run_fifo(trace, 2).hits, 1U);
  EXPECT_EQ(run_lru(trace, 2).hits, 2U);
  EXPECT_EQ(run_fifo(trace, 3).hits, 3U);
  EXPECT_EQ(run_lru(trace, 3).hits, 3U);
  const Trace loop = trace_of({1, 2, 3, 1, 2, 3});
  EXPECT_EQ(run_fifo(loop, 2).hits, 0U);
  EXPECT_EQ(run_lru(loop, 2).hits, 0U);
}

TEST(HitRatio, OnZipfIsAtLeastThatOfLruAndAScanAddsAtMostHalfTheMissesThatItAddsToFifo) {
  const Trace alone = zipf_trace(kBlocks, kLength);
  const Trace beside = scanned_trace(alone);
  for (const std::uint32_t percent : {5, 20}) {
    const std::uint32_t capacity = kBlocks * percent / 100;
    const Hits engine = run_engine(alone, capacity * kBlockSize);
    EXPECT_GE(engine.ratio(), run_lru(alone, capacity).ratio()) << percent << " %";
    const std::uint64_t scanned = run_engine(beside, capacity * kBlockSize).misses();
    const std::uint64_t fifo_adds = run_fifo(beside, capacity).misses() - run_fifo(alone, capacity).misses();
    EXPECT_LE(2 * scanned, 2 * engine.misses() + fifo_adds) << percent << " %";
  }
}

}  // namespace
}  // namespace pcache
