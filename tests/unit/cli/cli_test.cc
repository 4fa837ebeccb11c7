#include "cli/cli.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "control/command_table.h"
#include "control/control_server.h"
#include "control/version.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

class CliTest : public testing::Test {
 protected:
  // Runs the command line, and keeps what it printed.
  int run(std::vector<std::string> words) {
    words.insert(words.begin(), "pcachefs");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_cli(static_cast<int>(argv.size()), argv.data(), actions_);
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return code;
  }

  // One line that says who is talking.
  bool is_one_line_of_error() const {
    return out_.empty() && err_.starts_with("pcachefs: ") && std::count(err_.begin(), err_.end(), '\n') == 1 &&
           err_.back() == '\n' && err_.size() > sizeof "pcachefs: \n";
  }
  // The same for programs.
  bool is_json_error(const std::string& code) const {
    const json error = json::parse(err_, nullptr, false);
    return out_.empty() && error.is_object() && error["schema"]["major"] == 1 && error["error"]["code"] == code &&
           std::count(err_.begin(), err_.end(), '\n') == 1;
  }
  std::string printed() const { return "stdout: " + out_ + "\nstderr: " + err_; }

  std::unique_ptr<ControlServer> serve(const std::string& mount, FakeManager& manager) {
    auto server = ControlServer::start(mount, manager, [] {});
    EXPECT_TRUE(server.ok()) << server.status().message();
    return server.ok() ? std::move(*server) : nullptr;
  }

  struct Formatted {
    std::string path;
    FormatOptions options;
  };
  RunDir run_dir_;
  FakeManager manager_;
  Status outcome_;
  std::vector<Formatted> formatted_;
  std::vector<MountArgs> mounted_;
  std::vector<std::string> problems_;
  std::vector<std::string> checked_;
  std::vector<Damage> damages_;
  CheckReport found_;
  std::vector<std::string> dumped_;
  std::vector<std::string> salvaged_;
  SalvageReport got_;
  struct {
    DumpedSuperblock superblock;
    std::vector<DumpedDevice> devices;
    std::vector<DumpedSegment> segments;
    std::vector<DumpedRecord> records;
  } dump_;
  CliActions actions_{[this](const std::string& path, const FormatOptions& options) {
                        formatted_.push_back({path, options});
                        return outcome_;
                      },
                      [this](const MountArgs& args, std::vector<std::string>& problems) {
                        mounted_.push_back(args);
                        problems = problems_;
                        return outcome_;
                      },
                      [this](const std::string& path, const std::function<void(const Damage&)>& report) {
                        checked_.push_back(path);
                        for (const Damage& damage : damages_) report(damage);
                        return outcome_.ok() ? Result<CheckReport>(found_) : Result<CheckReport>(outcome_);
                      },
                      [this](const std::string& path, const DumpVisitor& visitor) {
                        dumped_.push_back(path);
                        if (!outcome_.ok()) return outcome_;
                        visitor.superblock(dump_.superblock);
                        for (const DumpedDevice& device : dump_.devices) visitor.device(device);
                        for (const DumpedSegment& segment : dump_.segments) visitor.segment(segment);
                        for (const DumpedRecord& record : dump_.records) visitor.record(record);
                        return Status();
                      },
                      [this](const std::string& path, const std::string& name, const SalvageOptions& options,
                             const std::function<void(const Damage&)>& report) {
                        salvaged_.push_back(path + " " + name + " " + options.image + " " + options.backing);
                        for (const Damage& damage : damages_) report(damage);
                        return outcome_.ok() ? Result<SalvageReport>(got_) : Result<SalvageReport>(outcome_);
                      },
                      [](const std::string&) { return Status(Errc::busy, "is in use"); }};
  std::string out_;
  std::string err_;
};

TEST_F(CliTest, CheckPrintsWhatIsWrongAndEndsWithSix) {
  found_.path = "/c";
  found_.label = "cellar";
  found_.logic_devs.push_back({"db", 1 << 20, "/b", false, "", 8192, 12288, 0});
  EXPECT_EQ(run({"check", "/c"}), 0) << printed();
  EXPECT_NE(out_.find("no damage"), std::string::npos) << printed();
  EXPECT_NE(out_.find("db"), std::string::npos) << printed();
  EXPECT_EQ(err_, "");

  damages_.push_back(
      {DamageKind::dirty_data, "db", 0x1000, ByteRange{4096, 8192}, true, true, false, "it is\nbad\x1b"});
  damages_.push_back({DamageKind::superblock, "", 0, std::nullopt, true, false, true, "a copy"});
  found_.damages = 2;
  EXPECT_EQ(run({"check", "/c"}), 6) << printed();
  EXPECT_NE(out_.find("8192 bytes from 4096, dirty"), std::string::npos) << printed();
  EXPECT_EQ(out_.find('\x1b'), std::string::npos) << "what comes from media must not reach the terminal";
  EXPECT_EQ(out_.find("no damage"), std::string::npos) << printed();
  EXPECT_EQ(err_, "pcachefs: cache device /c is damaged, in 2 places\n");

  EXPECT_EQ(run({"check", "/c", "--json"}), 6) << printed();
  const json printed = json::parse(out_);
  EXPECT_EQ(printed["schema"]["major"], 1);
  EXPECT_EQ(printed["damages"], 2);
  EXPECT_EQ(printed["damage"].size(), 2U);
  EXPECT_EQ(printed["damage"][0]["kind"], "dirty_data");
  EXPECT_EQ(printed["damage"][0]["offset"], 4096);
  EXPECT_EQ(printed["damage"][0]["length"], 8192);
  EXPECT_FALSE(printed["damage"][1].contains("offset")) << "where it is not known";
  EXPECT_EQ(printed["logic_devs"][0]["dirty_bytes"], 8192);
  EXPECT_EQ(checked_, (std::vector<std::string>{"/c", "/c", "/c"}));
}

