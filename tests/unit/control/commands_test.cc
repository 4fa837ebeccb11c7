#include "control/commands.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "control/version.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

class CommandsTest : public testing::Test {
 protected:
  Result<json> run(const std::string& name, const json& args = json::object()) {
    const Command* command = find_command(name);
    if (command == nullptr) return Status(Errc::failed, "no command " + name);
    return command->run(context_, args);
  }

  FakeManager manager_;
  int umounts_ = 0;
  CommandContext context_{manager_, "/mnt/x", [this] { ++umounts_; }};
};

TEST_F(CommandsTest, TableSaysWhatChangesAndWhatIsSlow) {
  struct Row {
    const char* name;
    bool changes;
    bool slow;
  };
  for (const Row& row : {Row{"ping", false, false},
                         {"version", false, false},
                         {"status", false, false},
                         {"add", true, true},
                         {"remove", true, true},
                         {"flush", true, true},
                         {"set", true, true},
                         {"get", false, false},
                         {"stats", false, false},
                         {"stats-reset", true, false},
                         {"drain", true, true},
                         {"detach", true, true},
                         {"attach", true, true},
                         {"await_switch", true, true},
                         {"resize", true, true},
                         {"umount", true, false}}) {
    const Command* command = find_command(row.name);
    ASSERT_NE(command, nullptr) << row.name;
    EXPECT_EQ(command->changes, row.changes) << row.name;
    EXPECT_EQ(command->slow, row.slow) << row.name;
  }
  EXPECT_EQ(find_command("format"), nullptr);
  EXPECT_EQ(find_command(""), nullptr);
}

TEST_F(CommandsTest, PingAndVersionSayWhoAnswers) {
  const auto ping = run("ping");
  ASSERT_TRUE(ping.ok());
  EXPECT_EQ(ping->at("mount"), "/mnt/x");
  EXPECT_EQ(ping->at("pid"), getpid());
  const auto version = run("version");
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->at("version"), kVersion);
}

TEST_F(CommandsTest, AddHandsEverythingOn) {
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

TEST_F(CommandsTest, RemoveSaysWhatBecomesOfDirtyData) {
  ASSERT_TRUE(run("remove", {{"name", "d"}}).ok());
  ASSERT_TRUE(run("remove", {{"name", "d"}, {"no_flush", true}}).ok());
  ASSERT_TRUE(run("remove", {{"name", "d"}, {"discard_dirty", true}}).ok());
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"remove d", "keep d", "discard d"}));
  EXPECT_EQ(run("remove", {{"name", "d"}, {"no_flush", true}, {"discard_dirty", true}}).status().code(), Errc::invalid);
  EXPECT_EQ(run("remove", {{"name", "d"}, {"discard_dirty", 1}}).status().code(), Errc::invalid);
  EXPECT_EQ(manager_.calls().size(), 3U);
}

TEST_F(CommandsTest, ADrainIsBegunOnceAndAwaitedByItsNumber) {
  const auto begun = run("drain", {{"name", "d"}});
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(begun->at("number"), 7U);
  EXPECT_EQ(*run("drain", {{"name", "d"}, {"number", 7U}}), (json{{"done", false}, {"left_bytes", 4096U}}));
  EXPECT_EQ(*run("drain", {{"name", "d"}, {"number", 7U}}), (json{{"done", true}, {"left_bytes", 0U}}));
  EXPECT_EQ(run("drain", {{"name", "d"}, {"number", -1}}).status().code(), Errc::invalid);
  EXPECT_EQ(run("drain", {{"number", 7U}}).status().code(), Errc::invalid);
  ASSERT_TRUE(run("detach", {{"name", "d"}}).ok());
  EXPECT_EQ(run("await_switch", {{"name", "d"}})->at("done"), false);
  ASSERT_TRUE(run("attach", {{"name", "d"}}).ok());
  EXPECT_EQ(manager_.calls(),
            (std::vector<std::string>{"drain d", "await 7 d", "await 7 d", "detach d", "switch d", "attach d"}));
}

TEST_F(CommandsTest, SettingsGoThereAndBackAsText) {
  ASSERT_TRUE(run("set", {{"name", "d"}, {"settings", {{"dirty_high", "30%"}, {"full_max_wait", "2s"}}}}).ok());
  EXPECT_EQ(manager_.calls().back(), "set d dirty_high=30% full_max_wait=2000");
  const auto reply = run("get", {{"name", "d"}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->at("name"), "d");
  const json expected = {{{"name", "dirty_high"}, {"value", "30%"}, {"origin", "stored"}}};
  EXPECT_EQ(reply->at("settings"), expected);
  manager_.outcome(Status(Errc::not_found, "no"));
  EXPECT_EQ(run("get", {{"name", "d"}}).status().code(), Errc::not_found);
}

TEST_F(CommandsTest, StatsHaveCountersAndLatencies) {
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
  EXPECT_EQ(run("stats").status().code(), Errc::invalid);
}

TEST_F(CommandsTest, BadArgumentsAreInvalidAndReachNobody) {
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
  };
  for (const auto& [command, args] : bad) {
    const auto result = run(command, args);
    ASSERT_FALSE(result.ok()) << command << args;
    EXPECT_EQ(result.status().code(), Errc::invalid) << command << args;
  }
  EXPECT_TRUE(manager_.added().empty());
  EXPECT_TRUE(manager_.calls().empty());
}

TEST_F(CommandsTest, RefusalsComeBackAsTheyAre) {
  manager_.outcome(Status(Errc::dirty, "dirty it is"));
  for (const char* command : {"remove", "flush", "resize"}) {
    const auto result = run(command, {{"name", "d"}});
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), Errc::dirty);
    EXPECT_EQ(result.status().message(), "dirty it is");
  }
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"remove d", "flush d", "resize d"}));
}

TEST_F(CommandsTest, StatusCanBeOfOneLogicalDevice) {
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

TEST_F(CommandsTest, UmountAsksOnce) {
  EXPECT_TRUE(run("umount").ok());
  EXPECT_EQ(umounts_, 1);
}

}  // namespace
}  // namespace pcache
