#include "cli/table.h"

#include <gtest/gtest.h>

#include "cli/list_text.h"

namespace pcache {
namespace {

TEST(SizeText, HasNoBlankWhereItIsForScripts) {
  EXPECT_EQ(size_text(64 << 20, {}), "64 MiB");
  EXPECT_EQ(size_text(64 << 20, {.bare = true}), "64M");
  EXPECT_EQ(size_text(3 << 19, {.bare = true}), "1.5M");
  EXPECT_EQ(size_text(12, {.bare = true}), "12B");
  EXPECT_EQ(size_text(64 << 20, {.bare = true, .exact = true}), "67108864");
}

using nlohmann::json;

OutputStyle bare() {
  OutputStyle style;
  style.bare = true;
  style.exact = true;
  return style;
}

TEST(TableTest, ColumnsAreAsWideAsTheirWidestText) {
  Table table({}, {{"A"}, {"SIZE", Table::Align::right}, {"B"}});
  table.add({"long one", "1", ""});
  table.add({"└─ x", "22222", "y"});
  EXPECT_EQ(table.text(),
            "A          SIZE  B\n"
            "long one      1  -\n"
            "└─ x      22222  y\n");
}

TEST(TableTest, ForScriptsATabIsBetweenThemAndNoHeading) {
  Table table(bare(), {{"A"}, {"B"}});
  table.add({"a b", ""});
  EXPECT_EQ(table.text(), "a b\t-\n");
  EXPECT_EQ(Table(bare(), {{"A"}}).text(), "");
}

TEST(TableTest, ColoursTakeNoRoom) {
  OutputStyle style;
  style.color = true;
  Table table(style, {{"STATE"}, {"B"}});
  table.add({state_text("failed", style), "x"});
  EXPECT_EQ(table.text(), "STATE   B\n\x1b[31mfailed\x1b[0m  x\n");
  EXPECT_EQ(state_text("failed", {}), "failed");
  EXPECT_EQ(state_text("a\x1b[2J", {}).find('\x1b'), std::string::npos) << "what comes from elsewhere has none";
}

json status() {
  return {
      {"schema", {{"major", 1}}},
      {"cache_devs",
       {{{"label", "fast"},
         {"path", "/dev/dax0.0"},
         {"state", "running"},
         {"size_bytes", 1U << 30},
         {"segments_used", 2U},
         {"segment_size_bytes", 1U << 20}},
        {{"label", "gone"}, {"path", "/p"}, {"state", "missing"}}}},
      {"logic_devs",
       {{{"name", "db"},
         {"cache_dev", "fast"},
         {"backing", "/b"},
         {"state", "running"},
         {"mode", "writeback"},
         {"pending_mode", "writethrough"},
         {"size_bytes", 1U << 20},
         {"used_bytes", 0U},
         {"dirty_bytes", 8192U}},
        {{"name", "vm"}, {"cache_dev", "fast"}, {"backing", "/v"}, {"state", "no_backing"}, {"mode", "writeback"}}}}};
}

TEST(ListText, IsATreeOfCacheDevicesAndTheirLogicalDevices) {
  EXPECT_EQ(list_text(status(), {}),
            "NAME   STATE        SIZE   USED  DIRTY  MODE                       PATH\n"
            "fast   running     1 GiB  2 MiB  8 KiB  -                          /dev/dax0.0\n"
            "├─ db  running     1 MiB    0 B  8 KiB  writeback to writethrough  /b\n"
            "└─ vm  no_backing    0 B    0 B    0 B  writeback                  /v\n"
            "gone   missing         -      -      -  -                          /p\n");
  EXPECT_EQ(list_text(json::object(), {}), "no cache device\n");
}

TEST(ListText, ForScriptsNamesBothDevices) {
  const std::string text = list_text(status(), bare());
  EXPECT_NE(text.find("fast/db\trunning\t1048576\t0\t8192\twriteback to writethrough\t/b\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("NAME"), std::string::npos);
  EXPECT_EQ(list_text(json::object(), bare()), "");
}

TEST(ListText, ForProgramsHasTheLogicalDevicesInsideTheirCacheDevice) {
  const json listed = list_json(status());
  EXPECT_EQ(listed["schema"]["major"], 1);
  EXPECT_EQ(listed["cache_devs"][0]["logic_devs"][1]["name"], "vm");
  EXPECT_EQ(listed["cache_devs"][1]["logic_devs"], json::array());
}

}  // namespace
}  // namespace pcache
