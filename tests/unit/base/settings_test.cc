#include "pcache/settings.h"

#include <gtest/gtest.h>

#include <set>

namespace pcache {
namespace {

TEST(SettingsTest, TheTableIsInTheOrderOfTheNumbersAndNamesAreUnique) {
  std::set<std::string> names;
  std::size_t number = 0;
  for (const SettingInfo& info : all_settings()) {
    EXPECT_EQ(static_cast<std::size_t>(info.setting), number++);
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(find_setting(info.name), info.setting);
    EXPECT_TRUE(is_in_range(info.setting, info.standard)) << info.name;
    EXPECT_EQ(info.kind == SettingKind::choice, !info.words.empty()) << info.name;
  }
  EXPECT_FALSE(find_setting("dirty").has_value());
  EXPECT_FALSE(find_setting("").has_value());
}

TEST(SettingsTest, EveryFormattedValueIsParsedToItself) {
  for (const SettingInfo& info : all_settings()) {
    std::vector<std::uint64_t> values = {info.standard, info.least, info.most};
    if (info.kind == SettingKind::amount) values = {kPercent, kPercent | info.most, 0, 1, 4096, 5'000'000, 1ULL << 40};
    if (info.kind == SettingKind::bytes) values = {0, 1, 1023, 1024, 1536, 3ULL << 20, (1ULL << 62) + 1};
    for (const std::uint64_t value : values) {
      const std::string text = format_setting(info.setting, value);
      const auto parsed = parse_setting(info.setting, text);
      ASSERT_TRUE(parsed) << info.name << " " << text;
      EXPECT_EQ(*parsed, value) << info.name << " " << text;
    }
  }
}

TEST(SettingsTest, TextsMeanWhatPeopleExpect) {
  const auto value = [](Setting setting, const char* text) { return parse_setting(setting, text).value(); };
  EXPECT_EQ(value(Setting::mode, "writethrough"), static_cast<std::uint64_t>(Mode::writethrough));
  EXPECT_EQ(value(Setting::dirty_high, "30%"), kPercent | 30);
  EXPECT_EQ(value(Setting::dirty_high, "512M"), 512ULL << 20);
  EXPECT_EQ(value(Setting::dirty_max_age, "1500"), 1500U);
  EXPECT_EQ(value(Setting::dirty_max_age, "1500ms"), 1500U);
  EXPECT_EQ(value(Setting::dirty_max_age, "30s"), 30'000U);
  EXPECT_EQ(value(Setting::dirty_max_age, "5m"), 300'000U);
  EXPECT_EQ(value(Setting::dirty_max_age, "24h"), 86'400'000U);
  EXPECT_EQ(value(Setting::writeback_rate_max, "20M"), 20ULL << 20);
  EXPECT_EQ(value(Setting::writeback_rate_max, "0"), 0U);
  EXPECT_EQ(value(Setting::uid, "0"), 0U);
  EXPECT_EQ(value(Setting::gid, "65534"), 65534U);
  EXPECT_EQ(value(Setting::gid, "daemon"), kDaemonsId);
  EXPECT_EQ(value(Setting::permissions, "640"), 0640U);
  EXPECT_EQ(value(Setting::permissions, "0640"), 0640U);
}

TEST(SettingsTest, EverythingElseIsInvalidAndNamesSettingAndText) {
  const std::pair<const char*, const char*> bad[] = {
      {"mode", "Writeback"},
      {"mode", ""},
      {"mode", "0"},
      {"uid", "4294967295"},
      {"uid", "-1"},
      {"uid", "root"},
      {"gid", ""},
      {"permissions", "1777"},
      {"permissions", "0680"},
      {"permissions", "00640"},
      {"permissions", "-640"},
      {"permissions", "rw-r-----"},
      {"permissions", ""},
      {"dirty_high", "50"},
      {"dirty_high", "96%"},
      {"dirty_high", "-1%"},
      {"dirty_high", "%"},
      {"dirty_high", "1.5%"},
      {"dirty_high", "half"},
      {"share_max", "101%"},
      {"dirty_max_age", "-1"},
      {"dirty_max_age", "1d"},
      {"dirty_max_age", "1.5s"},
      {"dirty_max_age", "ms"},
      {"dirty_max_age", "25h"},
      {"full_max_wait", "9"},
      {"dirty_max_age", "18446744073709551615h"},
      {"sequential_bypass", "-4M"},
  };
  for (const auto& [name, text] : bad) {
    const auto parsed = parse_setting(*find_setting(name), text);
    ASSERT_FALSE(parsed) << name << "=" << text;
    EXPECT_EQ(parsed.status().code(), Errc::invalid);
    EXPECT_NE(parsed.status().message().find(name), std::string::npos) << parsed.status().message();
    EXPECT_NE(parsed.status().message().find("'" + std::string(text) + "'"), std::string::npos);
  }
  Settings settings;
  EXPECT_EQ(parse_assignment("nonsense=1", settings).code(), Errc::invalid);
  EXPECT_EQ(parse_assignment("dirty_high", settings).code(), Errc::invalid);
  EXPECT_EQ(parse_assignment("", settings).code(), Errc::invalid);
  EXPECT_TRUE(settings.empty());
}

TEST(SettingsTest, AnAmountIsAPartOfTheWholeAndNeverMore) {
  EXPECT_EQ(amount_bytes(kPercent | 50, 1000), 500U);
  EXPECT_EQ(amount_bytes(kPercent | 100, 1099), 1099U);
  EXPECT_EQ(amount_bytes(kPercent | 33, 100), 33U);
  EXPECT_EQ(amount_bytes(kPercent | 95, ~std::uint64_t{0} / 2), (~std::uint64_t{0} / 2) / 100 * 95 + 6);
  EXPECT_EQ(amount_bytes(4096, 1000), 1000U);
  EXPECT_EQ(amount_bytes(4096, 8192), 4096U);
  EXPECT_EQ(amount_bytes(0, 8192), 0U);
}

TEST(SettingsTest, GivenValuesHaveToGoTogether) {
  Settings settings;
  ASSERT_TRUE(parse_assignment("dirty_high=30%", settings).ok());
  EXPECT_TRUE(check_settings(settings).ok()) << "the standard low mark gives way";
  ASSERT_TRUE(parse_assignment("dirty_low=31%", settings).ok());
  const Status status = check_settings(settings);
  EXPECT_EQ(status.code(), Errc::invalid);
  EXPECT_NE(status.message().find("dirty_low (31%)"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("dirty_high (30%)"), std::string::npos) << status.message();
  ASSERT_TRUE(parse_assignment("dirty_low=1G", settings).ok());
  EXPECT_TRUE(check_settings(settings).ok()) << "bytes and percent are compared when they are used";

  Settings rates;
  ASSERT_TRUE(parse_assignment("writeback_rate_min=2M", rates).ok());
  ASSERT_TRUE(parse_assignment("writeback_rate_max=0", rates).ok());
  EXPECT_TRUE(check_settings(rates).ok()) << "0 is no limit";
  ASSERT_TRUE(parse_assignment("writeback_rate_max=1M", rates).ok());
  EXPECT_EQ(check_settings(rates).code(), Errc::invalid);
}

TEST(SettingsTest, WhatIsMergedTakesThePlaceOfWhatWasThere) {
  Settings below;
  below.set(Setting::dirty_high, kPercent | 10);
  below.set(Setting::dirty_max_age, 5);
  Settings over;
  over.set(Setting::dirty_high, kPercent | 20);
  over.set(Setting::share_max, kPercent | 40);
  below.merge(over);
  EXPECT_EQ(below.get(Setting::dirty_high), kPercent | 20);
  EXPECT_EQ(below.get(Setting::dirty_max_age), 5U);
  EXPECT_EQ(below.get(Setting::share_max), kPercent | 40);
  below.unset(Setting::dirty_high);
  EXPECT_EQ(below.get(Setting::dirty_high), setting_info(Setting::dirty_high).standard);
  EXPECT_FALSE(below.has(Setting::dirty_high));
}

}  // namespace
}  // namespace pcache