TEST_F(CliTest, DumpPrintsEachItemAndInJsonEachList) {
  dump_.superblock.path = "/c";
  dump_.superblock.copies = {"good", "damaged"};
  EXPECT_EQ(run({"dump", "/c", "--json"}), 0) << printed();
  json printed_json = json::parse(out_);
  EXPECT_EQ(printed_json["schema"]["major"], 1);
  EXPECT_EQ(printed_json["superblock"]["copies"], (json{"good", "damaged"}));
  for (const char* list : {"devices", "segments", "records"}) EXPECT_EQ(printed_json[list], json::array()) << list;

  DumpedDevice device;
  device.usable = true;
  device.device_id = 7;
  device.name = "db\xff";
  device.clean_epoch = std::uint64_t{1} << 60;
  dump_.devices = {device, device};
  DumpedRecord record;
  record.type = "zero";
  record.count = 77;
  dump_.records = {record};
  EXPECT_EQ(run({"dump", "/c", "--json"}), 0) << printed();
  printed_json = json::parse(out_);
  EXPECT_EQ(printed_json["devices"].size(), 2U);
  EXPECT_EQ(printed_json["devices"][0]["clean_epoch"], std::uint64_t{1} << 60);
  EXPECT_EQ(printed_json["devices"][0]["closed_lsns"], nullptr);
  EXPECT_EQ(printed_json["segments"], json::array());
  EXPECT_EQ(printed_json["records"][0]["count"], 77);
  EXPECT_FALSE(printed_json["records"][0]["valid"]);

  EXPECT_EQ(run({"dump", "/c"}), 0) << printed();
  EXPECT_NE(out_.find("copies good and damaged"), std::string::npos) << printed();
  EXPECT_NE(out_.find("device 7"), std::string::npos) << printed();
  EXPECT_NE(out_.find("DAMAGED lsn 0 zero block 0 count 77"), std::string::npos) << printed();

  outcome_ = Status(Errc::integrity, "not a cache device");
  EXPECT_EQ(run({"dump", "/c", "--json"}), 6);
  EXPECT_TRUE(is_json_error("integrity")) << printed();
}

TEST_F(CliTest, SalvageSaysWhatItGotAndEndsWithSixWhereSomethingIsMissing) {
  got_.size_bytes = 1 << 20;
  got_.backing = "/b";
  EXPECT_EQ(run({"salvage", "/c", "db", "-o", "/i"}), 0) << printed();
  EXPECT_NE(out_.find("backing /b"), std::string::npos) << printed();
  EXPECT_EQ(err_, "");
  damages_.push_back({DamageKind::backing, "db", 0, ByteRange{4096, 8192}, true, false, false, "gone"});
  got_.damages = 1;
  got_.missing_bytes = 8192;
  got_.backing = "";
  got_.backing_detail = "it is not there";
  EXPECT_EQ(run({"salvage", "/c", "db", "--output", "/i", "--backing", "/x"}), 6) << printed();
  EXPECT_NE(out_.find("8192 bytes from 4096"), std::string::npos) << printed();
  EXPECT_NE(out_.find("it is not there"), std::string::npos) << printed();
  EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1) << printed();
  EXPECT_EQ(salvaged_, (std::vector<std::string>{"/c db /i ", "/c db /i /x"}));
}

TEST_F(CliTest, ACheckThatCannotBeMadePrintsNothingButTheError) {
  outcome_ = Status(Errc::busy, "in use");
  EXPECT_EQ(run({"check", "/c"}), 4);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
  EXPECT_EQ(run({"check", "/c", "--json"}), 4);
  EXPECT_TRUE(is_json_error("busy")) << printed();
}

