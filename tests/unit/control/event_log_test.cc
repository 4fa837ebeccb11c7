#include "control/event_log.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

TEST(EventLog, NumbersEventsAndForgetsTheOldest) {
  EventLog log;
  EXPECT_EQ(log.last(), 0U);
  EXPECT_TRUE(log.after(0, 10).empty());
  for (std::size_t i = 0; i < EventLog::kKept + 3; ++i) log.add({EventKind::mode_changed, "db", std::to_string(i)});
  EXPECT_EQ(log.last(), EventLog::kKept + 3);
  const auto first = log.after(0, 2);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].number, 4U);
  EXPECT_EQ(first[0].event.message, "3");
  EXPECT_EQ(first[1].number, 5U);
  EXPECT_EQ(log.after(log.last() - 1, 10).size(), 1U);
  EXPECT_TRUE(log.after(log.last(), 10).empty());
  EXPECT_EQ(log.after(~std::uint64_t{0}, 10).size(), 10U) << "it never came to that number";
  EXPECT_TRUE(log.after(log.last(), 10, log.instance()).empty());
  EXPECT_EQ(log.after(log.last(), 10, log.instance() + 1).size(), 10U);
  EXPECT_EQ(log.after(0, 1'000'000).size(), EventLog::kKept);
}

TEST(EventLog, EveryKindHasAWordAndASeverity) {
  for (std::uint8_t kind = 0; kind <= static_cast<std::uint8_t>(EventKind::writes_go_on); ++kind) {
    const json event = to_json(LoggedEvent{7, 8, {static_cast<EventKind>(kind), "o", "m"}});
    EXPECT_NE(event["kind"], "") << int{kind};
    EXPECT_NE(event["severity"], "") << int{kind};
    EXPECT_EQ(event["number"], 7);
    EXPECT_EQ(event["time_ms"], 8);
    EXPECT_EQ(event["object"], "o");
    EXPECT_EQ(event["message"], "m");
  }
}

}  // namespace
}  // namespace pcache
