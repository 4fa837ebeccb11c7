#include "cli/top_model.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

class TopModelTest : public testing::Test {
 protected:
  struct Counters {
    std::uint64_t since_ms, reads, read_bytes, hits, misses, writes, write_bytes, back;
  };
  static json stats(const Counters& c, json buckets = json::array()) {
    return {{"since_ms", c.since_ms},
            {"logic_dev",
             {{"reads", c.reads},
              {"read_bytes", c.read_bytes},
              {"read_hits", c.hits},
              {"read_misses", c.misses},
              {"writes", c.writes},
              {"write_bytes", c.write_bytes},
              {"written_back_bytes", c.back}}},
            {"latencies", json::array({{{"name", "read"}, {"buckets", std::move(buckets)}}})}};
  }
  static json status(std::uint64_t dirty = 0) {
    return {{"health", {{"level", "ok"}}},
            {"cache_devs", json::array({{{"label", "fast"}, {"size_bytes", 1000U}}})},
            {"logic_devs", json::array({{{"name", "a"},
                                         {"mode", "writeback"},
                                         {"state", "running"},
                                         {"cache_dev", "fast"},
                                         {"dirty_bytes", dirty}},
                                        {{"name", "b"}, {"cache_dev", "fast"}}})}};
  }
  TopModel::Time at(int seconds) { return begin_ + std::chrono::seconds(seconds); }

  const TopModel::Time begin_ = TopModel::Time() + std::chrono::hours(1);
  TopModel model_;
};

TEST_F(TopModelTest, RatesAreWhatCameBetweenTwoLooks) {
  model_.look(status(), {{"a", stats({1000, 10, 1000, 5, 5, 7, 700, 50})}}, at(0));
  EXPECT_EQ(model_.rows(TopSort::name).at(0).read_ops, 0) << "one look says nothing";
  model_.look(status(250), {{"a", stats({3000, 30, 5000, 20, 10, 17, 1700, 1050})}}, at(2));
  const TopRow row = model_.rows(TopSort::name).at(0);
  EXPECT_DOUBLE_EQ(row.read_ops, 10);
  EXPECT_DOUBLE_EQ(row.read_bytes, 2000);
  EXPECT_DOUBLE_EQ(row.write_ops, 5);
  EXPECT_DOUBLE_EQ(row.write_bytes, 500);
  EXPECT_DOUBLE_EQ(row.written_back_bytes, 500);
  EXPECT_DOUBLE_EQ(row.hit_part, 0.75);
  EXPECT_EQ(row.dirty_bytes, 250U);
  EXPECT_DOUBLE_EQ(row.dirty_part, 0.25);
  EXPECT_EQ(row.mode, "writeback");
  EXPECT_EQ(model_.health(), "ok");
  EXPECT_EQ(model_.rows(TopSort::name).at(1).hit_part, -1) << "nothing is known of b";
}

TEST_F(TopModelTest, LatenciesAreThoseOfTheInterval) {
  const auto bucket = [](std::uint64_t below_ns, std::uint64_t count) {
    return json{{"below_ns", below_ns}, {"count", count}};
  };
  model_.look(status(), {{"a", stats({1, 0, 0, 0, 0, 0, 0, 0}, {bucket(100, 1000)})}}, at(0));
  model_.look(status(), {{"a", stats({2, 0, 0, 0, 0, 0, 0, 0}, {bucket(100, 1000), bucket(400, 98), bucket(900, 2)})}},
              at(1));
  const TopRow row = model_.rows(TopSort::name).at(0);
  EXPECT_EQ(row.read_p50_ns, 400U) << "what was before does not count";
  EXPECT_EQ(row.read_p99_ns, 900U);
  EXPECT_EQ(row.write_p99_ns, 0U) << "none was timed";
}

TEST_F(TopModelTest, WhatBeganAnewHasNoRates) {
  model_.look(status(), {{"a", stats({5000, 100, 100, 0, 0, 0, 0, 0})}}, at(0));
  model_.look(status(), {{"a", stats({10, 7, 7, 0, 0, 0, 0, 0})}}, at(1));
  EXPECT_EQ(model_.rows(TopSort::name).at(0).read_ops, 0) << "it was reset";
  model_.look(status(), {{"a", stats({1010, 8, 8, 0, 0, 0, 0, 0})}}, at(2));
  EXPECT_DOUBLE_EQ(model_.rows(TopSort::name).at(0).read_ops, 1);
  model_.forget();
  EXPECT_TRUE(model_.rows(TopSort::name).empty());
  model_.look(status(), {{"a", stats({2010, 9, 9, 0, 0, 0, 0, 0})}}, at(3));
  EXPECT_EQ(model_.rows(TopSort::name).at(0).read_ops, 0) << "another daemon";
}

TEST_F(TopModelTest, TheLargestComesFirstButForNames) {
  const auto look = [this](int second, std::uint64_t b) {
    model_.look(status(),
                {{"a", stats({1000U * static_cast<unsigned>(second), 0, 0, 0, 0, 0, 0, 0})},
                 {"b", stats({1000U * static_cast<unsigned>(second), b, b, 0, 0, 0, 0, 0})}},
                at(second));
  };
  look(1, 0);
  look(2, 9);
  for (int i = 0; i < kTopSorts; ++i) EXPECT_NE(std::string(to_string(static_cast<TopSort>(i))), "");
  EXPECT_EQ(model_.rows(TopSort::name).at(0).name, "a");
  EXPECT_EQ(model_.rows(TopSort::iops).at(0).name, "b");
  EXPECT_EQ(model_.rows(TopSort::dirty).at(0).name, "a") << "alike";
}

TEST_F(TopModelTest, RepliesThatMakeNoSenseShowNothing) {
  model_.look(json::array(), {}, at(0));
  model_.look({{"logic_devs", 7}, {"health", "x"}}, {}, at(1));
  EXPECT_TRUE(model_.rows(TopSort::name).empty());
  model_.look(status(), {{"a", json::array()}}, at(2));
  model_.look(status(), {{"a", {{"latencies", "x"}, {"logic_dev", 3}}}}, at(3));
  EXPECT_EQ(model_.rows(TopSort::name).size(), 2U);
}

}  // namespace
}  // namespace pcache