TEST_F(CliTest, EveryCommandAnswersInJsonWithItsSchema) {
  const auto server = serve("/mnt/x", manager_);
  const std::vector<std::string> good[] = {
      {"format", "/c"}, {"mount", "/m"}, {"add", "d", "/b"}, {"set", "d", "dirty_high=30%"},
      {"get", "d"},     {"status"},      {"stats", "d"},     {"stats", "d", "--reset"},
      {"flush", "d"},   {"drain", "d"},  {"detach", "d"},    {"attach", "d"},
      {"resize", "d"},  {"jobs"},        {"jobs", "1"},      {"remove", "d", "--no-flush"},
      {"version"},      {"check", "/c"}, {"dump", "/c"},     {"salvage", "/c", "d", "-o", "/i"},
  };
  for (std::vector<std::string> words : good) {
    words.emplace_back("--json");
    EXPECT_EQ(run(words), 0) << words[0] << " " << printed();
    const json reply = json::parse(out_, nullptr, false);
    ASSERT_TRUE(reply.is_object()) << words[0] << " " << printed();
    if (words[0] != "dump") {  // begins with the superblock that a cache device has
      EXPECT_EQ(reply["schema"]["major"], 1) << words[0] << " " << printed();
    }
    EXPECT_EQ(err_, "") << words[0];
  }
  const std::pair<std::vector<std::string>, const char*> bad[] = {
      {{"bogus"}, "invalid"},          {{"add", "d"}, "invalid"},     {{"cancel", "1"}, "invalid"},
      {{"cancel", "99"}, "not_found"}, {{"jobs", "99"}, "not_found"}, {{"jobs", "x"}, "invalid"},
      {{"umount", "/"}, "not_found"},
  };
  for (auto [words, code] : bad) {
    words.emplace_back("--json");
    EXPECT_NE(run(words), 0) << words[0];
    EXPECT_TRUE(is_json_error(code)) << words[0] << " " << printed();
  }
}

TEST_F(CliTest, StatusForMonitoringHasCodesOfItsOwn) {
  StatusReport report;
  LogicDevStats& device = report.logic_devs.emplace_back();
  device.name = "db";
  device.state = "running";
  manager_.report(report);
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"status", "--check"}), 0);
  EXPECT_EQ(out_, "ok\n");
  device.backing_fails = true;
  device.detail = "no\nspace";
  manager_.report(report);
  EXPECT_EQ(run({"status", "--check"}), 10);
  EXPECT_EQ(out_, "warning\nlogical device db: no space\n");
  device.state = "no_backing";
  manager_.report(report);
  EXPECT_EQ(run({"status", "--check", "--json"}), 11);
  EXPECT_EQ(json::parse(out_)["health"]["level"], "critical");
  EXPECT_EQ(run({"status", "other", "--check"}), 3) << "an error is an error";
}

TEST_F(CliTest, SegmentsAreAMapForPeople) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"segments"}), 0);
  EXPECT_EQ(out_,
            "cache device fast, a character for each of 5 segments: d dirty, c clean, . free, x damaged\n"
            "  dcc.x\n  2 of db\n  1 of vm\n");
}

TEST_F(CliTest, JobsAreListedForPeople) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"jobs"}), 0);
  EXPECT_EQ(out_, "no job was begun\n");
  EXPECT_EQ(run({"drain", "d"}), 0);
  manager_.outcome(Status(Errc::dirty, "dirty it is"));
  EXPECT_EQ(run({"remove", "e"}), 5);
  EXPECT_EQ(run({"jobs"}), 0);
  EXPECT_EQ(out_.find("JOB  COMMAND  OBJECT  STATE   PROGRESS\n"), 0U) << out_;
  EXPECT_NE(out_.find("  1  drain    d       done    4 KiB of 4 KiB"), std::string::npos) << out_;
  EXPECT_NE(out_.find("  2  remove   e       failed  dirty it is\n"), std::string::npos) << out_;
  EXPECT_EQ(run({"-H", "-p", "jobs"}), 0);
  EXPECT_NE(out_.find("1\tdrain\td\tdone\t4096 of 4096\n"), std::string::npos) << out_;
  EXPECT_EQ(out_.find("JOB"), std::string::npos) << out_;
}

TEST_F(CliTest, SettingsAreListedForPeopleAndForScripts) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"get", "d"}), 0);
  EXPECT_EQ(out_, "SETTING     VALUE  ORIGIN\ndirty_high  30%    stored\n");
  EXPECT_EQ(run({"get", "d", "-H"}), 0);
  EXPECT_EQ(out_, "dirty_high\t30%\tstored\n");
}

TEST_F(CliTest, QuietPrintsOnlyErrors) {
  const auto server = serve("/mnt/x", manager_);
  for (const auto& words : {std::vector<std::string>{"status"}, {"get", "d"}, {"ls"}, {"version"}, {"drain", "d"}}) {
    std::vector<std::string> quiet = words;
    quiet.insert(quiet.begin(), "-q");
    EXPECT_EQ(run(quiet), 0) << words[0] << " " << printed();
    EXPECT_EQ(out_ + err_, "") << words[0];
  }
  manager_.outcome(Status(Errc::busy, "busy it is"));
  EXPECT_EQ(run({"get", "d", "--quiet"}), 4);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
  manager_.outcome(Status());
  EXPECT_EQ(run({"version"}), 0);
  EXPECT_NE(out_, "") << "the next command is not quiet";
}

