#include "pcache/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

constexpr const char* kGood = R"([mount]
allow_other = true
http = "127.0.0.1:9494"
log_level = "warning"

[cache_dev.fast]
path = "/dev/dax0.0"
ack = "durable"
epoch_max_ms = 500
defaults = { dirty_high = "30%", dirty_max_age = 2000 }

[logic_dev.db]
backing = "/dev/disk/by-id/x"
size = "1G"
dirty_high = "40%"
mode = "writethrough"

[logic_dev."vm 1"]
backing = "/srv/vm1"
cache_dev = "fast"
)";

TEST(Config, SaysWhatShallBeThere) {
  const ConfigReading reading = parse_config(kGood, "f");
  ASSERT_TRUE(reading.status().ok()) << reading.status().message();
  const Config& config = reading.config;
  EXPECT_TRUE(config.allow_other);
  EXPECT_EQ(config.http, "127.0.0.1:9494");
  EXPECT_EQ(config.log_level, "warning");
  ASSERT_EQ(config.cache_devs.size(), 1U);
  EXPECT_EQ(config.cache_devs[0].path, "/dev/dax0.0");
  EXPECT_EQ(config.cache_devs[0].ack, Ack::durable);
  EXPECT_EQ(config.cache_devs[0].epoch_max_ms, 500U);
  ASSERT_EQ(config.logic_devs.size(), 2U);
  EXPECT_EQ(config.logic_devs[0].name, "db");
  EXPECT_EQ(config.logic_devs[0].cache_dev, "fast") << "the only one there is";
  EXPECT_EQ(config.logic_devs[0].size_bytes, std::uint64_t{1} << 30);
  EXPECT_EQ(config.logic_devs[1].name, "vm 1");

  CacheOptions chosen;
  chosen.ack = Ack::flush;
  const CacheOptions options = options_of(config, config.cache_devs[0], chosen);
  EXPECT_EQ(options.label, "fast");
  EXPECT_EQ(options.ack, Ack::flush) << "what the command line says counts more";
  EXPECT_EQ(options.epoch_max_ms, 500U);
  EXPECT_EQ(options.configured.of("db").get(Setting::dirty_high), kPercent | 40);
  EXPECT_EQ(options.configured.of("db").get(Setting::dirty_max_age), 2000U);
  EXPECT_EQ(options.configured.of("vm 1").get(Setting::dirty_high), kPercent | 30);
}

TEST(Config, IsTheSameAgainWhenItIsWrittenDown) {
  const std::string text = format_config(parse_config(kGood, "f").config);
  const ConfigReading again = parse_config(text, "f");
  ASSERT_TRUE(again.status().ok()) << again.status().message() << "\n" << text;
  EXPECT_EQ(format_config(again.config), text);
  EXPECT_EQ(again.config.logic_devs[1].name, "vm 1");
  EXPECT_EQ(again.config.logic_devs[0].settings.get(Setting::dirty_high), kPercent | 40);
  EXPECT_EQ(format_config({}), "");
}

