#include "cli/settings_args.h"

#include <cstdio>
#include <sstream>

#include "pcache/settings.h"

namespace pcache {

using nlohmann::json;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::string setting_names() {
  std::string names;
  for (const SettingInfo& info : all_settings()) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

Result<json> settings_json(const std::vector<std::string>& assignments) {
  Settings settings;
  for (const std::string& assignment : assignments) {
    if (Status status = parse_assignment(assignment, settings); !status.ok()) return status;
  }
  if (Status status = check_settings(settings); !status.ok()) return status;
  json object = json::object();
  for (const SettingInfo& info : all_settings()) {
    if (settings.has(info.setting)) object[info.name] = format_setting(info.setting, settings.get(info.setting));
  }
  return object;
}

void keep_setting(json& reply, const std::string& key) {
  json kept = json::array();
  if (const auto list = reply.find("settings"); list != reply.end() && list->is_array()) {
    for (const json& setting : *list) {
      if (setting.is_object() && setting.value("name", json()) == key) kept.push_back(setting);
    }
  }
  reply["settings"] = std::move(kept);
}

std::string settings_text(const json& reply) {
  const auto text = [](const json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  std::string out;
  const auto list = reply.find("settings");
  if (list == reply.end() || !list->is_array()) return out;
  for (const json& setting : *list) {
    char line[160];
    std::snprintf(line, sizeof line, "%-20s %-14s %s\n", text(setting, "name").c_str(), text(setting, "value").c_str(),
                  text(setting, "origin").c_str());
    out += line;
  }
  return out;
}

}  // namespace pcache
