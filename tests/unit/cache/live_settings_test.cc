#include "cache/live_settings.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

constexpr Setting kHigh = Setting::dirty_high;

Settings high(std::uint64_t percent) {
  Settings settings;
  settings.set(kHigh, kPercent | percent);
  return settings;
}

SettingSet key(Setting setting) { return SettingSet{1ULL << static_cast<unsigned>(setting)}; }

std::string high_of(const SettingLayers& layers) {
  const SettingValue value = layers.list()[static_cast<std::size_t>(kHigh)];
  return format_setting(kHigh, value.value) + " " + to_string(value.origin);
}

TEST(SettingLayers, WhoComesLaterCounts) {
  SettingLayers layers;
  EXPECT_EQ(high_of(layers), "50% default");
  layers.stored = high(10);
  EXPECT_EQ(high_of(layers), "10% stored");
  layers.configured = high(20);
  EXPECT_EQ(high_of(layers), "20% config");
  layers.mount = high(30);
  EXPECT_EQ(high_of(layers), "30% mount");
  layers.set_for_now(high(40));
  EXPECT_EQ(high_of(layers), "40% temporary");
  EXPECT_EQ(layers.list()[static_cast<std::size_t>(kHigh)].stored, kPercent | 10);
}

TEST(SettingLayers, WhatIsStoredWhileItRunsIsInForceWhateverElseWasChosen) {
  SettingLayers layers;
  layers.configured = high(20);
  layers.mount = high(30);
  layers.set_for_now(high(40));
  layers.store(high(60));
  EXPECT_EQ(high_of(layers), "60% stored");
  layers.set_for_now(high(45));
  EXPECT_EQ(high_of(layers), "45% temporary");

  layers.unset(key(kHigh));
  EXPECT_EQ(high_of(layers), "30% mount") << "what was taken back uncovers what it was chosen over";
  EXPECT_FALSE(layers.stored.has(kHigh));

  // As at the next mount.
  SettingLayers next;
  next.stored = high(60);
  next.configured = high(20);
  EXPECT_EQ(high_of(next), "20% config");
}

TEST(SettingLayers, TakingBackLeavesOthersAlone) {
  SettingLayers layers;
  layers.store(high(60));
  Settings age;
  age.set(Setting::dirty_max_age, 7);
  layers.set_for_now(age);
  layers.unset(key(Setting::dirty_low));
  EXPECT_EQ(high_of(layers), "60% stored");
  EXPECT_EQ(layers.in_force().get(Setting::dirty_max_age), 7U);
  layers.unset(key(Setting::dirty_max_age));
  EXPECT_FALSE(layers.in_force().has(Setting::dirty_max_age));
  EXPECT_EQ(high_of(layers), "60% stored");
}

// A log goes by the mode that is stored: what somebody else says is only in force when it was switched to.
TEST(SettingLayers, OnlyTheStoredModeIsInForce) {
  const auto mode_of = [](const SettingLayers& layers) {
    const SettingValue value = layers.list().front();
    return format_setting(Setting::mode, value.value) + " " + to_string(value.origin);
  };
  SettingLayers layers;
  layers.configured.set(Setting::mode, static_cast<std::uint64_t>(Mode::writearound));
  EXPECT_EQ(mode_of(layers), "writeback default");
  layers.stored.set(Setting::mode, static_cast<std::uint64_t>(Mode::writethrough));
  EXPECT_EQ(mode_of(layers), "writethrough stored");
  layers.stored.set(Setting::mode, static_cast<std::uint64_t>(Mode::writearound));
  EXPECT_EQ(mode_of(layers), "writearound config");
}

}  // namespace
}  // namespace pcache