TEST(Config, NamesThePlaceOfWhatIsWrong) {
  const std::string cache = "[cache_dev.c]\npath = \"/c\"\n";
  const std::string device = cache + "[logic_dev.d]\nbacking = \"/b\"\n";
  struct Case {
    std::string text;
    const char* place;
    const char* says;
  };
  const Case cases[] = {
      {"a = [", "f:1:", "array"},
      {"[cache_dev.c]\npath = \"/c\"\npath = \"/d\"\n", "f:3:", "path"},
      {"x = 1\n", "f:1:1", "mount, cache_dev"},
      {"cache_dev = 1\n", "f:1:13", "cache_dev.LABEL"},
      {"[cache_dev]\npath = \"/c\"\n", "f:2:1", "stands alone"},
      {"[mount]\nallow_others = true\n", "f:2:1", "allow_other, http, log_level"},
      {"[mount]\nhttp = \"foo:bar\"\n", "f:2:8", "'foo:bar' is not of the form ADDR:PORT"},
      {"[mount]\nlog_level = \"loud\"\n", "f:2:13", "'loud'"},
      {cache + "[cache_dev.e]\npath = \"/a/../c\"\n", "f:4:8", "already at f:2:8"},
      {cache + "[logic_dev.d]\nbacking = \"/./c\"\n", "f:4:11", "already at f:2:8"},
      {"[mount]\nallow_other = 1\n", "f:2:15", "true or false"},
      {"mount = 3\n", "f:1:9", "[mount]"},
      {cache + "labell = \"x\"\n", "f:3:1", "path, ack"},
      {cache + "ack = \"maybe\"\n", "f:3:7", "durable or flush"},
      {cache + "ack = true\n", "f:3:7", "a text"},
      {cache + "epoch_max_ms = 9\n", "f:3:16", "10 to 60000"},
      {cache + "epoch_max_ms = -1\n", "f:3:16", "10 to 60000"},
      {cache + "epoch_max_ms = 1.5\n", "f:3:16", "fraction"},
      {cache + "defaults = 3\n", "f:3:12", "a table"},
      {cache + "[cache_dev.c.defaults]\ndirty_hihg = \"3%\"\n", "f:4:1", "dirty_hihg"},
      {cache + "[cache_dev.c.defaults]\ndirty_high = \"3%\"\ndirty_low = \"4%\"\n", "f:3:14", "dirty_low"},
      {"[cache_dev.c]\nack = \"flush\"\n", "f:1:12", "no path"},
      {"[cache_dev.c]\npath = \"c\"\n", "f:2:8", "begins with /"},
      {"[cache_dev.c]\npath = 1979-05-27\n", "f:2:8", "date"},
      {"[cache_dev.'a b']\npath = \"/c\"\n", "f:1:12", "'a b'"},
      {cache + "[cache_dev.e]\npath = \"/c\"\n", "f:4:8", "already at f:2:8"},
      {device + "dirty_high = \"96%\"\n", "f:5:14", "0% to 95%"},
      {device + "dirty_high = []\n", "f:5:14", "a list"},
      {device + "permissions = 0o640\n", "f:5:15", "a text"},
      {device + "full_policy = 7\n", "f:5:15", "throttle"},
      {device + "sise = \"1G\"\n", "f:5:1", "backing, cache_dev, size"},
      {device + "size = \"much\"\n", "f:5:8", "much"},
      {device + "dirty_low = \"60%\"\ndirty_high = \"50%\"\n", "f:3:12", "dirty_low"},
      {device + "cache_dev = \"other\"\n", "f:3:12", "'other'"},
      {device + "[logic_dev.e]\nbacking = \"/b\"\n", "f:6:11", "already at f:4:11"},
      {cache + "[logic_dev.d]\n", "f:3:12", "no backing"},
      {cache + "[logic_dev.'a/b']\nbacking = \"/b\"\n", "f:3:12", "cannot name"},
      {"[logic_dev.d]\nbacking = \"/b\"\n", "f:1:12", "no cache_dev"},
      {cache + "[logic_dev.d]\nbacking = \"/b\\u0007\"\n", "f:4:11", "control"},
  };
  for (const Case& wrong : cases) {
    const ConfigReading reading = parse_config(wrong.text, "f");
    const Status status = reading.status();
    EXPECT_EQ(status.code(), Errc::invalid) << wrong.text;
    EXPECT_TRUE(status.message().starts_with(wrong.place)) << wrong.text << "\n" << status.message();
    EXPECT_NE(status.message().find(wrong.says), std::string::npos) << wrong.text << "\n" << status.message();
  }
}

