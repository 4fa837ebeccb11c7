#include "control/setting_json.h"

namespace pcache {

using nlohmann::json;

json setting_to_json(Setting setting, std::uint64_t value) {
  switch (setting_info(setting).kind) {
    case SettingKind::bytes:
    case SettingKind::bytes_per_second:
    case SettingKind::milliseconds:
      return value;
    case SettingKind::id:
      if (value != kDaemonsId) return value;
      break;
    case SettingKind::choice:
    case SettingKind::amount:
    case SettingKind::permissions:
      break;
  }
  return format_setting(setting, value);
}

json settings_to_json(const Settings& settings) {
  json object = json::object();
  for (const SettingInfo& info : all_settings()) {
    if (settings.has(info.setting)) object[info.name] = setting_to_json(info.setting, settings.get(info.setting));
  }
  return object;
}

std::string setting_word(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_unsigned() ? std::to_string(value.get<std::uint64_t>()) : "";
}

std::string setting_text(const std::string& name, const json& value) {
  const std::string word = setting_word(value);
  const auto setting = find_setting(name);
  if (!setting) return word;
  const auto parsed = parse_setting(*setting, word);
  return parsed ? format_setting(*setting, *parsed) : word;
}

}  // namespace pcache
