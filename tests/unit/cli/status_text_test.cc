#include "cli/status_text.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

json cache_dev() {
  return {{"label", "fast"},     {"path", "/dev/dax0.0"}, {"size_bytes", 1536U << 20},   {"segments", 96U},
          {"segments_used", 7U}, {"ack", "durable"},      {"granularity", "cache_line"}, {"damaged_records", 0U}};
}

json logic_dev() {
  return {{"name", "db"},        {"size_bytes", 10U << 20}, {"state", "running"},
          {"mode", "writeback"}, {"cache_dev", "fast"},     {"backing", "/srv/db.img"},
          {"detail", ""},        {"dirty_bytes", 8192U},    {"cached_bytes", 3U << 20},
          {"read_hits", 3U},     {"read_misses", 1U},       {"written_back_bytes", 4096U},
          {"lost_bytes", 0U}};
}

json report(const std::vector<json>& caches, const std::vector<json>& devices) {
  return {{"cache_devs", caches}, {"logic_devs", devices}};
}

void expect_in(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
}

TEST(StatusTextTest, SaysWhatThereIsInUnitsForPeople) {
  const std::string text = status_text(report({cache_dev()}, {logic_dev()}));
  expect_in(text, {"fast", "/dev/dax0.0", "1.5 GiB", "7 of 96 segments", "cache_line", "db", "10 MiB", "running",
                   "/srv/db.img", "dirty 8 KiB", "cached 3 MiB", "75 % of 4 blocks", "written back 4 KiB"});
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(text.find("no cache device"), std::string::npos);
}

TEST(StatusTextTest, SaysWhatBecameOfReadsThatMissed) {
  json device = logic_dev();
  device["read_fills"] = 11U;
  device["not_admitted_first_touch"] = 12U;
  device["not_admitted_sequential"] = 13U;
  device["not_admitted_no_space"] = 14U;
  device["evicted_bytes"] = 1U << 20;
  device["promoted_bytes"] = 2U << 20;
  device["relocated_bytes"] = 5U << 20;
  device["ghost_hits"] = 15U;
  expect_in(status_text(report({cache_dev()}, {device})),
            {"11 blocks admitted", "12 on first touch", "13 sequential", "14 without space", "evicted 1 MiB",
             "2 MiB from probation", "5 MiB from the log", "15 blocks that came back"});
}

TEST(StatusTextTest, SaysWhichPromiseIsInForce) {
  json cache = cache_dev();
  const std::string durable = status_text(report({cache}, {}));
  expect_in(durable, {"ack=durable", "survives power loss"});
  cache["ack"] = "flush";
  const std::string flush = status_text(report({cache}, {}));
  expect_in(flush, {"ack=flush", "after the next flush"});
  EXPECT_EQ(flush.find("survives power loss"), std::string::npos) << flush;
}

TEST(StatusTextTest, DamageIsSaidOnlyWhereThereIsSome) {
  json cache = cache_dev();
  json device = logic_dev();
  const std::string fine = status_text(report({cache}, {device}));
  EXPECT_EQ(fine.find("DAMAGED"), std::string::npos) << fine;
  EXPECT_EQ(fine.find("LOST"), std::string::npos) << fine;
  cache["damaged_records"] = 3U;
  device["lost_bytes"] = 12'288U;
  expect_in(status_text(report({cache}, {device})), {"DAMAGED: 3 key records", "LOST: 12 KiB"});
}

TEST(StatusTextTest, SaysWhyADeviceDoesNotRun) {
  json device = logic_dev();
  device["state"] = "no_backing";
  device["detail"] = "there is no /srv/db.img";
  expect_in(status_text(report({cache_dev()}, {device})), {"no_backing", "\n  there is no /srv/db.img\n"});
}

TEST(StatusTextTest, WithoutReadsThereIsNothingToDivideBy) {
  json device = logic_dev();
  device["read_hits"] = 0U;
  device["read_misses"] = 0U;
  expect_in(status_text(report({}, {device})), {"read hits 0 % of 0 blocks"});
}

TEST(StatusTextTest, NoCacheDeviceIsSaid) {
  EXPECT_EQ(status_text(report({}, {})), "no cache device\n");
  EXPECT_EQ(status_text(json::object()), "no cache device\n");
}

// A daemon of another version may leave things out, or say them otherwise.
TEST(StatusTextTest, WhatIsMissingOrOfAnotherTypeIsLeftOut) {
  const std::string text = status_text(
      report({json{{"label", 7}, {"size_bytes", "large"}, {"path", nullptr}}, json::object()},
             {json{{"name", "db"}, {"dirty_bytes", -5}, {"read_hits", 1.5}}, json("a text"), json::array()}));
  expect_in(text, {"cache device", "logical device db", "dirty 0 B"});
  EXPECT_EQ(status_text(json{{"cache_devs", "none"}, {"logic_devs", 3}}), "no cache device\n");
}

}  // namespace
}  // namespace pcache