TEST(Config, TellsEverythingThatIsWrongInTheOrderOfTheFile) {
  const ConfigReading reading =
      parse_config("[cache_dev.z]\nfoo = 1\npath = 2\n[cache_dev.a]\nbar = 3\npath = \"/a\"\n", "f");
  ASSERT_EQ(reading.findings.size(), 3U);
  EXPECT_EQ(to_string(reading.findings[0].place), "f:2:1");
  EXPECT_EQ(to_string(reading.findings[1].place), "f:3:8");
  EXPECT_EQ(to_string(reading.findings[2].place), "f:5:1");
  EXPECT_NE(reading.status().message().find("2 more errors"), std::string::npos) << reading.status().message();
}

TEST(ConfigFiles, OfADirectoryAreItsMainFileAndThoseOfConfD) {
  const TempDir dir;
  const auto empty = read_config(dir / "");
  ASSERT_TRUE(empty.ok()) << empty.status().message();
  EXPECT_TRUE(empty->config.empty() && empty->files.empty());

  write(dir / "pcachefs.toml", "[cache_dev.c]\npath = \"/c\"\n");
  std::filesystem::create_directory(dir / "conf.d");
  write(dir / "conf.d/20-b.toml", "[logic_dev.b]\nbacking = \"/b\"\n");
  write(dir / "conf.d/10-a.toml", "[logic_dev.a]\nbacking = \"/a\"\n");
  write(dir / "conf.d/30-x.toml.old", "nonsense");
  const auto read = read_config(dir / "");
  ASSERT_TRUE(read.ok() && read->status().ok()) << (read.ok() ? read->status().message() : read.status().message());
  EXPECT_EQ(read->files.size(), 3U);
  ASSERT_EQ(read->config.logic_devs.size(), 2U);
  EXPECT_EQ(read->config.logic_devs[0].name, "a");
  EXPECT_EQ(read->config.logic_devs[1].cache_dev, "c");

  const auto alone = read_config(dir / "conf.d/10-a.toml");
  ASSERT_TRUE(alone.ok());
  EXPECT_FALSE(alone->status().ok()) << "a file is read alone";
}

TEST(ConfigFiles, WithTheSameNameTwiceAreRefusedWithBothPlaces) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "conf.d");
  write(dir / "pcachefs.toml", "[cache_dev.c]\npath = \"/c\"\n[logic_dev.d]\nbacking = \"/b\"\n[mount]\n");
  write(dir / "conf.d/x.toml", "[logic_dev.d]\nbacking = \"/e\"\n[cache_dev.c]\npath = \"/f\"\n[mount]\n");
  const auto read = read_config(dir / "");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->findings.size(), 3U);
  for (const ConfigFinding& finding : read->findings) {
    EXPECT_TRUE(finding.place.file.ends_with("conf.d/x.toml"));
    EXPECT_NE(finding.message.find("pcachefs.toml:"), std::string::npos) << finding.message;
  }
}

TEST(ConfigFiles, ThatCannotBeReadAreAnErrorOfTheirs) {
  const TempDir dir;
  const auto none = read_config(dir / "none.toml");
  EXPECT_EQ(none.status().code(), Errc::not_found);
  EXPECT_NE(none.status().message().find("none.toml"), std::string::npos);
  write(dir / "long.toml", std::string(2 << 20, '#'));
  EXPECT_EQ(read_config(dir / "long.toml").status().code(), Errc::invalid);
}

TEST(ConfigFiles, ThatAreHiddenAreLeftOutAndOthersHaveToBeReadable) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "conf.d");
  std::filesystem::create_symlink("user@host.1234", dir / "conf.d/.#x.toml");
  write(dir / "conf.d/.x.toml.swp", "nonsense");
  const auto none = read_config(dir / "");
  ASSERT_TRUE(none.ok()) << none.status().message();
  EXPECT_TRUE(none->files.empty());

  std::filesystem::create_symlink("nowhere", dir / "conf.d/y.toml");
  const auto broken = read_config(dir / "");
  EXPECT_EQ(broken.status().code(), Errc::not_found);
  EXPECT_NE(broken.status().message().find("conf.d/y.toml, a link to nowhere"), std::string::npos)
      << broken.status().message();
  std::filesystem::remove(dir / "conf.d/y.toml");
  for (const char* name : {"pcachefs.toml", "conf.d"}) {
    std::filesystem::remove_all(dir / name);
    std::filesystem::create_symlink("nowhere", dir / name);
    const auto dangling = read_config(dir / "");
    EXPECT_EQ(dangling.status().code(), Errc::not_found) << name;
    EXPECT_NE(dangling.status().message().find(name), std::string::npos) << dangling.status().message();
    std::filesystem::remove(dir / name);
  }
}

