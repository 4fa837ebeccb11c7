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
  const json status = status_to_json(StatusReport{}, "/mnt/x", {});
  EXPECT_EQ(keys(status),
            (std::set<std::string>{"schema", "version", "mount", "state", "health", "cache_devs", "logic_devs"}));
  EXPECT_EQ(status["schema"]["major"], 1);
  EXPECT_TRUE(status["schema"]["minor"].is_number_unsigned() || status["schema"]["minor"].is_number_integer());
  EXPECT_EQ(status["version"], kVersion);
  EXPECT_EQ(status["health"], (json{{"level", "ok"}, {"reasons", json::array()}}));
  EXPECT_EQ(status["mount"], "/mnt/x");
  EXPECT_TRUE(status["cache_devs"].is_array() && status["cache_devs"].empty());
  EXPECT_TRUE(status["logic_devs"].is_array() && status["logic_devs"].empty());
}

// Gives each number of `stats` a value of its own, and returns what JSON has to say of them.
template <typename T>
json number_all(T& stats, std::span<const NumberField<T>> fields, std::uint64_t first) {
  json expected = json::object();
  for (const auto& field : fields) {
    stats.*field.member = first;
    expected[field.name] = first++;
  }
  return expected;
}

// The size checks fail when a field is added to stats.h and not to its table, or not here.
TEST(StatusJson, CarriesEveryField) {
  CacheDevStats cache;
  json expected_cache = number_all(cache, cache_dev_numbers(), 100);
  cache.path = "/c";
  cache.uuid = "u-u";
  cache.label = "lab";
  cache.granularity = "page";
  cache.ack = "flush";
  cache.state = "failed";
  cache.detail = "why";
  expected_cache.update({{"path", "/c"},
                         {"uuid", "u-u"},
                         {"label", "lab"},
                         {"granularity", "page"},
                         {"ack", "flush"},
                         {"state", "failed"},
                         {"detail", "why"}});
  LogicDevStats device;
  json expected_device = number_all(device, logic_dev_numbers(), 200);
  device.name = "n";
  device.backing = "/b";
  device.cache_dev = "lab";
  device.mode = "writethrough";
  device.pending_mode = "writeback";
  device.detached = true;
  device.backing_fails = true;
  device.state = "failed";
  device.detail = "why";
  device.lost_ranges = {{512, 1024}};
  expected_device.update({{"name", "n"},
                          {"backing", "/b"},
                          {"cache_dev", "lab"},
                          {"mode", "writethrough"},
                          {"pending_mode", "writeback"},
                          {"detached", true},
                          {"backing_fails", true},
                          {"state", "failed"},
                          {"detail", "why"},
                          {"lost_ranges", {{{"offset", 512}, {"length", 1024}}}}});

  const json status = status_to_json({{cache}, {device}}, "/m", health_of({{cache}, {device}}));
  EXPECT_EQ(status["cache_devs"][0], expected_cache);
  EXPECT_EQ(status["logic_devs"][0], expected_device);
  constexpr std::size_t kText = sizeof(std::string);
  constexpr std::size_t kNumber = sizeof(std::uint64_t);
  EXPECT_EQ(sizeof(CacheDevStats), 7 * kText + cache_dev_numbers().size() * kNumber) << "a field is not in the table";
  // `detached` and `backing_fails` take as much as a number.
  EXPECT_EQ(sizeof(LogicDevStats),
            7 * kText + sizeof(std::vector<ByteRange>) + (logic_dev_numbers().size() + 1) * kNumber)
      << "a field is not in the table";
}

TEST(StatusJson, KeepsNumbersThatNeed64Bits) {
  LogicDevStats device;
  device.size_bytes = 0xffff'ffff'ffff'fe00;
  const json status = json::parse(status_to_json({{}, {device}}, "/m", {}).dump());
  EXPECT_EQ(status["logic_devs"][0]["size_bytes"].get<std::uint64_t>(), device.size_bytes);
}

}  // namespace
}  // namespace pcache
