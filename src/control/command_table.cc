#include "control/command_table.h"

#include <algorithm>

#include "control/handlers.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

using enum ArgKind;
using enum Need;
using enum Caller;
using enum Pace;

constexpr Argument kName{"name", text, required, "The logical device"};

const std::vector<Command>& table() {
  static const std::vector<Command> commands = {
      {"register",
       owner,
       slow,
       "Open a cache device while the mount runs, with all logical devices that it holds",
       "register /dev/dax0.0",
       {{"path", path, required, "A cache device: a device-DAX node or a file"},
        {"format", flag, optional, "Make it a cache device first, as pcachefs format does"},
        {"size", size, optional, "With format: size of the file to make"},
        {"label", text, optional, "With format: name of the cache device", "the file's name"},
        {"force", flag, optional, "With format: overwrite what is there, unless that is dirty"}},
       register_cache_dev},
      {"unregister",
       owner,
       slow,
       "Close a cache device while the mount runs; no logical device on it may be in use, or dirty",
       "unregister fast",
       {{"cache", text, required, "The cache device's label or path"},
        {"no_flush", flag, optional, "Dirty data of logical devices that are not exposed stays there"}},
       unregister_cache_dev},
      {"add",
       owner,
       slow,
       "Expose a backing device as a file in the mount",
       "add db /dev/disk/by-id/ata-disk-part1",
       {{"name", text, required, "Name of the logical device and its file"},
        {"backing", path, required, "A block device or file"},
        {"cache", text, optional, "Label of the cache device, where there are several"},
        {"size", size, optional, "Size that the backing device must have", "whatever it has"},
        {"settings", settings, optional, "Settings as in pcachefs set"}},
       add},
      {"remove",
       owner,
       job,
       "Write everything back, then forget a logical device",
       "remove db",
       {kName,
        {"no_flush", flag, optional,
         "Write nothing back: what is only in the cache stays there, and so does the logical device, until the same "
         "backing is added again under the same name"},
        {"discard_dirty", flag, optional, "Write nothing back: what is only in the cache is lost"},
        {"force", flag, optional, "Also while its file is open: whoever uses it gets I/O errors from then on"}},
       remove},
      {"set",
       owner,
       job,
       "Change settings of a logical device, now and for good; a configuration file counts more at the next mount",
       "set db dirty_high=30%",
       {kName,
        {"settings", settings, required, "KEY=VALUE; pcachefs get lists the settings"},
        {"temporary", flag, optional, "Until the cache device is closed; nothing is stored"}},
       set},
      {"unset",
       owner,
       job,
       "Take back what was chosen for settings of a logical device: what is configured, or the default, is in force",
       "unset db dirty_high",
       {kName, {"keys", keys, required, "KEY; pcachefs get lists the settings"}},
       unset},
      {"get",
       anyone,
       at_once,
       "Show settings of a logical device, and where each comes from",
       "get db dirty_high",
       {kName, {"key", text, optional, "Only this setting", "all", true}},
       get},
      {"status",
       anyone,
       at_once,
       "Show cache devices and logical devices",
       "status db --json",
       {{"name", text, optional, "Only this logical device", "all", true}},
       status,
       true},
      {"stats",
       anyone,
       at_once,
       "Show what a logical device, or each of them, did since it was brought up or the last reset, and how long that "
       "took",
       "stats db --hist",
       {{"name", text, optional, "Only this logical device", "all", true}},
       stats},
      {"stats-reset", owner, at_once, "Show the same, and begin anew", "stats-reset db", {kName}, reset_stats},
      {"flush",
       owner,
       job,
       "Write everything back; returns when the backing alone holds it",
       "flush db",
       {kName},
       flush},
      {"drain",
       owner,
       job,
       "Write back everything that was written before, and show how far it is; Ctrl-C ends the waiting and not the "
       "writing back",
       "drain db",
       {kName},
       drain},
      {"detach",
       owner,
       job,
       "Write everything back and go on without the cache device, which gets its space back; see attach",
       "detach db",
       {kName},
       detach},
      {"attach",
       owner,
       job,
       "Use the cache device again after detach, in the mode of before; or a backing device that was missing and is "
       "back",
       "attach db",
       {kName},
       attach},
      {"resize",
       owner,
       slow,
       "Make a logical device, and the loop device on its file, as long as its backing device has become",
       "resize db",
       {kName},
       resize},
      {"grow",
       owner,
       slow,
       "Make a cache device larger, while it is in use: as large as its file or device has become, or a file of this "
       "size",
       "grow fast 8G",
       {{"cache", text, required, "The cache device's label or path"},
        {"size", size, optional, "The size that it gets", "what the file or device has", true}},
       grow},
      {"shrink",
       owner,
       job,
       "Make a cache device smaller, while it is in use: what lies behind that is written back or moved, then a file "
       "is "
       "truncated",
       "shrink fast 4G",
       {{"cache", text, required, "The cache device's label or path"},
        {"size", size, required, "The size that it keeps"}},
       shrink},
      {"jobs",
       anyone,
       at_once,
       "Show what is under way, and what has ended lately",
       "jobs",
       {{"job", number, optional, "Only this one", "all", true}},
       jobs,
       true},
      {"cancel",
       owner,
       at_once,
       "End a job: a switch of the mode is undone, a drain is not waited for any more",
       "cancel 7",
       {{"job", number, required, "The job's number"}},
       cancel},
      {"events",
       anyone,
       at_once,
       "Show what has happened to the devices, the last of it",
       "events",
       {{"after", number, optional, "Only those after the one with this number", "all that are known"},
        {"instance", number, optional, "Which daemon gave that number; all are shown where it was another one"}},
       events,
       true},
      {"segments",
       anyone,
       slow,
       "Show which segments of the cache devices are free, clean or dirty, and whose they are",
       "segments",
       {},
       segments},
      {"metrics",
       anyone,
       at_once,
       "Print all numbers as metrics, for the textfile collector and other scrapers",
       "metrics >/var/lib/node_exporter/pcachefs.prom",
       {{"format", text, optional, "prometheus or openmetrics", "prometheus"}},
       metrics},
      {"ping", anyone, at_once, "Show who serves the mount", "ping", {}, ping, true},
      {"version", anyone, at_once, "Print the version", "version", {}, version, true},
      {"describe", anyone, at_once, "Show the commands of the control socket", "describe", {}, describe, true},
      {"umount", owner, at_once, "Take the mount down", "umount /mnt/pcache", {}, umount, true},
  };
  return commands;
}

