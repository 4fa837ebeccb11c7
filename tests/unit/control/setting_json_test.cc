#include "control/setting_json.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

TEST(SettingJson, IsANumberWhereTheValueIsOne) {
  struct Row {
    Setting setting;
    const char* word;
    json value;
  };
  for (const Row& row : {Row{Setting::dirty_max_age, "24h", 86'400'000U},
                         {Setting::sequential_bypass, "4M", 4U << 20},
                         {Setting::writeback_rate_max, "0", 0U},
                         {Setting::uid, "1000", 1000U},
                         {Setting::gid, "daemon", "daemon"},
                         {Setting::dirty_high, "40%", "40%"},
                         {Setting::share_max, "512M", "512M"},
                         {Setting::permissions, "0640", "0640"},
                         {Setting::mode, "writeonly", "writeonly"}}) {
    const auto value = parse_setting(row.setting, row.word);
    ASSERT_TRUE(value.ok()) << row.word;
    const json shown = setting_to_json(row.setting, *value);
    EXPECT_EQ(shown, row.value) << row.word;
    EXPECT_EQ(shown.type(), row.value.type()) << row.word;
    const auto again = parse_setting(row.setting, setting_word(shown));
    ASSERT_TRUE(again.ok()) << row.word;
    EXPECT_EQ(*again, *value) << row.word;
    EXPECT_EQ(setting_text(setting_info(row.setting).name, shown), format_setting(row.setting, *value));
  }
}

TEST(SettingJson, OfWhatIsNoValueIsNoWord) {
  EXPECT_EQ(setting_word(json(-1)), "");
  EXPECT_EQ(setting_word(json(1.5)), "");
  EXPECT_EQ(setting_word(json()), "");
  EXPECT_EQ(setting_text("nonsense", json("x")), "x");
}

}  // namespace
}  // namespace pcache
