#include "control/metrics.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() {
    CacheDevStats& cache = report_.cache_devs.emplace_back();
    cache.label = "fa\"st";
    cache.path = "/dev/dax0.0";
    cache.segments_free = 5;
    cache.segments_clean = 2;
    LogicDevStats& device = report_.logic_devs.emplace_back();
    device.name = "d\\b\n\xff";
    device.cache_dev = "fa\"st";
    device.state = "running";
    device.mode = "writeback";
    device.reads = 7;
    device.dirty_bytes = std::uint64_t{1} << 62;
    device.oldest_dirty_ms = 1500;
    manager_.report(report_);
  }
  // The value of a sample, by its name and labels as they are written.
  std::map<std::string, std::string> samples(MetricsFormat format) {
    std::map<std::string, std::string> found;
    std::istringstream text(metrics_text(manager_, format));
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("#")) continue;
      const std::size_t space = line.rfind(' ');
      EXPECT_TRUE(found.emplace(line.substr(0, space), line.substr(space + 1)).second) << "twice: " << line;
    }
    return found;
  }

  FakeManager manager_;
  StatusReport report_;
};

const std::string kDevice = "cache_dev=\"fa\\\"st\",logic_dev=\"d\\\\b\\n\xef\xbf\xbd\"";

TEST_F(MetricsTest, NumbersComeOutOfTheTableWithEscapedLabels) {
  auto found = samples(MetricsFormat::openmetrics);
  EXPECT_EQ(found["pcachefs_logic_dev_requests_total{" + kDevice + ",op=\"read\"}"], "7");
  EXPECT_EQ(found["pcachefs_logic_dev_dirty_bytes{" + kDevice + "}"], "4611686018427387904");
  EXPECT_EQ(found["pcachefs_logic_dev_oldest_dirty_seconds{" + kDevice + "}"], "1.5");
  EXPECT_EQ(found["pcachefs_cache_dev_segments{cache_dev=\"fa\\\"st\",state=\"free\"}"], "5");
  EXPECT_EQ(found["pcachefs_cache_dev_segments{cache_dev=\"fa\\\"st\",state=\"clean\"}"], "2");
  EXPECT_EQ(found["pcachefs_logic_dev_running{" + kDevice + "}"], "1");
  EXPECT_EQ(found["pcachefs_health"], "0");
}

TEST_F(MetricsTest, EveryNumberOfTheTablesIsThere) {
  const auto found = samples(MetricsFormat::openmetrics);
  const auto has = [&found](const std::string& name) {
    const auto it = found.lower_bound(name + "{");
    return it != found.end() && it->first.starts_with(name + "{");
  };
  for (const auto& field : logic_dev_numbers()) {
    if (field.metric.name == nullptr) continue;
    EXPECT_TRUE(has(std::string("pcachefs_logic_dev_") + field.metric.name + (field.counter ? "_total" : "")))
        << field.name;
  }
  for (const auto& field : cache_dev_numbers()) {
    if (field.metric.name == nullptr) continue;
    EXPECT_TRUE(has(std::string("pcachefs_cache_dev_") + field.metric.name + (field.counter ? "_total" : "")))
        << field.name;
  }
}

TEST_F(MetricsTest, LatenciesAreCumulativeHistograms) {
  auto found = samples(MetricsFormat::openmetrics);  // 3 below 128 ns, 1 below 1024 ns; 1000 ns in all
  const std::string name = "pcachefs_logic_dev_request_duration_seconds";
  const std::string labels = "{" + kDevice + ",op=\"write\"";
  EXPECT_EQ(found[name + "_bucket" + labels + ",le=\"5.12e-07\"}"], "3");
  EXPECT_EQ(found[name + "_bucket" + labels + ",le=\"1.024e-06\"}"], "4");
  EXPECT_EQ(found[name + "_bucket" + labels + ",le=\"34.3597384\"}"], "4");
  EXPECT_EQ(found[name + "_bucket" + labels + ",le=\"+Inf\"}"], "4");
  EXPECT_EQ(found[name + "_count" + labels + "}"], "4");
  EXPECT_EQ(found[name + "_sum" + labels + "}"], "1e-06");
}

TEST_F(MetricsTest, FamiliesAreBegunOnceWithTypeUnitAndHelp) {
  const std::string text = metrics_text(manager_, MetricsFormat::openmetrics);
  for (const char* line :
       {"# TYPE pcachefs_logic_dev_requests counter\n", "# TYPE pcachefs_logic_dev_dirty_bytes gauge\n",
        "# UNIT pcachefs_logic_dev_dirty_bytes bytes\n",
        "# TYPE pcachefs_logic_dev_request_duration_seconds histogram\n",
        "# UNIT pcachefs_logic_dev_request_duration_seconds seconds\n", "# HELP pcachefs_logic_dev_dirty_bytes "}) {
    const std::size_t at = text.find(line);
    ASSERT_NE(at, std::string::npos) << line;
    EXPECT_EQ(text.find(line, at + 1), std::string::npos) << line;
  }
  EXPECT_TRUE(text.ends_with("# EOF\n"));
  // Samples stand under their family.
  std::istringstream lines(text);
  std::set<std::string> families;
  std::string family;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family;
    } else if (!line.starts_with("#")) {
      EXPECT_TRUE(line.starts_with(family)) << line << " under " << family;
    }
  }
}

TEST_F(MetricsTest, TheTextFormatNamesCountersInFullAndHasNoUnits) {
  const std::string text = metrics_text(manager_, MetricsFormat::prometheus);
  EXPECT_NE(text.find("# TYPE pcachefs_logic_dev_requests_total counter\n"), std::string::npos);
  EXPECT_EQ(text.find("# UNIT"), std::string::npos);
  EXPECT_EQ(text.find("# EOF"), std::string::npos);
}

TEST(MetricsFormats, AreChosenByWhatAScraperAccepts) {
  EXPECT_EQ(format_for("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), MetricsFormat::openmetrics);
  EXPECT_EQ(format_for("text/plain;version=0.0.4"), MetricsFormat::prometheus);
  EXPECT_EQ(format_for("*/*"), MetricsFormat::openmetrics);
  EXPECT_EQ(format_for(""), MetricsFormat::openmetrics);
}

}  // namespace
}  // namespace pcache
