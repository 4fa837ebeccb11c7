#include "control/handlers.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "control/command_table.h"
#include "control/event_log.h"
#include "control/jobs.h"
#include "control/version.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

class HandlersTest : public testing::Test {
 protected:
  Result<json> run(const std::string& name, const json& args = json::object()) {
    const Command* command = find_command(name);
    if (command == nullptr) return Status(Errc::failed, "no command " + name);
    return run_command(*command, context_, args);
  }
  // What a job looks like at its end.
  json end_of(const std::string& name, const json& args) {
    const auto begun = run(name, args);
    if (!begun) return begun.status().message();
    return end_of(begun->at("job").get<std::uint64_t>());
  }
  json end_of(std::uint64_t job) {
    for (;;) {
      json shown = run("jobs", {{"job", job}})->at("jobs").at(0);
      if (shown.at("state") != "running") return shown;
      std::this_thread::yield();
    }
  }

  FakeManager manager_;
  int umounts_ = 0;
  Jobs jobs_;
  EventLog events_;
  CommandContext context_{manager_, "/mnt/x", [this] { ++umounts_; }, jobs_, events_};
};

TEST_F(HandlersTest, PingAndVersionSayWhoAnswers) {
  const auto ping = run("ping");
  ASSERT_TRUE(ping.ok());
  EXPECT_EQ(ping->at("mount"), "/mnt/x");
  EXPECT_EQ(ping->at("pid"), getpid());
  const auto version = run("version");
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->at("version"), kVersion);
}

TEST_F(HandlersTest, AddHandsEverythingOn) {
  const json settings = {{"dirty_low", "5%"}};
  ASSERT_TRUE(
      run("add", {{"name", "d"}, {"backing", "/b"}, {"cache", "c"}, {"size", 4096U}, {"settings", settings}}).ok());
  ASSERT_TRUE(run("add", {{"name", "e"}, {"backing", "/f"}}).ok());
  const auto added = manager_.added();
  ASSERT_EQ(added.size(), 2U);
  EXPECT_EQ(added[0].name, "d");
  EXPECT_EQ(added[0].backing, "/b");
  EXPECT_EQ(added[0].options.cache_label, "c");
  EXPECT_EQ(added[0].options.size_bytes, 4096U);
  EXPECT_EQ(added[0].options.settings.get(Setting::dirty_low), kPercent | 5);
  EXPECT_EQ(added[1].options.cache_label, "");
  EXPECT_TRUE(added[1].options.settings.empty());
  EXPECT_FALSE(added[1].options.size_bytes.has_value());
}

TEST_F(HandlersTest, RemoveSaysWhatBecomesOfDirtyData) {
  EXPECT_EQ(end_of("remove", {{"name", "d"}})["state"], "done");
  EXPECT_EQ(end_of("remove", {{"name", "d"}, {"no_flush", true}})["state"], "done");
  EXPECT_EQ(end_of("remove", {{"name", "d"}, {"discard_dirty", true}})["state"], "done");
  EXPECT_EQ(manager_.calls(),
            (std::vector<std::string>{"drain d", "await 7 d", "await 7 d", "remove d", "keep d", "discard d"}));
  EXPECT_EQ(run("remove", {{"name", "d"}, {"no_flush", true}, {"discard_dirty", true}}).status().code(), Errc::invalid);
  manager_.in_use = true;
  for (const char* const how : {"no_flush", "discard_dirty"}) {
    const json refused = end_of("remove", {{"name", "d"}, {how, true}});
    EXPECT_EQ(refused["state"], "failed") << how;
    EXPECT_EQ(refused["error"]["code"], "busy") << how;
  }
  EXPECT_EQ(end_of("remove", {{"name", "d"}})["error"]["code"], "busy");
  EXPECT_EQ(manager_.calls().size(), 6U) << "nothing was begun";
  EXPECT_EQ(end_of("remove", {{"name", "d"}, {"force", true}})["state"], "done");
  EXPECT_EQ(manager_.calls().back(), "remove d");
  EXPECT_EQ(run("remove", {{"name", "d"}, {"discard_dirty", 1}}).status().code(), Errc::invalid);
}