TEST_F(CliTest, IntervalsAreRatesALineEach) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"stats", "d", "-i", "0.01", "3"}), 0) << printed();
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 4) << "a heading, and three lines: " << out_;
  EXPECT_EQ(run({"stats", "d", "-i", "0.01", "2", "-H"}), 0);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 2) << out_;
  EXPECT_EQ(run({"stats", "d", "-i", "0.01", "2", "--json"}), 0);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 2) << out_;
  EXPECT_EQ(json::parse(out_.substr(0, out_.find('\n')))["name"], "d");
  EXPECT_EQ(json::parse(out_.substr(0, out_.find('\n')))["schema"], schema_json());
  for (const char* wrong : {"0", "-1", "x", "1s", "nan", ""}) {
    EXPECT_EQ(run({"stats", "d", "-i", wrong}), 2) << wrong;
    EXPECT_TRUE(is_one_line_of_error()) << wrong << printed();
  }
  EXPECT_EQ(run({"stats", "d", "-i", "1", "0"}), 2);
  EXPECT_EQ(run({"stats", "-i", "1", "2"}), 2);
  EXPECT_NE(err_.find("name it"), std::string::npos) << printed();
  EXPECT_EQ(run({"stats", "d", "-i", "1", "--reset"}), 2);
  EXPECT_EQ(run({"top", "--json"}), 2);
  EXPECT_TRUE(is_json_error("invalid")) << printed();
}

TEST_F(CliTest, WhatAMountCouldNotBringUpIsSaid) {
  problems_ = {"cache device c is not there", "logical device d neither"};
  ASSERT_EQ(run({"mount", "/m", "--cache", "/c"}), 0);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(err_, "pcachefs: warning: cache device c is not there\npcachefs: warning: logical device d neither\n");
  ASSERT_EQ(run({"mount", "/m", "--cache", "/c", "--json"}), 0);
  EXPECT_EQ(json::parse(out_)["problems"].size(), 2U) << printed();
  EXPECT_EQ(err_, "");
}

TEST_F(CliTest, UsageErrorsAreOneLineAndCodeTwo) {
  const std::vector<std::string> bad[] = {
      {},
      {"bogus"},
      {"--bogus", "version"},
      {"version", "extra"},
      {"format"},
      {"format", "/c", "extra"},
      {"format", "/c", "--bogus"},
      {"format", "/c", "--size"},
      {"format", "/c", "--force=maybe"},
      {"mount"},
      {"mount", "/m", "--cache"},
      {"mount", "/m", "-o"},
      {"mount", "/m", "-o", "bogus"},
      {"mount", "/m", "-o", "ack=never"},
      {"mount", "/m", "-x"},
      {"add"},
      {"add", "d"},
      {"add", "d", "/b", "extra"},
      {"remove"},
      {"check"},
      {"check", "/c", "extra"},
      {"dump"},
      {"salvage", "/c", "-o", "/i"},
      {"salvage", "/c", "db"},
      {"flush"},
      {"status", "d", "extra"},
      {"status", "--xml"},
      {"umount"},
      {"version", "--mount"},
      {"format", "/c", "mount", "/m"},
  };
  for (const auto& words : bad) {
    EXPECT_EQ(run(words), 2) << testing::PrintToString(words);
    EXPECT_TRUE(is_one_line_of_error()) << testing::PrintToString(words) << "\n" << printed();
  }
  EXPECT_TRUE(formatted_.empty());
  EXPECT_TRUE(mounted_.empty());
}

TEST_F(CliTest, UsageErrorsNameWhatIsWrong) {
  const auto error_of = [this](const std::vector<std::string>& words) {
    EXPECT_EQ(run(words), 2) << testing::PrintToString(words);
    EXPECT_TRUE(is_one_line_of_error()) << printed();
    return err_;
  };
  EXPECT_EQ(error_of({"config", "chk"}),
            "pcachefs: there is no command or option 'config chk'; see pcachefs config --help\n");
}

TEST_F(CliTest, ArgumentsThatAreWrongAreCalledWhatTheyAreOnTheCommandLine) {
  const auto error_of = [this](const std::vector<std::string>& words) {
    EXPECT_EQ(run(words), 2) << testing::PrintToString(words);
    return err_;
  };
  EXPECT_EQ(error_of({"set", "db", "dirty_hihg=1"}).substr(0, 44), "pcachefs: there is no setting 'dirty_hihg'; ");
  EXPECT_EQ(error_of({"set", "db", "dirty_high=10%", "dirty_high=20%"}),
            "pcachefs: setting dirty_high is given twice\n");
  EXPECT_EQ(error_of({"add", "db", "/b", "--mode", "writeback", "-o", "mode=writearound"}),
            "pcachefs: setting mode is given twice\n");
  EXPECT_EQ(error_of({"grow", "fast", "8X"}).substr(0, 20), "pcachefs: SIZE: '8X'");
  EXPECT_EQ(error_of({"add", "db", "/b", "--size", "8X"}).substr(0, 22), "pcachefs: --size: '8X'");
}