TEST(ConfigFiles, AreReadAsIfOneOfThemSaidSomethingElse) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "conf.d");
  const std::string text = "[cache_dev.c]\npath = \"/c\"\n";
  write(dir / "conf.d/b.toml", text);
  const auto reading = [&](const std::string& name) {
    const auto read = read_config_with(dir / name, text);
    EXPECT_TRUE(read.ok()) << name;
    return read.ok() ? *read : ConfigReading();
  };
  // Those that are not there yet are read in their place.
  EXPECT_EQ(reading("pcachefs.toml").files, (std::vector<std::string>{dir / "pcachefs.toml", dir / "conf.d/b.toml"}));
  EXPECT_FALSE(reading("pcachefs.toml").status().ok());
  EXPECT_FALSE(reading("conf.d/a.toml").status().ok());
  EXPECT_EQ(reading("conf.d/c.toml").files.back(), dir / "conf.d/c.toml");
  EXPECT_FALSE(reading("conf.d/c.toml").status().ok());
  EXPECT_TRUE(reading("conf.d/b.toml").status().ok()) << "it takes the place of what is there";
  EXPECT_TRUE(reading("other.toml").status().ok());
  EXPECT_TRUE(reading("conf.d/.a.toml").status().ok());
}

TEST(ConfigFiles, AreWhereTheEnvironmentSays) {
  unsetenv("PCACHEFS_CONFIG_DIR");
  EXPECT_EQ(config_dir(), kConfigDir);
  setenv("PCACHEFS_CONFIG_DIR", "/x", 1);
  EXPECT_EQ(config_dir(), "/x");
  unsetenv("PCACHEFS_CONFIG_DIR");
}

TEST(ConfigInspection, WarnsOfCacheDevicesThatAreNoneOrOthers) {
  const ConfigReading reading = parse_config("[cache_dev.c]\npath = \"/dev/null\"\n", "f");
  const auto found = [&](const Result<std::string>& label) {
    const auto findings = inspect_config(reading.config, [&](const std::string&) { return label; });
    return findings.empty() ? std::string() : findings.front().message;
  };
  EXPECT_EQ(found(std::string("c")), "");
  EXPECT_EQ(found(std::string("other")), "cache device /dev/null has the label other, and not c");
  EXPECT_EQ(found(Status(Errc::invalid, "is none")), "is none");
  EXPECT_EQ(found(Status(Errc::integrity, "is damaged")), "is damaged");
  EXPECT_EQ(found(Status(Errc::busy, "is in use")), "");
  EXPECT_EQ(found(Status(Errc::permission, "is not for you")), "");
}

TEST(ConfigInspection, WarnsOfWhatIsNotThere) {
  const TempDir dir;
  write(dir / "cache", "x");
  const ConfigReading reading = parse_config(
      "[cache_dev.c]\npath = \"" + (dir / "cache") + "\"\n[logic_dev.d]\nbacking = \"" + (dir / "none") + "\"\n", "f");
  ASSERT_TRUE(reading.status().ok()) << reading.status().message();
  const auto findings = inspect_config(reading.config, [](const std::string&) { return std::string("c"); });
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_FALSE(findings[0].is_error);
  EXPECT_EQ(to_string(findings[0].place), "f:3:12");
  EXPECT_NE(findings[0].message.find("none is not there"), std::string::npos) << findings[0].message;
}

}  // namespace
}  // namespace pcache
