#include "cli/completion_words.h"

#include "base/log_level.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "pcache/settings.h"

namespace pcache {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

// The field of all objects of a list in the daemon's reply.
Result<Words> listed(const std::string& mount, const char* command, const char* items, const char* field) {
  const auto reply = ask(mount, command, json::object());
  if (!reply) return reply.status();
  Words words;
  for (const json& item : list(*reply, items)) {
    const json value = item.value(field, json());
    words.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return words;
}

Words keys() {
  Words words;
  for (const SettingInfo& info : all_settings()) words.emplace_back(info.name);
  return words;
}

// With each word that it can be, or else with nothing behind the =.
void add_setting(Words& words, const SettingInfo& info) {
  const std::string begin = std::string(info.name) + "=";
  if (info.words.empty()) words.push_back(begin);
  for (const char* const value : info.words) words.push_back(begin + value);
}

Words assignments() {
  Words words;
  for (const SettingInfo& info : all_settings()) add_setting(words, info);
  return words;
}

Words options_of_mount() {
  Words words{"ack=durable", "ack=flush", "epoch_max_ms=", "allow_other", "http="};
  for (const char* const level : kLogLevels) words.push_back(std::string("log_level=") + level);
  for (const SettingInfo& info : all_settings()) {
    if (info.setting != Setting::mode) add_setting(words, info);
  }
  return words;
}

struct Kind {
  const char* name;
  Result<Words> (*words)(const std::string& mount);
};

constexpr Kind kKinds[] = {
    {"NAME", [](const std::string& mount) { return listed(mount, "status", "logic_devs", "name"); }},
    {"LABEL", [](const std::string& mount) { return listed(mount, "status", "cache_devs", "label"); }},
    {"JOB", [](const std::string& mount) { return listed(mount, "jobs", "jobs", "job"); }},
    {"KEY", [](const std::string&) { return Result<Words>(keys()); }},
    {"KEY=VALUE", [](const std::string&) { return Result<Words>(assignments()); }},
    {"OPTIONS", [](const std::string&) { return Result<Words>(options_of_mount()); }},
    {"MODE",
     [](const std::string&) {
       const auto words = setting_info(Setting::mode).words;
       return Result<Words>(Words(words.begin(), words.end()));
     }},
    {"LEVEL", [](const std::string&) { return Result<Words>(Words(kLogLevels.begin(), kLogLevels.end())); }},
    {"FORMAT",
     [](const std::string&) {
       return Result<Words>(Words{"prometheus", "openmetrics"});
     }},
};

}  // namespace

std::vector<std::string> completed_kinds() {
  Words names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

Result<std::vector<std::string>> completion_words(const std::string& kind, const std::string& mount) {
  for (const Kind& known : kKinds) {
    if (kind == known.name) return known.words(mount);
  }
  std::string names;
  for (const Kind& known : kKinds) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return Status(Errc::invalid, "nothing is known of words of the kind '" + kind + "'; there are " + names);
}

}  // namespace pcache
