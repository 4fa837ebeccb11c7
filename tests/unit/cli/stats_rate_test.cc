#include "cli/stats_rate.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pcache {
namespace {

using nlohmann::json;

json stats(std::uint64_t since_ms, std::uint64_t writes, std::uint64_t hits, std::uint64_t misses, std::uint64_t slow) {
  return {{"since_ms", since_ms},
          {"logic_dev",
           {{"name", "d"},
            {"writes", writes},
            {"write_bytes", writes * 4096},
            {"reads", 0U},
            {"read_hits", hits},
            {"read_misses", misses},
            {"dirty_bytes", 8192U}}},
          {"latencies",
           {{{"name", "write"},
             {"buckets", {{{"below_ns", 1000U}, {"count", 100U}}, {{"below_ns", 9000U}, {"count", slow}}}}}}}};
}

TEST(StatsRate, IsWhatHappenedInBetweenASecond) {
  const json rate = stats_rate(stats(1000, 10, 5, 5, 1), stats(3000, 30, 8, 6, 11));
  EXPECT_EQ(rate["interval_ms"], 2000);
  EXPECT_EQ(rate["writes_per_second"], 10);
  EXPECT_EQ(rate["write_bytes_per_second"], 40960);
  EXPECT_EQ(rate["read_hit_percent"], 75);
  EXPECT_EQ(rate["write_p99_ns"], 9000) << "only those in between count, and they were slow";
  EXPECT_FALSE(rate.contains("read_p99_ns")) << "nothing was measured";
}

TEST(StatsRate, SaysNothingOfHitsWhereNothingWasRead) {
  const json rate = stats_rate(stats(1000, 10, 5, 5, 1), stats(2000, 10, 5, 5, 1));
  EXPECT_FALSE(rate.contains("read_hit_percent"));
  EXPECT_EQ(rate["writes_per_second"], 0);
  OutputStyle bare;
  bare.bare = bare.exact = true;
  EXPECT_EQ(rate_text(rate, bare), "0\t0\t0\t0\t-\t-\t-\t8192\t0\n");
}

TEST(StatsRate, CountsFromTheResetWhereThereWasOne) {
  const json rate = stats_rate(stats(100'000, 1'000'000, 5, 5, 1), stats(500, 10, 1, 0, 1));
  EXPECT_EQ(rate["interval_ms"], 500);
  EXPECT_EQ(rate["writes_per_second"], 20);
}

TEST(StatsRate, HasAHeadingOverEachColumn) {
  const json rate = stats_rate(stats(1000, 10, 5, 5, 1), stats(3000, 30, 8, 6, 11));
  EXPECT_EQ(rate_heading({}).size(), rate_text(rate, {}).size());
  OutputStyle bare;
  bare.bare = true;
  EXPECT_EQ(rate_heading(bare), "");
  const std::string text = rate_text(rate, bare);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\t'), 8);
}

}  // namespace
}  // namespace pcache