TEST_F(CliTest, HelpAndTheVersionCanBeAskedForInManyWays) {
  for (const char* words : {"--version", "-V"}) {
    EXPECT_EQ(run({words}), 0) << printed();
    EXPECT_EQ(out_, std::string("pcachefs ") + kVersion + "\n");
  }
  ASSERT_EQ(run({"add", "--help"}), 0);
  const std::string of_add = out_;
  EXPECT_EQ(run({"help", "add"}), 0) << printed();
  EXPECT_EQ(out_, of_add);
  ASSERT_EQ(run({"config", "check", "--help"}), 0);
  const std::string of_check = out_;
  EXPECT_EQ(run({"help", "config", "check"}), 0) << printed();
  EXPECT_EQ(out_, of_check);
  ASSERT_EQ(run({"--help"}), 0);
  const std::string of_all = out_;
  EXPECT_EQ(run({"help"}), 0) << printed();
  EXPECT_EQ(out_, of_all);
  EXPECT_EQ(run({"help", "bogus"}), 2);
}

TEST_F(CliTest, AMountOverFilesSaysWhatItHides) {
  const TempDir dir;
  ASSERT_EQ(run({"mount", dir.path(), "--cache", "/c"}), 0);
  EXPECT_EQ(err_, "");
  std::filesystem::create_directory(dir / "precious");
  ASSERT_EQ(run({"mount", dir.path(), "--cache", "/c"}), 0);
  EXPECT_NE(err_.find("warning: " + dir.path() + " is not empty: as long as it is mounted, precious"),
            std::string::npos)
      << printed();
  ASSERT_EQ(run({"mount", dir.path(), "--cache", "/c", "--json"}), 0);
  EXPECT_EQ(json::parse(out_)["warnings"].size(), 1U) << printed();
}

TEST_F(CliTest, EverySettingIsInTheManual) {
  ASSERT_EQ(run({"manual", "settings"}), 0) << printed();
  for (const SettingInfo& info : all_settings()) {
    std::string name = info.name;
    for (std::size_t i = 0; (i = name.find('_', i)) != std::string::npos; i += 2) name.insert(i, "\\");
    EXPECT_NE(out_.find("*" + name + "*\n\t"), std::string::npos) << name << " is not in\n" << out_;
  }
  EXPECT_NE(out_.find("default: 50%"), std::string::npos) << out_;
}

TEST_F(CliTest, SizesThatMakeNoSenseAreRefusedBeforeAnythingIsDone) {
  const auto server = serve("/mnt/x", manager_);
  for (const char* size : {"0", "-1", "1.5.2G", "99999E", "", "1X", "G", "0x10", "1 G", "nan", "1e3", "0.0001K"}) {
    const std::string given = size;
    EXPECT_EQ(run({"format", "/c", "--size", given}), 2) << size;
    EXPECT_TRUE(is_one_line_of_error()) << size << printed();
    EXPECT_EQ(run({"format", "/c", "--size=" + given}), 2) << size;
    EXPECT_TRUE(is_one_line_of_error()) << size << printed();
    EXPECT_EQ(run({"format", "/c", "--segment-size=" + given}), 2) << size;
    EXPECT_TRUE(is_one_line_of_error()) << size << printed();
    EXPECT_EQ(run({"add", "d", "/b", "--size=" + given}), 2) << size;
    EXPECT_TRUE(is_one_line_of_error()) << size << printed();
  }
  EXPECT_TRUE(formatted_.empty());
  EXPECT_TRUE(manager_.added().empty());
}

TEST_F(CliTest, FormatHandsEverythingOn) {
  ASSERT_EQ(run({"format", "/c"}), 0) << printed();
  ASSERT_EQ(run({"format", "/d", "--size", "1.5G", "--label", "fast", "--segment-size", "256K", "--force",
                 "--discard-dirty"}),
            0)
      << printed();
  EXPECT_EQ(out_ + err_, "");
  ASSERT_EQ(formatted_.size(), 2U);
  EXPECT_EQ(formatted_[0].path, "/c");
  EXPECT_FALSE(formatted_[0].options.size_bytes.has_value());
  EXPECT_EQ(formatted_[0].options.label, "");
  EXPECT_EQ(formatted_[0].options.segment_size_bytes, 0U);
  EXPECT_FALSE(formatted_[0].options.force);
  EXPECT_FALSE(formatted_[0].options.discard_dirty);
  EXPECT_EQ(formatted_[1].path, "/d");
  EXPECT_EQ(formatted_[1].options.size_bytes, 3ULL << 29);
  EXPECT_EQ(formatted_[1].options.label, "fast");
  EXPECT_EQ(formatted_[1].options.segment_size_bytes, 256ULL << 10);
  EXPECT_TRUE(formatted_[1].options.force);
  EXPECT_TRUE(formatted_[1].options.discard_dirty);
}

