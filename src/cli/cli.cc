#include "cli/cli.h"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/size_text.h"
#include "cli/absolute.h"
#include "cli/ask.h"
#include "cli/completion.h"
#include "cli/completion_words.h"
#include "cli/config_commands.h"
#include "cli/daemon_commands.h"
#include "cli/driver_commands.h"
#include "cli/inspect_commands.h"
#include "cli/list_text.h"
#include "cli/manual.h"
#include "cli/map_commands.h"
#include "cli/mount_helper.h"
#include "cli/mount_options.h"
#include "cli/mount_table.h"
#include "cli/output.h"
#include "cli/top.h"
#include "cli/umount.h"
#include "control/version.h"

namespace pcache {
namespace {

// The size an option names, or an unset one for an empty text.
Result<std::optional<std::uint64_t>> optional_size(const std::string& text, bool given) {
  if (!given) return std::optional<std::uint64_t>();
  const auto size = parse_size(text);
  if (!size) return size.status();
  return std::optional<std::uint64_t>(*size);
}

// Says how it went; of what went well, people are told nothing.
int done(const Status& status, bool as_json) {
  if (!status.ok() || !as_json) return report(status);
  return print_json({{"schema", schema_json()}});
}

int run_ls(const std::string& mount, const OutputStyle& style, bool as_json) {
  const auto status = ask(mount, "status", nlohmann::json::object());
  if (!status) return report(status.status());
  return as_json ? print_json(list_json(*status)) : print(list_text(*status, style));
}

int run_completed_words(const std::string& kind, const std::string& mount, bool as_json) {
  const auto words = completion_words(kind, mount);
  if (!words) return report(words.status());
  if (as_json) return print_json({{"schema", schema_json()}, {"words", *words}});
  std::string lines;
  for (const std::string& word : *words) lines += word + "\n";
  return print(lines);
}

// As if they had been typed after `pcachefs`.
int run_words(std::vector<std::string> words, const CliActions& actions) {
  words.insert(words.begin(), "pcachefs");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return run_cli(static_cast<int>(pointers.size()), pointers.data(), actions);
}

// Whether a filesystem is mounted there, so that no other can be. A pcachefs, whose daemon may hang, is not asked.
bool is_mount_point(const std::string& path) {
  std::error_code error;
  const auto parent = std::filesystem::canonical(std::filesystem::path(absolute(path)).parent_path(), error);
  if (!error && mount_options((parent / std::filesystem::path(path).filename()).string())) return true;
  struct stat here {};
  struct stat above {};
  return stat(path.c_str(), &here) != 0 || stat((path + "/..").c_str(), &above) != 0 || here.st_dev != above.st_dev;
}

// What would be in the way of those who look for it in the directory: what is there already.
std::string hidden_by_mount(const std::string& mount_point) {
  constexpr std::size_t kNamed = 3;
  if (is_mount_point(mount_point)) return "";
  std::string names;
  std::size_t count = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(mount_point, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (++count <= kNamed) names += (names.empty() ? "" : ", ") + entry->path().filename().string();
  }
  if (count == 0) return "";
  if (count > kNamed) names += " and " + std::to_string(count - kNamed) + " more";
  return mount_point + " is not empty: as long as it is mounted, " + names + " cannot be seen there";
}

// What could not be brought up is said, and where there is nothing, what to do next.
int run_mount_command(const CliActions& actions, const MountArgs& args, bool as_json) {
  std::vector<std::string> problems;
  const std::string hidden = hidden_by_mount(args.mount_point);
  if (args.foreground && !hidden.empty()) warn(hidden);  // what follows returns at its end
  if (Status status = actions.mount(args, problems); !status.ok()) return report(status);
  if (args.foreground) return 0;
  std::string next;
  if (args.caches.empty() && args.config.empty()) {
    next = "nothing is configured in " + config_dir() +
           "; next: pcachefs register CACHE (pcachefs format CACHE makes one)";
  }
  if (as_json) {
    nlohmann::json reply = {{"schema", schema_json()}, {"problems", problems}};
    reply["warnings"] = hidden.empty() ? nlohmann::json::array() : nlohmann::json::array({hidden});
    if (!next.empty()) reply["next"] = next;
    return print_json(reply);
  }
  if (!hidden.empty()) warn(hidden);
  for (const std::string& problem : problems) warn(problem);
  return next.empty() ? 0 : print(next + "\n");
}

std::vector<const CLI::App*> below(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// "pcachefs config": as one types it.
std::string words_for(const CLI::App& app) {
  return (app.get_parent() == nullptr ? "" : words_for(*app.get_parent()) + " ") + app.get_name();
}

// The command that the words begin with, or the one that they are below. Errors: invalid, naming the first word that
// should be a command, or an option before it, and is neither.
Result<const CLI::App*> command_of(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  for (std::size_t i = 0; i < words.size() && !below(*at).empty(); ++i) {
    const std::string& word = words[i];
    const Status unknown(Errc::invalid,
                         "there is no command or option '" +
                             (at == &app ? word : words_for(*at).substr(app.get_name().size() + 1) + " " + word) +
                             "'; see " + words_for(*at) + " --help");
    if (word.empty() || word[0] != '-') {
      const auto commands = below(*at);
      const auto named = std::find_if(commands.begin(), commands.end(),
                                      [&](const CLI::App* command) { return command->get_name() == word; });
      if (named == commands.end()) return unknown;
      at = *named;
      continue;
    }
    const std::string name = word.substr(0, word.find('='));
    const CLI::Option* option = at->get_option_no_throw(name);
    if (option == nullptr) option = app.get_option_no_throw(name);
    if (option == nullptr) return unknown;
    if (name == word && option->get_items_expected_max() > 0) ++i;  // its value
  }
  return at;
}

}  // namespace

int run_cli(int argc, char** argv, const CliActions& actions) {
  if (auto words = words_of_mount_helper(argc, argv)) {
    if (!*words) return report(words->status());
    if ((*words)->empty()) return 0;
    return run_words(std::move(**words), actions);
  }

  CLI::App app("pcachefs: persistent memory in front of slow block devices, as files");
  app.name("pcachefs");
  app.require_subcommand(1);
  app.fallthrough();  // --mount may follow the subcommand
  std::string mount;
  app.add_option("--mount", mount, "The mount to talk to, where several are running")->type_name("MNT");
  bool as_json = false;
  app.add_flag("--json", as_json, "Print results, and errors, as one JSON object");
  OutputStyle style;
  app.add_flag("-H", style.bare, "Listings without headings, a tab between columns");
  app.add_flag("-p", style.exact, "Numbers as they are, in bytes and nanoseconds, not in units for people");
  bool quiet = false;
  app.add_flag("-q,--quiet", quiet, "Print nothing but errors");
  bool yes = false;
  app.add_flag("--yes", yes, "Ask nothing before data is thrown away; where there is no terminal, nothing is asked");

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
  CLI::App* mount_command =
      app.add_subcommand("mount",
                         "Serve cache devices as files, those that are configured or those that are "
                         "named; returns when the mount is ready\n\n"
                         "Example: pcachefs mount /mnt/pcache");
  mount_command->add_option("MNT", mount_args.mount_point, "A directory, commonly an empty one")->required();
  mount_command->add_option("--cache", mount_args.caches, "A cache device; may be repeated")->type_name("CACHE");
  mount_command
      ->add_option("-o", mount_options,
                   "ack=durable|flush, epoch_max_ms=N, allow_other, http=ADDR:PORT, log_level=LEVEL, and settings of "
                   "logical devices for this mount")
      ->type_name("OPTIONS");
  std::string http;
  mount_command
      ->add_option(
          "--http", http,
          "Serve status, metrics and a live page over HTTP too, for looking only; PORT is on this machine alone")
      ->type_name("ADDR:PORT");
  std::string config_path;
  mount_command
      ->add_option(
          "--config", config_path,
          "A configuration file, or a directory with pcachefs.toml and conf.d/*.toml; default, where no --cache "
          "is given: /etc/pcachefs")
      ->type_name("PATH");
  mount_command->add_flag("-f", mount_args.foreground,
                          "Stay in the foreground, as a service does, and log to standard error or to the journal");
  std::string log_level;
  mount_command->add_option("--log-level", log_level, "The least to log: debug, info, warning or error; default: info")
      ->type_name("LEVEL");
  mount_command
      ->add_option("--source", mount_args.source, "What the mount table calls what is mounted; default: pcachefs")
      ->type_name("TEXT");

  std::string umount_point;
  CLI::App* umount = app.add_subcommand(
      "umount", "Take a mount down; returns when all is on media\n\nExample: pcachefs umount /mnt/pcache");
  umount->add_option("MNT", umount_point, "The mount point")->required();
  bool only_dead = false;
  umount->add_flag("--dead", only_dead, "Only where the daemon has died; otherwise nothing is taken down");

  CLI::App* ls =
      app.add_subcommand("ls", "List cache devices, each with its logical devices\n\nExample: pcachefs ls -H -p");

  DaemonCommands daemon_commands(app);
  DriverCommands driver_commands(app);
  std::string name;

  CLI::App* check = app.add_subcommand("check",
                                       "Look for damage on a cache device that is not mounted; changes nothing\n\n"
                                       "Example: pcachefs check /dev/shm/cache");
  check->add_option("CACHE", cache_path, "The cache device")->required();

  CLI::App* dump = app.add_subcommand("dump",
                                      "Print what a cache device that is not mounted holds: superblock, logical "
                                      "devices, segments, records\n\nExample: pcachefs dump /dev/shm/cache --json");
  dump->add_option("CACHE", cache_path, "The cache device")->required();

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

  MapArgs map_args;
  std::string sector_size_text;
  CLI::App* map = app.add_subcommand("map",
                                     "Make a block device of a logical device, a loop device, and print its path\n\n"
                                     "Example: pcachefs map db");
  map->add_option("NAME", map_args.name, "The logical device")->required();
  map->add_flag("--read-only", map_args.read_only, "It cannot be written to");
  map->add_flag("--partscan", map_args.scan_partitions, "Its partitions are block devices too");
  const CLI::Option* sector_size_option =
      map->add_option("--sector-size", sector_size_text,
                      "512 to 4096; default: what the backing device has, 512 for a file")
          ->type_name("S");
  CLI::App* unmap = app.add_subcommand("unmap", "Take that block device away\n\nExample: pcachefs unmap db");
  unmap->add_option("NAME", name, "The logical device, or its loop device")->required();

  CLI::App* config = app.add_subcommand("config", "Look at the configuration\n\nExample: pcachefs config check");
  config->require_subcommand(1);
  CLI::App* config_check = config->add_subcommand(
      "check", "Say what is wrong with it, with file, line and column\n\nExample: pcachefs config check");
  CLI::App* config_show =
      config->add_subcommand("show", "Print it as one file\n\nExample: pcachefs config show --json");
  for (CLI::App* command : {config_check, config_show}) {
    command->add_option("PATH", config_path, "A configuration file or directory; default: /etc/pcachefs");
  }

  std::string file;
  CLI::App* save = app.add_subcommand("save",
                                      "Write what a mount is made of as a configuration, which mount and restore read"
                                      "\n\nExample: pcachefs save /etc/pcachefs/pcachefs.toml");
  save->add_option("FILE", file, "Default, and what - is: standard output");
  CLI::App* restore =
      app.add_subcommand("restore",
                         "Make a mount what a configuration says: add what is missing, set what differs, "
                         "take back what was set besides\n\nExample: pcachefs restore saved.toml");
  restore->add_option("FILE", file, "A configuration file or directory")->required();
  double top_interval = 1;
  CLI::App* top = app.add_subcommand(
      "top", "Show what the logical devices do, live, until q is pressed\n\nExample: pcachefs top --interval 0.5");
  top->add_option("--interval", top_interval, "Seconds between two looks, 0.1 to 60; default: 1")->type_name("S");

  std::vector<std::string> helped;
  CLI::App* help =
      app.add_subcommand("help", "Print what a command does and takes, or all commands\n\nExample: pcachefs help add");
  help->add_option("COMMAND", helped, "The command");
  app.set_version_flag("-V,--version", std::string("pcachefs ") + kVersion, "Print the version");
  CLI::App* version = app.add_subcommand("version", "Print the version\n\nExample: pcachefs version");

  std::string completed_kind;
  CLI::App* completion = app.add_subcommand("completion",
                                            "Print a script by which bash completes commands, options and names\n\n"
                                            "Example: pcachefs completion >/etc/bash_completion.d/pcachefs");
  const CLI::Option* completed_option =
      completion->add_option("--of", completed_kind, "Print only what a word of this kind (NAME, KEY, JOB) can be")
          ->type_name("KIND");
  std::string manual_part;
  CLI::App* manual = app.add_subcommand("manual", "Print the commands for the manual page")->group("");
  manual->add_option("PART", manual_part, "settings: the settings for theirs")->check(CLI::IsMember({"settings"}));

  report_as_json(std::find(argv, argv + argc, std::string_view("--json")) != argv + argc);
  // Named before CLI11 sees it: without a subcommand it would only say that one is required.
  if (const auto command = command_of(app, {argv + 1, argv + argc}); !command) return report(command.status());
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return report(Status(Errc::invalid, std::string(error.what()) + "; see pcachefs --help"));
  }

