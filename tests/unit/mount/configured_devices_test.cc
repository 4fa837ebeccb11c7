#include "mount/configured_devices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "pcache/config.h"
#include "pcache/device_manager.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 4 << 20;

class ConfiguredDevicesTest : public testing::Test {
 protected:
  ConfiguredDevicesTest() {
    format(cache_, "fast");
    make_file(backing_, kSize);
    config_.cache_devs = {{"fast", cache_, std::nullopt, 700, {}, {"etc", 1, 2}}};
    config_.cache_devs[0].defaults.set(Setting::dirty_high, kPercent | 33);
    config_.logic_devs = {{"db", backing_, "fast", std::nullopt, {}, {"etc", 3, 4}}};
  }

  static void format(const std::string& path, const std::string& label) {
    FormatOptions options;
    options.size_bytes = 12 << 20;
    options.segment_size_bytes = 256 << 10;
    options.label = label;
    ASSERT_TRUE(format_cache_dev(path, options).ok());
  }
  std::vector<std::string> bring_up() {
    configured_.emplace(config_, CacheOptions(), *manager_);
    return configured_->bring_up();
  }
  // "" where it is not listed.
  std::string state_of_cache(const std::string& label) {
    for (const CacheDevStats& stats : manager_->status().cache_devs) {
      if (stats.label == label) return stats.state;
    }
    return "";
  }
  std::string state_of(const std::string& name) {
    for (const LogicDevStats& stats : manager_->status().logic_devs) {
      if (stats.name == name) return stats.state;
    }
    return "";
  }
  void expect_running_soon(const std::string& name) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (state_of(name) != "running" && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_EQ(state_of(name), "running");
  }
  // What `get` says of dirty_high.
  std::uint64_t dirty_high() {
    const auto values = manager_->settings("db");
    EXPECT_TRUE(values.ok()) << values.status().message();
    if (!values.ok()) return 0;
    const auto it = std::find_if(values->begin(), values->end(),
                                 [](const SettingValue& value) { return value.setting == Setting::dirty_high; });
    return it->value;
  }

  TempDir dir_;
  const std::string cache_ = dir_ / "cache";
  const std::string backing_ = dir_ / "backing";
  const std::string away_ = dir_ / "away";
  Config config_;
  std::unique_ptr<DeviceManager> manager_ = DeviceManager::create();
  std::optional<ConfiguredDevices> configured_;
};

TEST_F(ConfiguredDevicesTest, WhatIsThereIsBroughtUpWithoutAWord) {
  EXPECT_TRUE(bring_up().empty());
  EXPECT_EQ(state_of("db"), "running");
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
  EXPECT_EQ(dirty_high(), kPercent | 33);
}

TEST_F(ConfiguredDevicesTest, ABackingThatComesLaterIsAddedThen) {
  std::filesystem::rename(backing_, away_);
  const auto problems = bring_up();
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_TRUE(problems[0].starts_with("logical device db is not brought up (etc:3:4): ")) << problems[0];
  EXPECT_EQ(state_of("db"), "missing");
  EXPECT_TRUE(manager_->list().empty());
  const auto values = manager_->settings("db");
  EXPECT_EQ(values.status().code(), Errc::not_found);
  EXPECT_NE(values.status().message().find("missing"), std::string::npos) << values.status().message();
  std::filesystem::rename(away_, backing_);
  expect_running_soon("db");
  EXPECT_EQ(dirty_high(), kPercent | 33);
}

TEST_F(ConfiguredDevicesTest, ACacheDeviceThatComesLaterIsOpenedWithWhatBelongsOnIt) {
  std::filesystem::rename(cache_, away_);
  EXPECT_EQ(bring_up().size(), 2U);
  EXPECT_EQ(state_of_cache("fast"), "missing");
  EXPECT_EQ(state_of("db"), "missing");
  std::filesystem::rename(away_, cache_);
  expect_running_soon("db");
  EXPECT_EQ(state_of_cache("fast"), "running");
  EXPECT_EQ(manager_->status().cache_devs[0].epoch_max_ms, 700U);
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
}

TEST_F(ConfiguredDevicesTest, ACacheDeviceIsRegisteredAsItIsConfiguredWhereverItIs) {
  std::filesystem::rename(cache_, away_);
  EXPECT_EQ(bring_up().size(), 2U);
  ASSERT_TRUE(configured_->open_cache_dev(away_).ok());
  EXPECT_EQ(state_of_cache("fast"), "running");
  EXPECT_EQ(state_of("db"), "running");
  EXPECT_EQ(manager_->status().cache_devs[0].epoch_max_ms, 700U);
  EXPECT_EQ(dirty_high(), kPercent | 33);
  format(dir_ / "other", "other");
  ASSERT_TRUE(configured_->open_cache_dev(dir_ / "other").ok());
  EXPECT_EQ(manager_->status().cache_devs[1].epoch_max_ms, kEpochMaxMs) << "that one is not configured";
  EXPECT_EQ(configured_->open_cache_dev(dir_ / "nowhere").code(), Errc::not_found);
}

TEST_F(ConfiguredDevicesTest, WhatNobodyExpectsAnyMoreIsNotTriedAgain) {
  std::filesystem::rename(cache_, away_);
  EXPECT_EQ(bring_up().size(), 2U);
  EXPECT_TRUE(manager_->remove("db").ok());
  EXPECT_EQ(state_of("db"), "");
  EXPECT_EQ(manager_->remove("db").code(), Errc::not_found);
  EXPECT_TRUE(manager_->close_cache_dev("fast", false).ok());
  EXPECT_EQ(state_of_cache("fast"), "");
  EXPECT_EQ(manager_->close_cache_dev("fast", false).code(), Errc::not_found);
  std::filesystem::rename(away_, cache_);
  ASSERT_TRUE(configured_->open_cache_dev(cache_).ok());
  EXPECT_EQ(state_of("db"), "") << "it was removed";
}

// What was removed while it was there stays away, however it is configured.
TEST_F(ConfiguredDevicesTest, WhatIsRemovedStaysAway) {
  EXPECT_TRUE(bring_up().empty());
  EXPECT_TRUE(manager_->remove("db").ok());
  ASSERT_TRUE(manager_->close_cache_dev("fast", false).ok());
  ASSERT_TRUE(configured_->open_cache_dev(cache_).ok());
  EXPECT_EQ(state_of("db"), "");
}

TEST_F(ConfiguredDevicesTest, WhatIsThereInAnotherWayIsSaidAndLeftAlone) {
  {
    const auto manager = DeviceManager::create();
    ASSERT_TRUE(manager->open_cache_dev(cache_, {}).ok());
    make_file(away_, kSize);
    ASSERT_TRUE(manager->add("db", away_, {}).ok());
  }
  const auto problems = bring_up();
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("its backing device is " + away_), std::string::npos) << problems[0];
  EXPECT_EQ(state_of("db"), "running");
}

}  // namespace
}  // namespace pcache
