#include "cache/live_settings.h"

namespace pcache {

SettingLayers layers_at_opening(const CacheOptions& options, const std::string& name, const Settings& stored) {
  return {stored, options.configured.of(name), options.settings, {}, {}};
}

void SettingLayers::store(const Settings& changes) {
  stored.merge(changes);
  for (const SettingInfo& info : all_settings()) {
    if (!changes.has(info.setting)) continue;
    temporary.unset(info.setting);
    stored_here.set(static_cast<std::size_t>(info.setting));
  }
}

void SettingLayers::set_for_now(const Settings& changes) { temporary.merge(changes); }

void SettingLayers::unset(const SettingSet& keys) {
  for (const SettingInfo& info : all_settings()) {
    if (!keys.test(static_cast<std::size_t>(info.setting))) continue;
    stored.unset(info.setting);
    temporary.unset(info.setting);
  }
  stored_here &= ~keys;
}

SettingOrigin SettingLayers::origin(Setting setting) const {
  if (setting == Setting::mode) {
    const bool as_configured = configured.has(setting) && configured.get(setting) == stored.get(setting);
    return as_configured         ? SettingOrigin::config
           : stored.has(setting) ? SettingOrigin::stored
                                 : SettingOrigin::standard;
  }
  if (temporary.has(setting)) return SettingOrigin::temporary;
  if (stored_here.test(static_cast<std::size_t>(setting))) return SettingOrigin::stored;
  if (mount.has(setting)) return SettingOrigin::mount;
  if (configured.has(setting)) return SettingOrigin::config;
  return stored.has(setting) ? SettingOrigin::stored : SettingOrigin::standard;
}

std::vector<SettingValue> SettingLayers::list() const {
  std::vector<SettingValue> values;
  values.reserve(kSettingCount);
  for (const SettingInfo& info : all_settings()) {
    const Setting setting = info.setting;
    SettingValue value{setting, info.standard, origin(setting), {}, {}};
    if (stored.has(setting)) value.stored = stored.get(setting);
    if (configured.has(setting)) value.configured = configured.get(setting);
    switch (value.origin) {
      case SettingOrigin::standard:
        break;
      case SettingOrigin::stored:
        value.value = stored.get(setting);
        break;
      case SettingOrigin::config:
        value.value = configured.get(setting);
        break;
      case SettingOrigin::mount:
        value.value = mount.get(setting);
        break;
      case SettingOrigin::temporary:
        value.value = temporary.get(setting);
        break;
    }
    values.push_back(value);
  }
  return values;
}

Settings SettingLayers::in_force() const {
  Settings settings;
  for (const SettingValue& value : list()) {
    if (value.origin != SettingOrigin::standard) settings.set(value.setting, value.value);
  }
  return settings;
}

void LiveSettings::set(const SettingLayers& layers) {
  layers_ = layers;
  for (const SettingValue& value : layers_.list()) {
    values_[static_cast<std::size_t>(value.setting)].store(value.value, std::memory_order_relaxed);
  }
}

}  // namespace pcache