TEST_F(HandlersTest, ACacheDeviceGrowsAtOnceAndShrinksAsAJobThatCanBeCancelled) {
  EXPECT_TRUE(run("grow", {{"cache", "fast"}}).ok());
  EXPECT_TRUE(run("grow", {{"cache", "fast"}, {"size", 8192U}}).ok());
  const json shrunk = end_of("shrink", {{"cache", "fast"}, {"size", 4096U}});
  EXPECT_EQ(shrunk["state"], "done");
  EXPECT_EQ(shrunk["object"], "fast");
  EXPECT_EQ(shrunk["done_bytes"], 4096U);
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"grow fast 0", "grow fast 8192", "shrink fast 4096",
                                                        "shrinking fast", "shrinking fast"}));
  EXPECT_EQ(run("shrink", {{"cache", "fast"}}).status().code(), Errc::invalid) << "to what size?";
  EXPECT_EQ(run("grow", {{"size", 4096U}}).status().code(), Errc::invalid);
  manager_.never_done();
  const auto begun = run("shrink", {{"cache", "fast"}, {"size", 4096U}});
  ASSERT_TRUE(begun.ok());
  const auto job = begun->at("job").get<std::uint64_t>();
  ASSERT_TRUE(run("cancel", {{"job", job}}).ok());
  EXPECT_EQ(end_of(job)["state"], "cancelled");
  EXPECT_EQ(manager_.calls().back(), "keep size of fast");
}

TEST_F(HandlersTest, ACacheDeviceIsRegisteredAndOnlyFormattedWhereThatIsSaid) {
  context_.open_cache_dev = [this](const std::string& path) {
    CacheOptions options;
    options.epoch_max_ms = 77;
    return manager_.open_cache_dev(path, options);
  };
  const auto registered = run("register", {{"path", "/c"}});
  ASSERT_TRUE(registered.ok()) << registered.status().message();
  EXPECT_EQ(registered->at("cache_dev_id"), 5U);
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"open /c 77"})) << "with what counts for the mount";
  ASSERT_TRUE(
      run("register", {{"path", "/d"}, {"format", true}, {"size", 4096U}, {"label", "l"}, {"force", true}}).ok());
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"open /c 77", "format /d 4096 l force", "open /d 77"}));
  for (const json& more : {json{{"size", 4096U}}, json{{"label", "l"}}, json{{"force", true}}}) {
    json args = {{"path", "/d"}};
    args.update(more);
    EXPECT_EQ(run("register", args).status().code(), Errc::invalid) << more;
  }
  EXPECT_EQ(run("register", {{"format", true}}).status().code(), Errc::invalid) << "which one?";
  EXPECT_TRUE(run("unregister", {{"cache", "fast"}}).ok());
  EXPECT_TRUE(run("unregister", {{"cache", "/c"}, {"no_flush", true}}).ok());
  EXPECT_EQ(manager_.calls().size(), 5U);
  EXPECT_EQ(manager_.calls()[3], "close fast");
  EXPECT_EQ(manager_.calls()[4], "close /c keep");
  manager_.outcome(Status(Errc::busy, "it is in use"));
  EXPECT_EQ(run("register", {{"path", "/e"}, {"format", true}}).status().code(), Errc::busy);
  EXPECT_EQ(manager_.calls().back(), "format /e 0 ") << "what was not formatted is not opened";
  EXPECT_EQ(run("unregister", {{"cache", "fast"}}).status().code(), Errc::busy);
}

TEST_F(HandlersTest, WhatTakesLongIsAJobWithProgress) {
  const json drained = end_of("drain", {{"name", "d"}});
  EXPECT_EQ(drained["state"], "done");
  EXPECT_EQ(drained["command"], "drain");
  EXPECT_EQ(drained["object"], "d");
  EXPECT_EQ(drained["total_bytes"], 4096U);
  EXPECT_EQ(drained["done_bytes"], 4096U);
  EXPECT_EQ(end_of("detach", {{"name", "d"}})["state"], "done");
  EXPECT_EQ(end_of("attach", {{"name", "d"}})["state"], "done");
  EXPECT_EQ(end_of("set", {{"name", "d"}, {"settings", {{"mode", "writearound"}}}})["state"], "done");
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"drain d", "await 7 d", "await 7 d", "detach d", "switch d",
                                                        "switch d", "attach d", "switch d", "switch d",
                                                        "set d mode=writearound", "switch d", "switch d"}));
}

TEST_F(HandlersTest, ACancelledSwitchIsUndoneAndACancelledDrainIsNotWaitedFor) {
  manager_.never_done();
  for (const auto& [command, undone] : {std::pair{"detach", "attach d"}, {"attach", "detach d"}, {"drain", ""}}) {
    const auto begun = run(command, {{"name", "d"}});
    ASSERT_TRUE(begun.ok());
    const auto job = begun->at("job").get<std::uint64_t>();
    EXPECT_EQ(run("jobs", {{"job", job}})->at("jobs").at(0).at("state"), "running");
    ASSERT_TRUE(run("cancel", {{"job", job}}).ok());
    EXPECT_EQ(end_of(job)["state"], "cancelled") << command;
    EXPECT_EQ(run("cancel", {{"job", job}}).status().code(), Errc::invalid) << "it has ended";
    if (*undone != '\0') {
      EXPECT_EQ(manager_.calls().back(), undone);
    }
  }
  EXPECT_EQ(run("cancel", {{"job", 77U}}).status().code(), Errc::not_found);
  EXPECT_EQ(run("jobs", {{"job", 77U}}).status().code(), Errc::not_found);
  EXPECT_EQ(run("jobs")->at("jobs").size(), 3U);
}