TEST_F(CliTest, MountHandsEverythingOn) {
  ASSERT_EQ(run({"mount", "/m", "--cache", "/c", "--cache", "/d/../e", "-o", "ack=durable,allow_other", "-f"}), 0)
      << printed();
  ASSERT_EQ(run({"mount", "/m"}), 0) << printed();
  ASSERT_EQ(mounted_.size(), 2U);
  EXPECT_EQ(mounted_[0].mount_point, "/m");
  EXPECT_EQ(mounted_[0].caches, (std::vector<std::string>{"/c", "/d/../e"}));
  EXPECT_EQ(mounted_[0].options.ack, Ack::durable);
  EXPECT_TRUE(mounted_[0].allow_other);
  EXPECT_TRUE(mounted_[0].foreground);
  EXPECT_TRUE(mounted_[1].caches.empty());
  EXPECT_FALSE(mounted_[1].foreground);
  EXPECT_FALSE(mounted_[1].allow_other);
}

// The daemon's working directory is another than the caller's.
TEST_F(CliTest, RelativePathsAreMadeAbsoluteForTheDaemon) {
  const std::string here = std::filesystem::current_path().string();
  ASSERT_EQ(run({"mount", "/m", "--cache", "some/cache"}), 0) << printed();
  ASSERT_EQ(mounted_.size(), 1U);
  EXPECT_EQ(mounted_[0].caches, (std::vector<std::string>{here + "/some/cache"}));
  const auto server = serve("/mnt/x", manager_);
  ASSERT_EQ(run({"add", "d", "some/backing"}), 0) << printed();
  ASSERT_EQ(manager_.added().size(), 1U);
  EXPECT_EQ(manager_.added()[0].backing, here + "/some/backing");
}

TEST_F(CliTest, EveryKindOfFailureHasItsCode) {
  const std::pair<Errc, int> codes[] = {
      {Errc::failed, 1}, {Errc::no_space, 1},  {Errc::invalid, 2},   {Errc::not_found, 3}, {Errc::busy, 4},
      {Errc::dirty, 5},  {Errc::integrity, 6}, {Errc::timed_out, 7}, {Errc::no_daemon, 8}, {Errc::permission, 9}};
  const auto server = serve("/mnt/x", manager_);
  for (const auto& [errc, code] : codes) {
    outcome_ = Status(errc, "in two\nlines");
    manager_.outcome(Status(errc, "it is so"));
    for (const auto& words : {std::vector<std::string>{"format", "/c"}, {"mount", "/m"}}) {
      EXPECT_EQ(run(words), code) << to_string(errc);
      EXPECT_TRUE(is_one_line_of_error()) << printed();
      EXPECT_EQ(err_, "pcachefs: in two lines\n");
    }
    for (const auto& words : {std::vector<std::string>{"add", "d", "/b"},
                              {"remove", "d"},
                              {"flush", "d"},
                              {"resize", "d"},
                              {"attach", "d"}}) {
      EXPECT_EQ(run(words), code) << words[0] << " " << to_string(errc);
      EXPECT_TRUE(is_one_line_of_error()) << printed();
      EXPECT_NE(err_.find("it is so"), std::string::npos) << err_;
    }
  }
}

TEST_F(CliTest, CommandsReachTheDaemonWithTheirArguments) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"add", "d", "/b", "--cache", "fast", "--size", "64K"}), 0) << printed();
  EXPECT_EQ(run({"add", "e", "/f"}), 0) << printed();
  EXPECT_EQ(run({"flush", "d"}), 0) << printed();
  EXPECT_EQ(run({"remove", "d"}), 0) << printed();
  const auto added = manager_.added();
  ASSERT_EQ(added.size(), 2U);
  EXPECT_EQ(added[0].name, "d");
  EXPECT_EQ(added[0].backing, "/b");
  EXPECT_EQ(added[0].options.cache_label, "fast");
  EXPECT_EQ(added[0].options.size_bytes, 65'536U);
  EXPECT_EQ(added[1].options.cache_label, "");
  EXPECT_FALSE(added[1].options.size_bytes.has_value());
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"drain d", "await 7 d", "await 7 d", "drain d", "await 7 d",
                                                        "await 7 d", "remove d"}));
}

TEST_F(CliTest, DrainDetachAttachAndModesWaitUntilTheDaemonIsDone) {
  const auto server = serve("/mnt/a", manager_);
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(run({"drain", "d"}), 0) << printed();
  EXPECT_EQ(run({"detach", "d"}), 0) << printed();
  EXPECT_EQ(run({"attach", "d"}), 0) << printed();
  EXPECT_EQ(run({"set", "d", "mode=writearound"}), 0) << printed();
  EXPECT_EQ(out_ + err_, "");
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"drain d", "await 7 d", "await 7 d", "detach d", "switch d",
                                                        "switch d", "attach d", "switch d", "switch d",
                                                        "set d mode=writearound", "switch d", "switch d"}));
  manager_.outcome(Status(Errc::integrity, "something is lost"));
  for (const char* command : {"drain", "detach", "attach"}) {
    EXPECT_EQ(run({command, "d"}), 6) << command;
    EXPECT_TRUE(is_one_line_of_error()) << printed();
  }
}

