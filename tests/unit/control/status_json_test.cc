#include "control/status_json.h"

#include <gtest/gtest.h>

#include <set>

#include "control/version.h"

namespace pcache {
namespace {

using nlohmann::json;

std::set<std::string> keys(const json& object) {
  std::set<std::string> names;
  for (const auto& [key, value] : object.items()) names.insert(key);
  return names;
}

TEST(StatusJson, HasTheAgreedShape) {
  const json status = status_to_json(StatusReport{}, "/mnt/x");
  EXPECT_EQ(keys(status), (std::set<std::string>{"schema", "version", "mount", "cache_devs", "logic_devs"}));
  EXPECT_EQ(status["schema"]["major"], 1);
  EXPECT_TRUE(status["schema"]["minor"].is_number_unsigned() || status["schema"]["minor"].is_number_integer());
  EXPECT_EQ(status["version"], kVersion);
  EXPECT_EQ(status["mount"], "/mnt/x");
  EXPECT_TRUE(status["cache_devs"].is_array() && status["cache_devs"].empty());
  EXPECT_TRUE(status["logic_devs"].is_array() && status["logic_devs"].empty());
}

// Every field of stats.h, in the order there; the size check below fails when one is added there and not here.
TEST(StatusJson, CarriesEveryField) {
  const CacheDevStats cache{"/c", "u-u", "lab", 1, 2, 3, 4, "page", "flush", 5, 6, 7, 8, 9};
  const LogicDevStats device{
      "n", 7,  "/b", "lab", "writeback", "failed", "why", 8,  9,  10, 11, 12, 13, 14, 31, 32,
      33,  34, 15,   16,    17,          18,       19,    20, 21, 22, 23, 29, 30, 24, 25, {{512, 1024}},
      28,  26, 27};
  const json status = status_to_json({{cache}, {device}}, "/m");
  EXPECT_EQ(status["cache_devs"][0], (json{{"path", "/c"},
                                           {"uuid", "u-u"},
                                           {"label", "lab"},
                                           {"size_bytes", 1},
                                           {"segment_size_bytes", 2},
                                           {"segments", 3},
                                           {"segments_used", 4},
                                           {"granularity", "page"},
                                           {"ack", "flush"},
                                           {"stored_bytes", 5},
                                           {"index_bytes", 6},
                                           {"damaged_records", 7},
                                           {"repaired_copies", 8},
                                           {"unrepaired_copies", 9}}));
  EXPECT_EQ(status["logic_devs"][0], (json{{"name", "n"},
                                           {"size_bytes", 7},
                                           {"backing", "/b"},
                                           {"cache_dev", "lab"},
                                           {"mode", "writeback"},
                                           {"state", "failed"},
                                           {"detail", "why"},
                                           {"dirty_bytes", 8},
                                           {"cached_bytes", 9},
                                           {"reads", 10},
                                           {"read_bytes", 11},
                                           {"read_hits", 12},
                                           {"read_misses", 13},
                                           {"read_fills", 14},
                                           {"partial_hits", 31},
                                           {"not_admitted_first_touch", 32},
                                           {"not_admitted_sequential", 33},
                                           {"not_admitted_no_space", 34},
                                           {"writes", 15},
                                           {"write_bytes", 16},
                                           {"flushes", 17},
                                           {"discards", 18},
                                           {"written_back_bytes", 19},
                                           {"writeback_errors", 20},
                                           {"space_waits", 21},
                                           {"evicted_bytes", 22},
                                           {"relocated_bytes", 23},
                                           {"promoted_bytes", 29},
                                           {"ghost_hits", 30},
                                           {"checksum_errors", 24},
                                           {"lost_bytes", 25},
                                           {"lost_ranges", {{{"offset", 512}, {"length", 1024}}}},
                                           {"bad_cells", 28},
                                           {"epoch", 26},
                                           {"clean_epoch", 27}}));
  constexpr std::size_t kText = sizeof(std::string);
  EXPECT_EQ(sizeof(CacheDevStats), 5 * kText + 9 * sizeof(std::uint64_t)) << "a field is new in stats.h";
  EXPECT_EQ(sizeof(LogicDevStats), 6 * kText + 28 * sizeof(std::uint64_t) + sizeof(std::vector<ByteRange>))
      << "a field is new in stats.h";
}

TEST(StatusJson, KeepsNumbersThatNeed64Bits) {
  LogicDevStats device;
  device.size_bytes = 0xffff'ffff'ffff'fe00;
  const json status = json::parse(status_to_json({{}, {device}}, "/m").dump());
  EXPECT_EQ(status["logic_devs"][0]["size_bytes"].get<std::uint64_t>(), device.size_bytes);
}

}  // namespace
}  // namespace pcache