  report_as_json(as_json);
  be_quiet(quiet);
  style.color = !style.bare && may_use_color();
  if (ls->parsed()) return run_ls(mount, style, as_json);
  if (format->parsed()) {
    const auto size = optional_size(size_text, format_size_option->count() != 0);
    if (!size) return report(size.status());
    const auto segment_size = optional_size(segment_size_text, segment_size_option->count() != 0);
    if (!segment_size) return report(segment_size.status());
    format_options.size_bytes = *size;
    format_options.segment_size_bytes = segment_size->value_or(0);
    if (format_options.force) {
      const Status agreed = confirm(overwrites(cache_path), yes);
      if (!agreed.ok()) return report(agreed);
    }
    return done(actions.format(cache_path, format_options), as_json);
  }
  if (mount_command->parsed()) {
    if (Status parsed = parse_mount_options(mount_options, mount_args); !parsed.ok()) return report(parsed);
    if (!http.empty()) mount_args.http = http;
    if (!log_level.empty()) mount_args.log_level = log_level;
    for (std::string& cache : mount_args.caches) cache = absolute(cache);
    if (Status status = configure_mount(config_path, mount_args); !status.ok()) return report(status);
    return run_mount_command(actions, mount_args, as_json);
  }
  if (map->parsed()) {
    const auto sector_size = optional_size(sector_size_text, sector_size_option->count() != 0);
    if (!sector_size) return report(sector_size.status());
    map_args.sector_size = sector_size->value_or(0);
    return run_map(mount, map_args, as_json);
  }
  if (unmap->parsed()) return run_unmap(mount, name, as_json);
  if (config_check->parsed()) return run_config_check(actions, config_path, as_json);
  if (config_show->parsed()) return run_config_show(config_path, as_json);
  if (save->parsed()) return run_save(mount, file, as_json);
  if (restore->parsed()) return run_restore(mount, file, as_json);
  if (umount->parsed()) return done(umount_and_wait(umount_point, only_dead), as_json);
  if (daemon_commands.parsed()) return daemon_commands.run(mount, {as_json, style, yes});
  if (driver_commands.parsed()) return driver_commands.run(mount, as_json, yes);
  if (top->parsed() && as_json) {
    return report(Status(Errc::invalid, "top is for people; pcachefs stats NAME -i SEC --json prints what it shows"));
  }
  if (top->parsed()) return run_top(mount, top_interval);
  if (check->parsed()) return run_check(actions, cache_path, as_json);
  if (dump->parsed()) return run_dump(actions, cache_path, as_json);
  if (salvage->parsed()) return run_salvage(actions, cache_path, name, salvage_options, as_json);
  if (completion->parsed() && completed_option->count() == 0) {
    const std::string script = completion_script(app);
    return as_json ? print_json({{"schema", schema_json()}, {"script", script}}) : print(script);
  }
  if (completion->parsed()) return run_completed_words(completed_kind, mount, as_json);
  if (help->parsed()) {
    if (const auto command = command_of(app, helped); !command) return report(command.status());
    helped.emplace_back("--help");
    return run_words(std::move(helped), actions);
  }
  if (manual->parsed()) return print(manual_part.empty() ? manual_text(app) : settings_manual_text());
  if (!version->parsed()) return 0;
  if (as_json) return print_json({{"schema", schema_json()}, {"version", kVersion}});
  return print(std::string("pcachefs ") + kVersion + "\n");
}

}  // namespace pcache
