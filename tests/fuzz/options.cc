// What people type: whole command lines, the text after `-o`, configurations, sizes, and names of logical devices.

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <vector>

#include "base/check.h"
#include "base/size_text.h"
#include "cli/cli.h"
#include "cli/mount_options.h"
#include "pcache/config.h"
#include "pcache/device_manager.h"
#include "segment/cache_dev.h"
#include "tests/fuzz/fuzz_target.h"

namespace pcache {
namespace {

void check_size(const std::string& text) {
  const auto size = parse_size(text);
  if (!size) {
    PCACHE_CHECK(size.status().code() == Errc::invalid, "a bad size is the user's error");
    return;
  }
  PCACHE_CHECK(*size >= 1 && *size < std::uint64_t{1} << 63, "a size is in its range");
  PCACHE_CHECK(parse_size(std::to_string(*size)).value() == *size, "a number of bytes is that number");
  if (text.find_first_not_of("0123456789") == std::string::npos) {
    PCACHE_CHECK(std::strtoull(text.c_str(), nullptr, 10) == *size, "digits are a number of bytes");
  }
  PCACHE_CHECK(format_size(*size).size() <= 12, "a size is short for people");
}

void check_geometry(std::uint64_t size_bytes, std::uint64_t segment_size) {
  const auto planned = CacheDev::plan("cache", size_bytes, segment_size);
  if (!planned) return;
  const Geometry& g = *planned;
  PCACHE_CHECK(g.segment_count >= kMinSegments && g.slots_per_segment > 0, "there is room for a log");
  PCACHE_CHECK(g.segment_count <= size_bytes / g.segment_size, "the segments are inside");
  PCACHE_CHECK(g.first_segment + g.segment_count * g.segment_size <= size_bytes, "the last segment is inside");
  PCACHE_CHECK(g.segment_table_copy + g.segment_count * kRecordSize <= g.first_segment, "tables end before segments");
  PCACHE_CHECK(g.cell_offset(0, g.slots_per_segment - 1) + kCellSize == g.segment_offset(1), "cells fill a segment");
  PCACHE_CHECK(g.record_offset(0, g.slots_per_segment) <= g.cell_offset(0, 0), "records end before cells");
  PCACHE_CHECK(g.slot_count() < 0xffffffff, "slots have numbers");
}

void check_options(const CacheOptions& options) {
  PCACHE_CHECK(check_cache_options(options).ok(), "what was taken is in its range");
}

void check_mount_options(const std::string& text) {
  MountArgs args;
  if (const Status status = parse_mount_options(text, args); !status.ok()) {
    PCACHE_CHECK(status.code() == Errc::invalid && !status.message().empty(), "a bad option is the user's error");
    return;
  }
  check_options(args.options);
  std::string same = "epoch_max_ms=" + std::to_string(args.options.epoch_max_ms.value_or(kEpochMaxMs));
  for (const SettingInfo& info : all_settings()) {
    if (!args.options.settings.has(info.setting)) continue;
    same += std::string(",") + info.name + "=" + format_setting(info.setting, args.options.settings.get(info.setting));
  }
  if (args.options.ack) same += std::string(",ack=") + to_string(*args.options.ack);
  if (args.allow_other) same += ",allow_other";
  MountArgs again;
  PCACHE_CHECK(parse_mount_options(same, again).ok(), "options can be written down");
  PCACHE_CHECK(again.options.ack == args.options.ack && again.allow_other == args.allow_other &&
                   again.options.settings == args.options.settings &&
                   again.options.epoch_max_ms == args.options.epoch_max_ms.value_or(kEpochMaxMs),
               "and mean the same then");
}

void check_config(const std::string& text) {
  const ConfigReading reading = parse_config(text, "file");
  for (const ConfigFinding& finding : reading.findings) {
    PCACHE_CHECK(finding.place.line > 0 && finding.place.column > 0, "an error has its place");
    PCACHE_CHECK(!finding.message.empty(), "and says what it is");
    for (const char c : finding.message) {
      const auto byte = static_cast<unsigned char>(c);
      PCACHE_CHECK(byte >= 0x20 && byte != 0x7f, "in one line, with nothing that a terminal obeys");
    }
  }
  if (!reading.status().ok()) return;
  for (const ConfiguredCacheDev& cache_dev : reading.config.cache_devs) {
    check_options(options_of(reading.config, cache_dev, CacheOptions{}));
  }
  const std::string same = format_config(reading.config);
  const ConfigReading again = parse_config(same, "file");
  PCACHE_CHECK(again.status().ok(), "a configuration can be written down");
  PCACHE_CHECK(format_config(again.config) == same, "and is the same then");
}

void check_name(const std::string& name) {
  bool allowed = !name.empty() && name.size() <= 255 && name != "." && name != ".." && name != ".pcache";
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    allowed = allowed && byte >= 0x20 && byte != 0x7f && c != '/';
  }
  PCACHE_CHECK(check_logic_dev_name(name).ok() == allowed, "a name is a file's name");
}

// Takes the place of a standard stream while it lives.
class Captured {
 public:
  explicit Captured(FILE*& stream) : stream_(stream), before_(stream), memory_(open_memstream(&text_, &size_)) {
    PCACHE_CHECK(memory_ != nullptr, "there is memory for what is printed");
    stream_ = memory_;
  }
  ~Captured() {
    finish();
    std::free(text_);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  std::string finish() {
    if (memory_ != nullptr) std::fclose(memory_);
    memory_ = nullptr;
    stream_ = before_;
    return {text_, size_};
  }

 private:
  FILE*& stream_;
  FILE* const before_;
  char* text_ = nullptr;
  std::size_t size_ = 0;
  FILE* memory_;
};

// Words end with a zero byte, as the kernel hands them over.
void check_command_line(const std::string& text) {
  std::vector<std::string> words = {"pcachefs"};
  std::istringstream lines(text);
  for (std::string word; std::getline(lines, word, '\0');) words.push_back(word);
  // That one would look for a mount of this machine and take it down.
  if (std::find(words.begin(), words.end(), "umount") != words.end()) return;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  int formats = 0;
  int mounts = 0;
  int looks = 0;
  const CliActions actions{
      [&](const std::string& path, const FormatOptions& options) {
        ++formats;
        if (options.size_bytes) check_geometry(*options.size_bytes, options.segment_size_bytes);
        return Status(Errc::busy, path + options.label);
      },
      [&](const MountArgs& args, std::vector<std::string>&) {
        ++mounts;
        check_options(args.options);
        return Status(Errc::not_found, args.mount_point);
      },
      [&](const std::string& path, const std::function<void(const Damage&)>&) -> Result<CheckReport> {
        ++looks;
        return Status(Errc::integrity, path);
      },
      [&](const std::string& path, const DumpVisitor&) {
        ++looks;
        return Status(Errc::integrity, path);
      },
      [&](const std::string& path, const std::string& name, const SalvageOptions&,
          const std::function<void(const Damage&)>&) -> Result<SalvageReport> {
        ++looks;
        return Status(Errc::integrity, path + name);
      },
      [](const std::string& path) { return Status(Errc::busy, path); },
  };
  std::ostringstream help;
  std::streambuf* const before = std::cout.rdbuf(help.rdbuf());
  Captured output(stdout);
  Captured errors(stderr);
  const int code = run_cli(static_cast<int>(argv.size()) - 1, argv.data(), actions);
  std::string error = errors.finish();
  // A mount in the foreground warns of a directory that is not empty, as /mnt may be here, before it fails.
  while (error.starts_with("pcachefs: warning: ")) error.erase(0, error.find('\n') + 1);
  output.finish();
  std::cout.rdbuf(before);

  PCACHE_CHECK(formats + mounts + looks <= 1, "one command is run");
  PCACHE_CHECK(code >= 0 && code <= 9, "the exit code has a meaning");
  if (formats == 1) PCACHE_CHECK(code == exit_code(Errc::busy), "the exit code is that of what was done");
  if (mounts == 1) PCACHE_CHECK(code == exit_code(Errc::not_found), "the exit code is that of what was done");
  if (looks == 1) PCACHE_CHECK(code == exit_code(Errc::integrity), "the exit code is that of what was done");
  if (code == 0) return;
  PCACHE_CHECK((error.starts_with("pcachefs: ") || error.starts_with("{")) && error.back() == '\n',
               "an error says who has it, or is for programs");
  for (const char c : error.substr(0, error.size() - 1)) {
    const auto byte = static_cast<unsigned char>(c);
    PCACHE_CHECK(byte >= 0x20 && byte != 0x7f, "an error is one line, and nothing that a terminal obeys");
  }
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  // No daemon and no configuration is found, whatever is here.
  static const bool apart =
      setenv("PCACHEFS_RUN_DIR", "/nonexistent", 1) == 0 && setenv("PCACHEFS_CONFIG_DIR", "/nonexistent", 1) == 0;
  PCACHE_CHECK(apart, "the environment can be changed");
  FuzzInput input(data, size);
  switch (input.byte()) {
    case 's':
      check_size(input.rest());
      break;
    case 'n':
      check_name(input.rest());
      break;
    case 'c':
      check_config(input.rest());
      break;
    case 'o':
      check_mount_options(input.rest());
      break;
    case 'g': {
      const std::uint64_t size_bytes = input.number();
      check_geometry(size_bytes, input.number());
      break;
    }
    default:
      check_command_line(input.rest());
  }
  return 0;
}