TEST_F(HandlersTest, WhenTheDaemonEndsASwitchIsNotUndone) {
  manager_.never_done();
  ASSERT_TRUE(run("detach", {{"name", "d"}}).ok());
  manager_.wait_for_calls(2);
  jobs_.stop();
  const auto calls = manager_.calls();
  EXPECT_EQ(std::count(calls.begin(), calls.end(), "attach d"), 0);
  EXPECT_EQ(run("drain", {{"name", "d"}}).status().code(), Errc::busy);
}

TEST_F(HandlersTest, SettingsGoThereAndBackAsText) {
  const json settings = {{"dirty_high", "30%"}, {"full_max_wait", "2s"}};
  EXPECT_EQ(end_of("set", {{"name", "d"}, {"settings", settings}})["state"], "done");
  EXPECT_EQ(manager_.calls().back(), "set d dirty_high=30% full_max_wait=2000");
  const auto reply = run("get", {{"name", "d"}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->at("name"), "d");
  const json expected = {
      {{"name", "dirty_high"}, {"value", "30%"}, {"origin", "stored"}, {"stored", "30%"}, {"configured", "60%"}}};
  EXPECT_EQ(reply->at("settings"), expected);
  EXPECT_EQ(run("get", {{"name", "d"}, {"key", "dirty_low"}})->at("settings").size(), 0U);
  EXPECT_EQ(run("get", {{"name", "d"}, {"key", "nonsense"}}).status().code(), Errc::invalid);
  manager_.outcome(Status(Errc::not_found, "no"));
  EXPECT_EQ(run("get", {{"name", "d"}}).status().code(), Errc::not_found);
}

TEST_F(HandlersTest, SettingsAreSetForNowAndTakenBack) {
  const json settings = {{"dirty_high", "30%"}};
  EXPECT_EQ(end_of("set", {{"name", "d"}, {"settings", settings}, {"temporary", true}})["state"], "done");
  EXPECT_EQ(manager_.calls().back(), "set for now d dirty_high=30%");
  EXPECT_EQ(end_of("unset", {{"name", "d"}, {"keys", {"full_max_wait", "dirty_high"}}})["state"], "done");
  EXPECT_EQ(manager_.calls().back(), "unset d dirty_high full_max_wait");
  for (const json& keys : {json::array(), json::array({"nonsense"}), json::array({7}), json("dirty_high")}) {
    EXPECT_EQ(run("unset", {{"name", "d"}, {"keys", keys}}).status().code(), Errc::invalid) << keys;
  }
}

// The mode is taken back by a switch; only then is it stored no more.
TEST_F(HandlersTest, TheModeIsTakenBackInItsOwnTime) {
  EXPECT_EQ(end_of("unset", {{"name", "d"}, {"keys", {"mode"}}})["state"], "done");
  const std::vector<std::string> expected = {"unset d mode", "switch d", "switch d", "unset d mode"};
  EXPECT_EQ(manager_.calls(), expected);
}

TEST_F(HandlersTest, StatsHaveCountersAndLatencies) {
  const auto reply = run("stats", {{"name", "d"}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->at("since_ms"), 5000);
  EXPECT_EQ(reply->at("logic_dev").at("writes"), 3);
  const json expected = {
      {"name", "write"}, {"count", 4},
      {"mean_ns", 250},  {"p50_ns", 128},
      {"p99_ns", 700},   {"p999_ns", 700},
      {"max_ns", 700},   {"buckets", {{{"below_ns", 128}, {"count", 3}}, {{"below_ns", 1024}, {"count", 1}}}}};
  EXPECT_EQ(reply->at("latencies").at(0), expected);
  ASSERT_TRUE(run("stats-reset", {{"name", "d"}}).ok());
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"activity d", "activity d reset"}));
  EXPECT_EQ(run("stats-reset").status().code(), Errc::invalid);
  StatusReport report;
  report.logic_devs.emplace_back().name = "a";
  report.logic_devs.emplace_back().name = "b";
  manager_.report(report);
  const auto all = run("stats");
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->at("stats").size(), 2U);
  EXPECT_EQ(all->at("stats")[1]["logic_dev"]["name"], "b");
}

