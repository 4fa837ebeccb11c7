#include <unistd.h>

#include "control/command_table.h"
#include "control/event_log.h"
#include "control/handlers.h"
#include "control/metrics.h"
#include "control/setting_json.h"
#include "control/status_json.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

Result<json> ping(const CommandContext& context, const Args&) {
  return json{{"mount", context.mount_point},
              {"pid", getpid()},
              {"version", kVersion},
              {"http", context.http},
              {"state", state_word(context.is_ending())},
              {"instance", context.events.instance()}};
}

Result<json> version(const CommandContext&, const Args&) { return json{{"version", kVersion}}; }

Result<json> describe(const CommandContext&, const Args&) { return describe_commands(); }

Result<json> status(const CommandContext& context, const Args& args) {
  StatusReport report = context.report();
  if (args.has("name")) {
    const std::string name = args.text("name");
    std::erase_if(report.logic_devs, [&](const LogicDevStats& device) { return device.name != name; });
    if (report.logic_devs.empty())
      return Status(Errc::not_found, "there is no logical device " + name + "; pcachefs status lists them");
  }
  json reply = status_to_json(report, context.mount_point, context.health(report), context.is_ending());
  reply["instance"] = context.events.instance();
  return reply;
}

namespace {

Result<json> activity(const CommandContext& context, const std::string& name, bool reset) {
  const auto activity = context.manager.activity(name, reset);
  if (!activity) return activity.status();
  return activity_to_json(*activity);
}

}  // namespace

Result<json> stats(const CommandContext& context, const Args& args) {
  if (args.has("name")) return activity(context, args.text("name"), false);
  json all = json::array();
  for (const LogicDevStats& device : context.report().logic_devs) {
    if (auto one = activity(context, device.name, false))
      all.push_back(std::move(*one));  // else it is gone, or missing
  }
  return json{{"stats", std::move(all)}};
}

Result<json> reset_stats(const CommandContext& context, const Args& args) {
  return activity(context, args.text("name"), true);
}

Result<json> events(const CommandContext& context, const Args& args) {
  json list = json::array();
  for (const LoggedEvent& event :
       context.events.after(args.number("after"), EventLog::kKept, args.number("instance"))) {
    list.push_back(to_json(event));
  }
  return json{{"instance", context.events.instance()}, {"events", std::move(list)}};
}

Result<json> metrics(const CommandContext& context, const Args& args) {
  const std::string format = args.has("format") ? args.text("format") : "prometheus";
  if (format != "prometheus" && format != "openmetrics") {
    return Status(Errc::invalid, "the format of metrics is 'prometheus' or 'openmetrics', not '" + format + "'");
  }
  const bool open = format == "openmetrics";
  return json{{"text", metrics_text(context.manager, open ? MetricsFormat::openmetrics : MetricsFormat::prometheus,
                                    context.health_watch)}};
}

Result<json> segments(const CommandContext& context, const Args&) {
  json caches = json::array();
  for (const SegmentMap& map : context.manager.segment_maps()) {
    caches.push_back(
        {{"label", map.cache_dev}, {"states", map.states}, {"logic_devs", map.logic_devs}, {"owners", map.owners}});
  }
  return json{{"cache_devs", std::move(caches)}};
}

Result<json> get(const CommandContext& context, const Args& args) {
  const std::string key = args.text("key");
  if (!key.empty() && !find_setting(key)) return unknown_setting(key);
  const auto values = context.manager.settings(args.text("name"));
  if (!values) return values.status();
  json list = json::array();
  for (const SettingValue& value : *values) {
    const char* const name = setting_info(value.setting).name;
    if (!key.empty() && key != name) continue;
    json shown = {
        {"name", name}, {"value", setting_to_json(value.setting, value.value)}, {"origin", to_string(value.origin)}};
    if (value.stored) shown["stored"] = setting_to_json(value.setting, *value.stored);
    if (value.configured) shown["configured"] = setting_to_json(value.setting, *value.configured);
    list.push_back(std::move(shown));
  }
  return json{{"name", args.text("name")}, {"settings", std::move(list)}};
}

}  // namespace pcache