TEST_F(CliTest, RemoveKeepsOrDiscardsDirtyDataWhenTold) {
  const auto server = serve("/mnt/a", manager_);
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(run({"remove", "d", "--no-flush"}), 0) << printed();
  EXPECT_NE(out_.find("stays"), std::string::npos) << printed();
  EXPECT_EQ(run({"remove", "d", "--discard-dirty"}), 0) << printed();
  EXPECT_EQ(run({"remove", "d", "--discard-dirty", "--no-flush"}), 2) << printed();
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"keep d", "discard d"}));
}

TEST_F(CliTest, TheMountMayBeNamedBeforeAndAfterTheCommand) {
  FakeManager other;
  const auto one = serve("/mnt/one", manager_);
  const auto two = serve("/mnt/two", other);
  EXPECT_EQ(run({"--mount", "/mnt/one", "resize", "a"}), 0) << printed();
  EXPECT_EQ(run({"resize", "b", "--mount", "/mnt/one"}), 0) << printed();
  EXPECT_EQ(run({"resize", "--mount=/mnt/one", "c"}), 0) << printed();
  EXPECT_EQ(run({"resize", "--mount", "/mnt/two", "d"}), 0) << printed();
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"resize a", "resize b", "resize c"}));
  EXPECT_EQ(other.calls(), (std::vector<std::string>{"resize d"}));
  // Where several are running, one has to be named.
  EXPECT_EQ(run({"resize", "e"}), 2);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
  EXPECT_EQ(run({"resize", "e", "--mount", "/mnt/three"}), 8);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
  EXPECT_EQ(manager_.calls().size() + other.calls().size(), 4U);
}

TEST_F(CliTest, WithoutADaemonTheCodeSaysSo) {
  for (const auto& words : {std::vector<std::string>{"status"}, {"add", "d", "/b"}, {"remove", "d"}, {"flush", "d"}}) {
    EXPECT_EQ(run(words), 8) << words[0];
    EXPECT_TRUE(is_one_line_of_error()) << printed();
  }
  EXPECT_EQ(run({"status", "--json"}), 8);
  EXPECT_TRUE(is_json_error("no_daemon")) << printed();
}

TEST_F(CliTest, UmountOfWhatIsNotMountedIsNotFound) {
  for (const std::string& path : {run_dir_.path(), run_dir_.path() + "/missing", std::string("/")}) {
    EXPECT_EQ(run({"umount", path}), 3) << path;
    EXPECT_TRUE(is_one_line_of_error()) << printed();
  }
}

TEST_F(CliTest, StatusIsForPeopleOrForPrograms) {
  StatusReport report;
  report.cache_devs.emplace_back().label = "fast";
  for (const char* name : {"db", "home"}) report.logic_devs.emplace_back().name = name;
  manager_.report(report);
  const auto server = serve("/mnt/x", manager_);
  ASSERT_EQ(run({"status"}), 0) << printed();
  EXPECT_NE(out_.find("cache device fast"), std::string::npos) << out_;
  EXPECT_NE(out_.find("logical device db"), std::string::npos) << out_;
  EXPECT_NE(out_.find("logical device home"), std::string::npos) << out_;
  EXPECT_EQ(err_, "");
  ASSERT_EQ(run({"status", "db", "--json"}), 0) << printed();
  const json parsed = json::parse(out_, nullptr, false);
  ASSERT_TRUE(parsed.is_object()) << out_;
  ASSERT_EQ(parsed["logic_devs"].size(), 1U);
  EXPECT_EQ(parsed["logic_devs"][0]["name"], "db");
  EXPECT_EQ(run({"status", "nothing"}), 3);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
}

TEST_F(CliTest, ArgumentsThatAreNotUtf8AreInvalid) {
  const auto server = serve("/mnt/x", manager_);
  EXPECT_EQ(run({"flush", "\xff\xfe"}), 2);
  EXPECT_TRUE(is_one_line_of_error()) << printed();
  EXPECT_TRUE(manager_.calls().empty());
}

TEST_F(CliTest, HelpAndVersionGoToStandardOutput) {
  ASSERT_EQ(run({"version"}), 0);
  EXPECT_EQ(out_, std::string("pcachefs ") + kVersion + "\n");
  EXPECT_EQ(err_, "");
  ASSERT_EQ(run({"--help"}), 0);
  for (const char* command :
       {"format", "mount", "umount", "add", "remove", "status", "flush", "drain", "detach", "attach", "version"}) {
    EXPECT_NE(out_.find(command), std::string::npos) << command;
    ASSERT_EQ(run({command, "--help"}), 0) << command;
    EXPECT_NE(out_.find("Example: pcachefs " + std::string(command)), std::string::npos) << out_;
    ASSERT_EQ(run({"--help"}), 0);
  }
  EXPECT_EQ(err_, "");
  EXPECT_TRUE(formatted_.empty() && mounted_.empty());
}

