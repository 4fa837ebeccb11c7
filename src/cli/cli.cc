#include "cli/cli.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/size_text.h"
#include "cli/inspect_commands.h"
#include "cli/mount_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/settings_args.h"
#include "cli/stats_text.h"
#include "cli/status_text.h"
#include "cli/umount.h"
#include "control/version.h"
#include "pcache/control_client.h"
#include "pcache/settings.h"

namespace pcache {
namespace {

using nlohmann::json;

// The daemon has another working directory. The text itself is changed as little as can be: "/x/../y" may lead
// elsewhere than "/y" where x is a link.
std::string absolute(const std::string& path) {
  std::error_code error;
  const auto full = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : full.string();
}

// The size an option names, or an unset one for an empty text.
Result<std::optional<std::uint64_t>> optional_size(const std::string& text, bool given) {
  if (!given) return std::optional<std::uint64_t>();
  const auto size = parse_size(text);
  if (!size) return size.status();
  return std::optional<std::uint64_t>(*size);
}

Result<json> ask(const std::string& mount, const std::string& command, const json& args) {
  auto client = ControlClient::find(mount);
  if (!client) return client.status();
  std::string text;
  try {
    text = args.dump();
  } catch (const json::type_error&) {
    return Status(Errc::invalid, "the arguments of '" + command + "' are not UTF-8, which names and paths must be");
  }
  const auto reply = client->call(command, text);
  if (!reply) return reply.status();
  json result = json::parse(*reply, nullptr, false);
  if (!result.is_object()) return Status(Errc::failed, "the daemon's reply to '" + command + "' makes no sense");
  return result;
}

Status ask_to(const std::string& mount, const std::string& command, const json& args) {
  const auto reply = ask(mount, command, args);
  return reply ? Status() : reply.status();
}

// Asks until it is done, each time for as long as the daemon takes to answer, and says how far it is. Ending this ends
// nothing of what the daemon does.
int wait_for(const std::string& mount, const std::string& command, const json& args) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  Progress progress(std::cerr, isatty(STDERR_FILENO) != 0, printable(args.value("name", std::string())), now());
  for (;;) {
    const auto reply = ask(mount, command, args);
    if (!reply) {
      progress.end();
      return report(reply.status());
    }
    const auto done = reply->find("done");
    const auto left = reply->find("left_bytes");
    if (done == reply->end() || !done->is_boolean() || left == reply->end() || !left->is_number_unsigned()) {
      progress.end();
      return report(Status(Errc::failed, "the daemon's reply to '" + command + "' makes no sense"));
    }
    if (done->get<bool>()) break;
    progress.update(left->get<std::uint64_t>(), now());
  }
  progress.end();
  return 0;
}

// Begins what the daemon then does by itself, and waits for it.
int begin_and_wait(const std::string& mount, const std::string& command, const json& args) {
  const Status begun = ask_to(mount, command, args);
  return begun.ok() ? wait_for(mount, "await_switch", {{"name", args.at("name")}}) : report(begun);
}

int drain_and_wait(const std::string& mount, const std::string& name) {
  const auto begun = ask(mount, "drain", {{"name", name}});
  if (!begun) return report(begun.status());
  const auto number = begun->find("number");
  if (number == begun->end()) return report(Status(Errc::failed, "the daemon's reply to 'drain' makes no sense"));
  return wait_for(mount, "drain", {{"name", name}, {"number", *number}});
}

// The first word that should be a command, or an option before it, and is neither; null if there is none.
const char* unknown_word(const CLI::App& app, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.empty() || word[0] != '-') {
      const auto commands = app.get_subcommands([&](const CLI::App* command) { return command->get_name() == word; });
      return commands.empty() ? argv[i] : nullptr;
    }
    const std::string name = word.substr(0, word.find('='));
    const CLI::Option* option = app.get_option_no_throw(name);
    if (option == nullptr) return argv[i];
    if (name == word && option->get_items_expected_max() > 0) ++i;  // its value
  }
  return nullptr;
}

}  // namespace

