#include "control/commands.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "control/status_json.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

Result<std::string> text_arg(const json& args, const char* key) {
  const auto it = args.find(key);
  if (it == args.end() || !it->is_string()) {
    return Status(Errc::invalid, std::string("the request has no text argument \"") + key + "\"");
  }
  return it->get<std::string>();
}

Result<json> done(const Status& status) {
  if (!status.ok()) return status;
  return json::object();
}

// The settings that the argument "settings" gives, each as text; none without that argument.
Result<Settings> settings_arg(const json& args) {
  Settings settings;
  const auto it = args.find("settings");
  if (it == args.end()) return settings;
  if (!it->is_object()) return Status(Errc::invalid, "the argument \"settings\" is not an object");
  for (const auto& [key, value] : it->items()) {
    if (!value.is_string()) return Status(Errc::invalid, "the setting \"" + key + "\" is not given as text");
    if (Status status = parse_assignment(key + "=" + value.get<std::string>(), settings); !status.ok()) return status;
  }
  if (Status status = check_settings(settings); !status.ok()) return status;
  return settings;
}

Result<json> add(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto backing = text_arg(args, "backing");
  if (!backing) return backing.status();
  AddOptions options;
  if (args.contains("cache")) {
    const auto label = text_arg(args, "cache");
    if (!label) return label.status();
    options.cache_label = *label;
  }
  if (const auto size = args.find("size"); size != args.end()) {
    if (!size->is_number_unsigned()) return Status(Errc::invalid, "the argument \"size\" is not a number of bytes");
    options.size_bytes = size->get<std::uint64_t>();
  }
  const auto settings = settings_arg(args);
  if (!settings) return settings.status();
  options.settings = *settings;
  return done(context.manager.add(*name, *backing, options));
}

Result<bool> flag_arg(const json& args, const char* key) {
  const auto it = args.find(key);
  if (it == args.end()) return false;
  if (!it->is_boolean()) return Status(Errc::invalid, std::string("the argument \"") + key + "\" is not true or false");
  return it->get<bool>();
}

Result<json> remove(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto keep = flag_arg(args, "no_flush");
  if (!keep) return keep.status();
  const auto discard = flag_arg(args, "discard_dirty");
  if (!discard) return discard.status();
  if (*keep && *discard) return Status(Errc::invalid, "dirty data is either kept or thrown away, not both");
  return done(context.manager.remove(*name, *keep      ? DirtyData::keep
                                            : *discard ? DirtyData::discard
                                                       : DirtyData::write_back));
}

// A client asks again and again, so that none holds a thread for as long as a drain takes.
constexpr std::uint64_t kAwaitMs = 500;

Result<json> progress_json(const Result<DeviceManager::Progress>& progress) {
  if (!progress) return progress.status();
  return json{{"done", progress->done}, {"left_bytes", progress->left_bytes}};
}

// Without "number" it begins a drain, with it it awaits that one.
Result<json> drain(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto number = args.find("number");
  if (number == args.end()) {
    const auto begun = context.manager.begin_drain(*name);
    if (!begun) return begun.status();
    return json{{"number", *begun}};
  }
  if (!number->is_number_unsigned()) return Status(Errc::invalid, "the argument \"number\" is not a number");
  return progress_json(context.manager.await_drain(*name, number->get<std::uint64_t>(), kAwaitMs));
}

Result<json> detach(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  return name ? done(context.manager.detach(*name)) : name.status();
}

Result<json> attach(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  return name ? done(context.manager.attach(*name)) : name.status();
}

Result<json> await_switch(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  return name ? progress_json(context.manager.await_switch(*name, kAwaitMs)) : name.status();
}

Result<json> flush(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  return name ? done(context.manager.flush(*name)) : name.status();
}

Result<json> set(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto settings = settings_arg(args);
  if (!settings) return settings.status();
  if (settings->empty()) return Status(Errc::invalid, "no setting is given; write KEY=VALUE");
  return done(context.manager.set(*name, *settings));
}

Result<json> get(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto values = context.manager.settings(*name);
  if (!values) return values.status();
  json list = json::array();
  for (const SettingValue& value : *values) {
    list.push_back({{"name", setting_info(value.setting).name},
                    {"value", format_setting(value.setting, value.value)},
                    {"origin", to_string(value.origin)}});
  }
  return json{{"name", *name}, {"settings", std::move(list)}};
}

Result<json> stats(const CommandContext& context, const json& args, bool reset) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  const auto activity = context.manager.activity(*name, reset);
  if (!activity) return activity.status();
  return activity_to_json(*activity);
}

Result<json> resize(const CommandContext& context, const json& args) {
  const auto name = text_arg(args, "name");
  if (!name) return name.status();
  if (Status status = context.manager.resize(*name); !status.ok()) return status;
  return json{{"file", context.mount_point + "/" + *name}};
}

Result<json> status(const CommandContext& context, const json& args) {
  StatusReport report = context.manager.status();
  if (args.contains("name")) {
    const auto name = text_arg(args, "name");
    if (!name) return name.status();
    std::erase_if(report.logic_devs, [&](const LogicDevStats& device) { return device.name != *name; });
    if (report.logic_devs.empty())
      return Status(Errc::not_found, "there is no logical device " + *name + "; pcachefs status lists them");
  }
  return status_to_json(report, context.mount_point);
}

Result<json> ping(const CommandContext& context, const json&) {
  return json{{"mount", context.mount_point}, {"pid", getpid()}, {"version", kVersion}};
}

Result<json> version(const CommandContext&, const json&) { return json{{"version", kVersion}}; }

Result<json> umount(const CommandContext& context, const json&) {
  context.on_umount();
  return json::object();
}

const std::vector<Command>& table() {
  static const std::vector<Command> commands = {
      {"ping", false, false, ping},
      {"version", false, false, version},
      {"status", false, false, status},
      {"add", true, true, add},
      {"remove", true, true, remove},
      {"flush", true, true, flush},
      {"umount", true, false, umount},
      {"set", true, true, set},
      {"stats", false, false, [](const auto& context, const json& args) { return stats(context, args, false); }},
      {"stats-reset", true, false, [](const auto& context, const json& args) { return stats(context, args, true); }},
      {"resize", true, true, resize},
      {"get", false, false, get},
      {"drain", true, true, drain},
      {"detach", true, true, detach},
      {"attach", true, true, attach},
      {"await_switch", true, true, await_switch},
  };
  return commands;
}

}  // namespace

const Command* find_command(const std::string& name) {
  const auto it = std::find_if(table().begin(), table().end(), [&](const Command& c) { return name == c.name; });
  return it == table().end() ? nullptr : &*it;
}

}  // namespace pcache