TEST_F(CliTest, EveryCommandHasAnExampleAndIsInTheManualAndCompleted) {
  ASSERT_EQ(run({"manual"}), 0) << printed();
  const std::string manual = out_;
  ASSERT_EQ(run({"completion"}), 0) << printed();
  const std::string script = out_;
  std::vector<std::string> names{"format", "mount", "check", "dump", "salvage", "completion"};
  for (const Command& command : all_commands()) {
    const std::string name = command.name;
    if (name != "ping" && name != "describe" && name != "stats-reset") names.push_back(name);
  }
  for (const std::string& name : names) {
    ASSERT_EQ(run({name, "--help"}), 0) << name;
    EXPECT_NE(out_.find("\nExample: pcachefs " + name), std::string::npos) << out_;
    EXPECT_NE(manual.find("\n## pcachefs " + name), std::string::npos) << name << " is not in\n" << manual;
    EXPECT_NE(script.find("options[\"pcachefs " + name + "\"]"), std::string::npos) << name << " is not in\n" << script;
  }
  // Words, options with and without a value, and what would be markup.
  for (const char* text :
       {"_BACKING_\n\t", "*--size* _S_\n\t", "*--no-flush*\n\t", "epoch\\_max\\_ms", "Example: *pcachefs flush db*"}) {
    EXPECT_NE(manual.find(text), std::string::npos) << text << " is not in\n" << manual;
  }
}

TEST_F(CliTest, EveryCommandOfTheDriversToolHasAnExample) {
  for (const char* name :
       {"cache-start", "cache-stop", "cache-list", "backing-start", "backing-stop", "backing-list"}) {
    ASSERT_EQ(run({name, "--help"}), 0) << name;
    EXPECT_NE(out_.find("\nExample: pcachefs " + std::string(name)), std::string::npos) << out_;
  }
}

TEST_F(CliTest, CompletionAsksWhatThereIs) {
  EXPECT_EQ(run({"completion", "--of", "NAME"}), 8);  // nobody answers
  StatusReport report;
  report.logic_devs.resize(2);
  report.logic_devs[0].name = "db";
  report.logic_devs[1].name = "vm1";
  report.cache_devs.resize(1);
  report.cache_devs[0].label = "fast";
  manager_.report(report);
  const auto server = serve("/mnt/x", manager_);
  ASSERT_EQ(run({"completion", "--of", "NAME"}), 0) << printed();
  EXPECT_EQ(out_, "db\nvm1\n");
  ASSERT_EQ(run({"completion", "--of", "LABEL"}), 0) << printed();
  EXPECT_EQ(out_, "fast\n");
  ASSERT_EQ(run({"completion", "--of", "KEY"}), 0) << printed();
  EXPECT_NE(("\n" + out_).find("\ndirty_high\n"), std::string::npos) << out_;
  ASSERT_EQ(run({"completion", "--of", "KEY=VALUE"}), 0) << printed();
  EXPECT_NE(("\n" + out_).find("\ndirty_high=\n"), std::string::npos) << out_;
  EXPECT_NE(("\n" + out_).find("\nmode=writearound\n"), std::string::npos) << out_;
  ASSERT_EQ(run({"completion", "--of", "OPTIONS"}), 0) << printed();
  EXPECT_NE(("\n" + out_).find("\nlog_level=warning\n"), std::string::npos) << out_;
  EXPECT_EQ(("\n" + out_).find("\nmode="), std::string::npos) << out_;
  ASSERT_EQ(run({"completion", "--of", "MODE"}), 0) << printed();
  EXPECT_NE(("\n" + out_).find("\nwriteback\n"), std::string::npos) << out_;
  ASSERT_EQ(run({"completion", "--of", "NAME", "--json"}), 0) << printed();
  EXPECT_EQ(json::parse(out_)["words"], json({"db", "vm1"}));
  ASSERT_EQ(run({"completion", "--json"}), 0) << printed();
  EXPECT_NE(json::parse(out_)["script"].get<std::string>().find("complete -F"), std::string::npos);
}

TEST_F(CliTest, CompletionRefusesKindsOfWordsThatItDoesNotKnow) {
  for (const char* kind : {"FOO", "TEXT", ""}) {
    EXPECT_EQ(run({"completion", "--of", kind}), 2) << kind;
    EXPECT_TRUE(is_one_line_of_error()) << printed();
  }
}

TEST_F(CliTest, AsAMountHelperItMounts) {
  std::vector<std::string> words{"/sbin/mount.pcachefs", "/dev/dax0.0", "/m", "-o",
                                 "rw,nofail,ack=durable,log_level=error"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  ASSERT_EQ(run_cli(static_cast<int>(argv.size()), argv.data(), actions_), 0);
  ASSERT_EQ(mounted_.size(), 1U);
  EXPECT_EQ(mounted_[0].mount_point, "/m");
  EXPECT_EQ(mounted_[0].caches, std::vector<std::string>{"/dev/dax0.0"});
  EXPECT_EQ(mounted_[0].source, "/dev/dax0.0");
  EXPECT_EQ(mounted_[0].options.ack, Ack::durable);
  EXPECT_EQ(mounted_[0].log_level, "error");
  EXPECT_FALSE(mounted_[0].foreground);
}

}  // namespace
}  // namespace pcache