int run_cli(int argc, char** argv, const CliActions& actions) {
  CLI::App app("pcachefs: persistent memory in front of slow block devices, as files");
  app.name("pcachefs");
  app.require_subcommand(1);
  app.fallthrough();  // --mount may follow the subcommand
  std::string mount;
  app.add_option("--mount", mount, "The mount to talk to, where several are running")->type_name("MNT");

  std::string cache_path;
  std::string size_text;
  std::string segment_size_text;
  FormatOptions format_options;
  CLI::App* format =
      app.add_subcommand("format", "Make a cache device\n\nExample: pcachefs format /dev/shm/cache --size 4G");
  format->add_option("CACHE", cache_path, "A device-DAX node or a file")->required();
  const CLI::Option* format_size_option =
      format->add_option("--size", size_text, "Size of the file to make")->type_name("S");
  format->add_option("--label", format_options.label, "Name of the cache device; default: the file's name")
      ->type_name("L");
  const CLI::Option* segment_size_option =
      format->add_option("--segment-size", segment_size_text, "256K to 64M; default: about 1/256 of the size")
          ->type_name("S");
  format->add_flag("--force", format_options.force, "Overwrite what is there");
  format->add_flag("--discard-dirty", format_options.discard_dirty,
                   "With --force: even data that is only in the cache");

  MountArgs mount_args;
  std::string mount_options;
  CLI::App* mount_command = app.add_subcommand("mount",
                                               "Serve cache devices as files; returns when the mount is ready\n\n"
                                               "Example: pcachefs mount /mnt/pcache --cache /dev/shm/cache");
  mount_command->add_option("MNT", mount_args.mount_point, "An empty directory")->required();
  mount_command->add_option("--cache", mount_args.caches, "A cache device; may be repeated")->type_name("CACHE");
  mount_command
      ->add_option("-o", mount_options,
                   "ack=durable|flush, epoch_max_ms=N, allow_other, and settings of logical devices for this mount")
      ->type_name("OPTIONS");
  mount_command->add_flag("-f", mount_args.foreground, "Stay in the foreground and log to standard error");

  std::string umount_point;
  CLI::App* umount = app.add_subcommand(
      "umount", "Take a mount down; returns when all is on media\n\nExample: pcachefs umount /mnt/pcache");
  umount->add_option("MNT", umount_point, "The mount point")->required();

  std::string name;
  std::string backing;
  std::string cache_label;
  CLI::App* add = app.add_subcommand("add",
                                     "Expose a backing device as a file in the mount\n\n"
                                     "Example: pcachefs add db /dev/disk/by-id/ata-disk-part1");
  add->add_option("NAME", name, "Name of the logical device and its file")->required();
  add->add_option("BACKING", backing, "A block device or file")->required();
  add->add_option("--cache", cache_label, "Label of the cache device, where there are several")->type_name("LABEL");
  const CLI::Option* add_size_option =
      add->add_option("--size", size_text, "Size that the backing device must have")->type_name("S");

  std::string mode;
  add->add_option("--mode", mode, "The same as -o mode=M")->type_name("M");
  std::string add_settings;
  add->add_option("-o", add_settings, "Settings as in pcachefs set, separated by commas")->type_name("KEY=VALUE,...");

  std::vector<std::string> assignments;
  CLI::App* set = app.add_subcommand(
      "set", "Change settings of a logical device, now and for good\n\nExample: pcachefs set db dirty_high=30%");
  set->add_option("NAME", name, "The logical device")->required();
  set->add_option("KEY=VALUE", assignments, "Settings: " + setting_names())->required();

  bool as_json = false;
  std::string key;
  CLI::App* get = app.add_subcommand(
      "get", "Show settings of a logical device, and where each comes from\n\nExample: pcachefs get db dirty_high");
  get->add_option("NAME", name, "The logical device")->required();
  get->add_option("KEY", key, "Only this setting");
  get->add_flag("--json", as_json, "As a JSON object");

  CLI::App* remove = app.add_subcommand(
      "remove", "Write everything back, then forget a logical device\n\nExample: pcachefs remove db");
  remove->add_option("NAME", name, "The logical device")->required();
  bool no_flush = false;
  bool discard_dirty = false;
  remove->add_flag(
      "--no-flush", no_flush,
      "Write nothing back: what is only in the cache stays there, and so does the logical device, until the "
      "same backing is added again under the same name");
  remove->add_flag("--discard-dirty", discard_dirty, "Write nothing back: what is only in the cache is lost");

  CLI::App* drain = app.add_subcommand(
      "drain",
      "Write back everything that was written before, and show how far it is; Ctrl-C ends the waiting and not the "
      "writing back\n\nExample: pcachefs drain db");
  drain->add_option("NAME", name, "The logical device")->required();

  CLI::App* detach = app.add_subcommand(
      "detach",
      "Write everything back and go on without the cache device, which gets its space back; see attach\n\n"
      "Example: pcachefs detach db");
  detach->add_option("NAME", name, "The logical device")->required();

  CLI::App* attach = app.add_subcommand(
      "attach", "Use the cache device again after detach, in the mode of before\n\nExample: pcachefs attach db");
  attach->add_option("NAME", name, "The logical device")->required();

  CLI::App* status =
      app.add_subcommand("status", "Show cache devices and logical devices\n\nExample: pcachefs status db --json");
  status->add_option("NAME", name, "Only this logical device");
  status->add_flag("--json", as_json, "As a JSON object");

  bool histograms = false;
  bool reset_stats = false;
  CLI::App* stats = app.add_subcommand("stats",
                                       "Show what a logical device did since it was brought up or the last reset, and "
                                       "how long that took\n\nExample: pcachefs stats db --hist");
  stats->add_option("NAME", name, "The logical device")->required();
  stats->add_flag("--hist", histograms, "Show how many operations took how long");
  stats->add_flag("--reset", reset_stats, "Begin anew, after printing");
  stats->add_flag("--json", as_json, "As a JSON object");

  CLI::App* flush = app.add_subcommand(
      "flush", "Write everything back; returns when the backing alone holds it\n\nExample: pcachefs flush db");
  flush->add_option("NAME", name, "The logical device")->required();

  CLI::App* resize = app.add_subcommand("resize",
                                        "Make a logical device as long as its backing device has become\n\n"
                                        "Example: pcachefs resize db && losetup --set-capacity /dev/loop0");
  resize->add_option("NAME", name, "The logical device")->required();

  CLI::App* check = app.add_subcommand("check",
                                       "Look for damage on a cache device that is not mounted; changes nothing\n\n"
                                       "Example: pcachefs check /dev/shm/cache");
  check->add_option("CACHE", cache_path, "The cache device")->required();
  check->add_flag("--json", as_json, "As a JSON object");

  CLI::App* dump = app.add_subcommand("dump",
                                      "Print what a cache device that is not mounted holds: superblock, logical "
                                      "devices, segments, records\n\nExample: pcachefs dump /dev/shm/cache --json");
  dump->add_option("CACHE", cache_path, "The cache device")->required();
  dump->add_flag("--json", as_json, "As a JSON object");

  SalvageOptions salvage_options;
  CLI::App* salvage =
      app.add_subcommand("salvage",
                         "Make a file of what a logical device holds, from a cache device that is not mounted, as far "
                         "as it can be read; changes neither cache nor backing\n\n"
                         "Example: pcachefs salvage /dev/shm/cache db -o /var/tmp/db.img");
  salvage->add_option("CACHE", cache_path, "The cache device")->required();
  salvage->add_option("NAME", name, "The logical device")->required();
  salvage->add_option("-o,--output", salvage_options.image, "The file to make")->type_name("IMAGE")->required();
  salvage->add_option("--backing", salvage_options.backing, "Where the backing device is; default: where it was")
      ->type_name("PATH");

  CLI::App* version = app.add_subcommand("version", "Print the version\n\nExample: pcachefs version");

  // Named before CLI11 sees it: without a subcommand it would only say that one is required.
  if (const char* unknown = unknown_word(app, argc, argv)) {
    return report(
        Status(Errc::invalid, std::string("there is no command or option '") + unknown + "'; see pcachefs --help"));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return report(Status(Errc::invalid, std::string(error.what()) + "; see pcachefs --help"));
  }

  if (format->parsed()) {
    const auto size = optional_size(size_text, format_size_option->count() != 0);
    if (!size) return report(size.status());
    const auto segment_size = optional_size(segment_size_text, segment_size_option->count() != 0);
    if (!segment_size) return report(segment_size.status());
    format_options.size_bytes = *size;
    format_options.segment_size_bytes = segment_size->value_or(0);
    return report(actions.format(cache_path, format_options));
  }
  if (mount_command->parsed()) {
    if (Status parsed = parse_mount_options(mount_options, mount_args); !parsed.ok()) return report(parsed);
    for (std::string& cache : mount_args.caches) cache = absolute(cache);
    return report(actions.mount(mount_args));
  }
  if (umount->parsed()) return report(umount_and_wait(umount_point));
  if (add->parsed()) {
    const auto size = optional_size(size_text, add_size_option->count() != 0);
    if (!size) return report(size.status());
    json args = {{"name", name}, {"backing", absolute(backing)}};
    if (!cache_label.empty()) args["cache"] = cache_label;
    if (*size) args["size"] = **size;
    std::vector<std::string> given = split(add_settings, ',');
    if (!mode.empty()) given.push_back("mode=" + mode);
    const auto settings = settings_json(given);
    if (!settings) return report(settings.status());
    if (!settings->empty()) args["settings"] = *settings;
    return report(ask_to(mount, "add", args));
  }
  if (set->parsed()) {
    const auto settings = settings_json(assignments);
    if (!settings) return report(settings.status());
    const json args = {{"name", name}, {"settings", *settings}};
    if (settings->contains("mode")) return begin_and_wait(mount, "set", args);
    return report(ask_to(mount, "set", args));
  }
  if (get->parsed()) {
    if (!key.empty() && !find_setting(key)) return report(unknown_setting(key));
    auto reply = ask(mount, "get", {{"name", name}});
    if (!reply) return report(reply.status());
    if (!key.empty()) keep_setting(*reply, key);
    return print(as_json ? reply->dump(2) + "\n" : settings_text(*reply));
  }
  if (stats->parsed()) {
    const auto reply = ask(mount, reset_stats ? "stats-reset" : "stats", {{"name", name}});
    if (!reply) return report(reply.status());
    return print(as_json ? reply->dump(2) + "\n" : stats_text(*reply, histograms));
  }
  if (remove->parsed()) {
    json args = {{"name", name}};
    if (no_flush) args["no_flush"] = true;
    if (discard_dirty) args["discard_dirty"] = true;
    const Status removed = ask_to(mount, "remove", args);
    if (!removed.ok() || !no_flush) return report(removed);
    return print("logical device " + printable(name) +
                 " is not exposed any more; what only the cache has of it stays there (see status)\n");
  }
  if (drain->parsed()) return drain_and_wait(mount, name);
  if (detach->parsed()) return begin_and_wait(mount, "detach", {{"name", name}});
  if (attach->parsed()) return begin_and_wait(mount, "attach", {{"name", name}});
  if (flush->parsed()) return report(ask_to(mount, "flush", {{"name", name}}));
  if (resize->parsed()) {
    const auto reply = ask(mount, "resize", {{"name", name}});
    if (!reply) return report(reply.status());
    // The kernel learns the size when somebody looks at the file; a loop device on it goes by what the kernel knows.
    if (struct stat st{}; reply->value("file", json()).is_string())
      stat((*reply)["file"].get<std::string>().c_str(), &st);
    return 0;
  }
  if (status->parsed()) {
    const auto reply = ask(mount, "status", status->count("NAME") != 0 ? json{{"name", name}} : json::object());
    if (!reply) return report(reply.status());
    return print(as_json ? reply->dump(2) + "\n" : status_text(*reply));
  }
  if (check->parsed()) return run_check(actions, cache_path, as_json);
  if (dump->parsed()) return run_dump(actions, cache_path, as_json);
  if (salvage->parsed()) return run_salvage(actions, cache_path, name, salvage_options);
  return version->parsed() ? print(std::string("pcachefs ") + kVersion + "\n") : 0;
}

}  // namespace pcache
