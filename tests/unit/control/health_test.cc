#include "control/health.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

TEST(Health, IsThatOfTheWorst) {
  StatusReport report;
  EXPECT_EQ(health_of(report).level, HealthLevel::ok);
  LogicDevStats device;
  device.name = "db";
  device.state = "running";
  report.logic_devs = {device};
  EXPECT_EQ(health_of(report).level, HealthLevel::ok);
  report.logic_devs[0].state = "parked";
  EXPECT_EQ(health_of(report).level, HealthLevel::ok) << "somebody wanted it so";

  report.logic_devs[0] = device;
  report.logic_devs[0].backing_fails = true;
  report.logic_devs[0].detail = "writeback fails";
  const Health failing = health_of(report);
  EXPECT_EQ(failing.level, HealthLevel::warning);
  EXPECT_EQ(failing.reasons, (std::vector<std::string>{"logical device db: writeback fails"}));

  CacheDevStats cache;
  cache.damaged_records = 2;
  report.cache_devs = {cache};
  for (const char* state : {"failed", "no_backing", "missing"}) {
    report.logic_devs[0].state = state;
    EXPECT_EQ(health_of(report).level, HealthLevel::critical) << state;
    EXPECT_EQ(health_of(report).reasons.size(), 2U);
  }
  report.logic_devs[0] = device;
  EXPECT_EQ(health_of(report).level, HealthLevel::warning);
  report.cache_devs[0].state = "failed";
  EXPECT_EQ(health_of(report).level, HealthLevel::critical);
  report.cache_devs.clear();
  report.logic_devs[0].lost_bytes = 1;
  EXPECT_EQ(health_of(report).level, HealthLevel::critical);
}

TEST(Health, WritesThatWaitAreAWarningAndWithASilentBackingCritical) {
  StatusReport report;
  LogicDevStats& device = report.logic_devs.emplace_back();
  device.name = "db";
  device.backing = "/b";
  device.state = "running";
  device.waiting_writes = 3;
  device.longest_wait_ms = 1999;
  EXPECT_EQ(health_of(report).level, HealthLevel::ok) << "they take turns";
  device.longest_wait_ms = 2500;
  EXPECT_EQ(health_of(report).level, HealthLevel::warning);
  EXPECT_EQ(health_of(report).reasons,
            (std::vector<std::string>{"logical device db: 3 writes wait for space, the first for 2 s"}));
  device.backing_silent_ms = 29'999;
  EXPECT_EQ(health_of(report).level, HealthLevel::warning);
  device.backing_silent_ms = 31'000;
  EXPECT_EQ(health_of(report).level, HealthLevel::critical);
  EXPECT_EQ(health_of(report).reasons[0], "logical device db: backing device /b has answered nothing for 31 s");
  device.waiting_writes = 0;
  EXPECT_EQ(health_of(report).level, HealthLevel::warning) << "nobody waits for it yet";
}

TEST(HealthWatch, ReadsThatFailedAreAWarningForAWhile) {
  HealthWatch watch;
  StatusReport report;
  LogicDevStats& device = report.logic_devs.emplace_back();
  device.name = "db";
  device.state = "running";
  const auto begin = HealthWatch::Clock::now();
  watch.look(report, begin);
  EXPECT_EQ(watch.health(report, false, begin).level, HealthLevel::ok);
  device.backing_read_errors = 2;
  watch.look(report, begin);
  EXPECT_EQ(watch.health(report, false, begin).level, HealthLevel::warning);
  EXPECT_NE(watch.health(report, false, begin).reasons[0].find("db: its backing device fails reads, 2 "),
            std::string::npos);
  const auto later = begin + HealthWatch::kLately + std::chrono::seconds(1);
  watch.look(report, later);
  EXPECT_EQ(watch.health(report, false, later).level, HealthLevel::ok);
  device.backing_read_errors = 3;
  watch.look(report, later);
  EXPECT_EQ(watch.health({}, false, later).level, HealthLevel::ok) << "it is not shown";
  EXPECT_EQ(watch.health(report, false, later).level, HealthLevel::warning);
  watch.look({}, later);
  EXPECT_EQ(watch.health(report, false, later).level, HealthLevel::ok) << "it was taken away and is another one";
}

}  // namespace
}  // namespace pcache