const char* to_string(Pace pace) { return pace == Pace::at_once ? "at_once" : pace == Pace::slow ? "slow" : "job"; }

}  // namespace

const std::vector<Command>& all_commands() { return table(); }

const Command* find_command(const std::string& name) {
  const auto it = std::find_if(table().begin(), table().end(), [&](const Command& c) { return name == c.name; });
  return it == table().end() ? nullptr : &*it;
}

Result<json> run_command(const Command& command, const CommandContext& context, const json& given) {
  if (context.is_ending() && !command.also_at_the_end) {
    return Status(Errc::busy,
                  "the mount at " + context.mount_point + " is being taken down; '" + command.name + "' was not begun");
  }
  const auto args = check_args(command.name, command.args, given);
  if (!args) return args.status();
  auto reply = command.run(context, *args);
  if (reply) reply->emplace("schema", schema_json());
  return reply;
}

json describe_commands() {
  json commands = json::array();
  for (const Command& command : table()) {
    json args = json::array();
    for (const Argument& argument : command.args) {
      args.push_back({{"name", argument.name},
                      {"kind", to_string(argument.kind)},
                      {"required", argument.need == Need::required},
                      {"help", argument.help},
                      {"default", argument.fallback}});
    }
    commands.push_back({{"name", command.name},
                        {"help", command.help},
                        {"changes", command.caller == Caller::owner},
                        {"pace", to_string(command.pace)},
                        {"args", std::move(args)}});
  }
  return {{"commands", std::move(commands)}};
}

}  // namespace pcache
