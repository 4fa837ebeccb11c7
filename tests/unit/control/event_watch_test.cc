#include "control/event_watch.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

class EventWatchTest : public testing::Test {
 protected:
  EventWatchTest() {
    CacheDevStats& cache = report_.cache_devs.emplace_back();
    cache.label = "fast";
    cache.state = "running";
    cache.path = "/dev/dax0.0";
    cache.segments = 10;
    cache.segments_free = 8;
    cache.segments_reserved = 1;
    LogicDevStats& device = report_.logic_devs.emplace_back();
    device.name = "db";
    device.backing = "/b";
    device.state = "running";
    device.mode = "writeback";
    device.size_bytes = 1 << 20;
  }
  CacheDevStats& cache() { return report_.cache_devs[0]; }
  LogicDevStats& device() { return report_.logic_devs[0]; }
  // What a look finds, as "kind object ...".
  std::string look() {
    std::string found;
    for (const Event& event : watch_.look(report_)) {
      EXPECT_FALSE(event.message.empty()) << to_string(event.kind);
      found += (found.empty() ? "" : ", ") + std::string(to_string(event.kind)) + " " + event.object;
    }
    return found;
  }

  EventWatch watch_;
  StatusReport report_;
};

TEST_F(EventWatchTest, TheFirstLookTellsWhatThereIsAndWhatIsWrongWithIt) {
  device().state = "no_backing";
  device().lost_bytes = 4096;
  device().throttled_ms = 50;
  EXPECT_EQ(look(), "cache_dev_added fast, logic_dev_added db, state_changed db, data_lost db");
  EXPECT_EQ(look(), "") << "nothing has changed";
}

TEST_F(EventWatchTest, DevicesComeAndGoAndChange) {
  look();
  report_.logic_devs.push_back(device());
  report_.logic_devs.back().name = "home";
  EXPECT_EQ(look(), "logic_dev_added home");
  cache().state = "failed";
  cache().detail = "its file became shorter";
  EXPECT_EQ(look(), "state_changed fast");
  device().mode = "writethrough";
  EXPECT_EQ(look(), "mode_changed db");
  device().size_bytes *= 2;
  EXPECT_EQ(look(), "size_changed db");
  device().state = "failed";
  EXPECT_EQ(look(), "state_changed db");
  report_.logic_devs.erase(report_.logic_devs.begin());
  EXPECT_EQ(look(), "logic_dev_removed db");
  report_.cache_devs.clear();
  EXPECT_EQ(look(), "cache_dev_removed fast");
}

TEST_F(EventWatchTest, WhatIsMissingIsToldOnceAndComesAsIfNew) {
  const StatusReport there = report_;
  report_ = {};
  report_.cache_devs.emplace_back().label = "fast";
  report_.cache_devs[0].state = "missing";
  report_.logic_devs.emplace_back().name = "db";
  report_.logic_devs[0].state = "missing";
  EXPECT_EQ(look(), "state_changed fast, state_changed db");
  EXPECT_EQ(look(), "");
  report_ = there;
  EXPECT_EQ(look(), "cache_dev_added fast, logic_dev_added db");
}

TEST_F(EventWatchTest, ABackingFailsOnceAndComesBackOnce) {
  look();
  device().backing_fails = true;
  device().detail = "writeback fails and is tried again: no space";
  EXPECT_EQ(look(), "backing_failed db");
  ++device().writeback_errors;
  EXPECT_EQ(look(), "");
  device().backing_fails = false;
  EXPECT_EQ(look(), "backing_back db");
}

TEST_F(EventWatchTest, DamageIsToldEachTimeThatThereIsMore) {
  look();
  device().checksum_errors = 1;
  device().bad_cells = 1;
  cache().damaged_records = 1;
  cache().unrepaired_copies = 1;
  EXPECT_EQ(look(), "damage_found fast, damage_found fast, damage_found db, damage_found db");
  EXPECT_EQ(look(), "");
  device().lost_bytes = 512;
  device().checksum_errors = 2;
  EXPECT_EQ(look(), "damage_found db, data_lost db");
}

TEST_F(EventWatchTest, AFullCacheAndWaitingWritesAreToldOnceUntilTheyAreOver) {
  look();
  cache().segments_free = 1;
  device().space_waits = 5;
  EXPECT_EQ(look(), "cache_full fast, writes_wait db");
  device().throttled_ms = 10;
  EXPECT_EQ(look(), "");
  cache().segments_clean = 1;
  EXPECT_EQ(look(), "cache_has_space fast");
  for (int i = 2; i < EventWatch::kQuietLooks; ++i) EXPECT_EQ(look(), "") << i;
  EXPECT_EQ(look(), "writes_go_on db");
  EXPECT_EQ(look(), "");
  ++device().space_waits;
  EXPECT_EQ(look(), "writes_wait db");
}

TEST_F(EventWatchTest, WritesThatWaitDoNotGoOn) {
  look();
  device().waiting_writes = 4;
  EXPECT_EQ(look(), "writes_wait db");
  for (int i = 0; i < 3 * EventWatch::kQuietLooks; ++i) EXPECT_EQ(look(), "");
  device().waiting_writes = 0;
  device().throttled_ms = 200'000;
  for (int i = 0; i < EventWatch::kQuietLooks; ++i) EXPECT_EQ(look(), "");
  EXPECT_EQ(look(), "writes_go_on db");
}

TEST_F(EventWatchTest, ReadsThatTheBackingFailsAreTold) {
  look();
  device().backing_read_errors = 3;
  EXPECT_EQ(look(), "backing_read_failed db");
  EXPECT_EQ(look(), "");
}

}  // namespace
}  // namespace pcache
