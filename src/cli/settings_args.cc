#include "cli/settings_args.h"

#include <cstdio>
#include <sstream>

#include "cli/json_fields.h"
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
  for (const json& setting : list(reply, "settings")) {
    if (text(setting, "name") == key) kept.push_back(setting);
  }
  reply["settings"] = std::move(kept);
}

std::string settings_text(const json& reply) {
  std::string out;
  for (const json& setting : list(reply, "settings")) {
    char line[160];
    std::snprintf(line, sizeof line, "%-20s %-14s %s\n", text(setting, "name").c_str(), text(setting, "value").c_str(),
                  text(setting, "origin").c_str());
    out += line;
  }
  return out;
}

}  // namespace pcache
