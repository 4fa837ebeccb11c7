#include "cache/live_settings.h"

namespace pcache {

LiveSettings::LiveSettings(const Settings& stored, const Settings& mount) : stored_(stored), mount_(mount) {
  publish();
}

Result<Settings> LiveSettings::changed(const Settings& changes) const {
  Settings result = stored_;
  result.merge(changes);
  if (Status status = check_settings(result); !status.ok()) return status;
  return result;
}

void LiveSettings::set_stored(const Settings& stored, const Settings& changes) {
  stored_ = stored;
  for (const SettingInfo& info : all_settings()) {
    if (changes.has(info.setting)) mount_.unset(info.setting);
  }
  publish();
}

void LiveSettings::publish() {
  Settings now = stored_;
  now.merge(mount_);
  for (const SettingInfo& info : all_settings()) {
    values_[static_cast<std::size_t>(info.setting)].store(now.get(info.setting), std::memory_order_relaxed);
  }
}

std::vector<SettingValue> LiveSettings::list() const {
  std::vector<SettingValue> values;
  values.reserve(kSettingCount);
  for (const SettingInfo& info : all_settings()) {
    const SettingOrigin origin = mount_.has(info.setting)    ? SettingOrigin::mount
                                 : stored_.has(info.setting) ? SettingOrigin::stored
                                                             : SettingOrigin::standard;
    values.push_back({info.setting, get(info.setting), origin});
  }
  return values;
}

}  // namespace pcache