TEST_F(HandlersTest, BadArgumentsAreInvalidAndReachNobody) {
  const std::pair<const char*, json> bad[] = {
      {"add", json::object()},
      {"add", {{"name", "d"}}},
      {"add", {{"name", 1}, {"backing", "/b"}}},
      {"add", {{"name", "d"}, {"backing", "/b"}, {"cache", 1}}},
      {"add", {{"name", "d"}, {"backing", "/b"}, {"size", -1}}},
      {"add", {{"name", "d"}, {"backing", "/b"}, {"size", "4096"}}},
      {"add", {{"name", "d"}, {"backing", "/b"}, {"settings", "dirty_low=5%"}}},
      {"add", {{"name", "d"}, {"backing", "/b"}, {"settings", {{"dirty_low", "99%"}}}}},
      {"set", {{"name", "d"}}},
      {"set", {{"name", "d"}, {"settings", json::object()}}},
      {"set", {{"name", "d"}, {"settings", {{"dirty_low", 5}}}}},
      {"set", {{"name", "d"}, {"settings", {{"nonsense", "5"}}}}},
      {"set", {{"name", "d"}, {"settings", {{"dirty_low", "50%"}, {"dirty_high", "40%"}}}}},
      {"set", {{"settings", {{"dirty_low", "50%"}}}}},
      {"get", json::object()},
      {"remove", json::object()},
      {"flush", {{"name", nullptr}}},
      {"status", {{"name", 7}}},
      {"status", {{"nmae", "d"}}},
      {"ping", {{"name", "d"}}},
      {"cancel", json::object()},
      {"cancel", {{"job", -1}}},
  };
  for (const auto& [command, args] : bad) {
    const auto result = run(command, args);
    ASSERT_FALSE(result.ok()) << command << args;
    EXPECT_EQ(result.status().code(), Errc::invalid) << command << args;
  }
  EXPECT_TRUE(manager_.added().empty());
  EXPECT_TRUE(manager_.calls().empty());
}

TEST_F(HandlersTest, RefusalsComeBackAsTheyAre) {
  manager_.outcome(Status(Errc::dirty, "dirty it is"));
  const auto resized = run("resize", {{"name", "d"}});
  ASSERT_FALSE(resized.ok());
  EXPECT_EQ(resized.status().code(), Errc::dirty);
  EXPECT_EQ(resized.status().message(), "dirty it is");
  const json error = {{"code", "dirty"}, {"message", "dirty it is"}};
  for (const char* command : {"remove", "flush", "drain", "detach"}) {
    const json ended = end_of(command, {{"name", "d"}});
    EXPECT_EQ(ended["state"], "failed") << command;
    EXPECT_EQ(ended["error"], error) << command;
  }
}

TEST_F(HandlersTest, StatusCanBeOfOneLogicalDevice) {
  StatusReport report;
  report.cache_devs.emplace_back();
  for (const char* name : {"a", "b"}) report.logic_devs.emplace_back().name = name;
  manager_.report(report);
  EXPECT_EQ(run("status")->at("logic_devs").size(), 2U);
  const auto one = run("status", {{"name", "b"}});
  ASSERT_TRUE(one.ok());
  ASSERT_EQ(one->at("logic_devs").size(), 1U);
  EXPECT_EQ(one->at("logic_devs")[0].at("name"), "b");
  const auto none = run("status", {{"name", "c"}});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), Errc::not_found);
  EXPECT_NE(none.status().message().find("c"), std::string::npos);
}

TEST_F(HandlersTest, EventsAreThoseAfterANumber) {
  EXPECT_EQ(run("events")->at("events").size(), 0U);
  for (const char* object : {"a", "b"}) events_.add({EventKind::mode_changed, object, "m"});
  EXPECT_EQ(run("events")->at("events").size(), 2U);
  const json later = run("events", {{"after", 1U}})->at("events");
  ASSERT_EQ(later.size(), 1U);
  EXPECT_EQ(later[0]["object"], "b");
}

TEST_F(HandlersTest, MetricsComeInBothFormats) {
  EXPECT_EQ(run("metrics")->at("text").get<std::string>().find("# EOF"), std::string::npos);
  EXPECT_NE(run("metrics", {{"format", "openmetrics"}})->at("text").get<std::string>().find("# EOF"),
            std::string::npos);
  EXPECT_EQ(run("metrics", {{"format", "xml"}}).status().code(), Errc::invalid);
}

TEST_F(HandlersTest, SegmentsAreThoseOfEachCacheDevice) {
  const json expected = {
      {{"label", "fast"}, {"states", "dcc.x"}, {"logic_devs", {"db", "vm"}}, {"owners", {0, 0, 1, -1, -1}}}};
  EXPECT_EQ(run("segments")->at("cache_devs"), expected);
}

TEST_F(HandlersTest, UmountAsksOnce) {
  EXPECT_TRUE(run("umount").ok());
  EXPECT_EQ(umounts_, 1);
}

}  // namespace
}  // namespace pcache
