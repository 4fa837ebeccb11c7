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

}  // namespace
}  // namespace pcache
