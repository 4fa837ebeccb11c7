// Changing the settings of a logical device in use.

#include <mutex>

#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {
namespace {

constexpr auto kModeBit = static_cast<std::size_t>(Setting::mode);

}  // namespace

// Persist order: the record on the medium, before anything goes by it. Under settings_mutex_ and the cache's
// shares_mutex().
Status CachedDevice::change_settings(const SettingLayers& next) {
  const SettingLayers& now = settings_.layers();
  Settings chosen = next.stored;
  chosen.merge(next.temporary);
  for (const Settings* settings : {&next.stored, static_cast<const Settings*>(&chosen)}) {
    if (Status status = check_settings(*settings); !status.ok()) return status;
  }
  const std::uint64_t share_min = next.in_force().get(Setting::share_min);
  if (share_min != now.in_force().get(Setting::share_min)) {
    if (Status status = cache_.check_share_min(this, share_min); !status.ok()) return status;
  }
  if (next.stored != now.stored) {
    if (Status status = cache_.cache_dev().set_settings(place_, next.stored); !status.ok()) return status;
  }
  settings_.set(next);
  return prepare_bypass();
}

// The mode comes last, and in its own time.
Status CachedDevice::configure(const Settings& changes) {
  Settings at_once = changes;
  at_once.unset(Setting::mode);
  {
    const std::lock_guard shares(cache_.shares_mutex());
    const std::lock_guard lock(settings_mutex_);
    SettingLayers next = settings_.layers();
    next.store(at_once);
    if (changes.has(Setting::mode)) next.stored_here.set(kModeBit);
    if (Status status = change_settings(next); !status.ok()) return status;
  }
  if (changes.has(Setting::mode)) {
    const ModeChoice to{static_cast<Mode>(changes.get(Setting::mode)), mode_choice().detached};
    if (Status status = begin_switch(to); !status.ok()) return status;
  }
  kick();
  cache_.kick_reclaim();
  return Status();
}

Status CachedDevice::configure_for_now(const Settings& changes) {
  if (changes.has(Setting::mode)) {
    return Status(Errc::invalid,
                  "the mode is always stored, since the cache device is read by it: set it without "
                  "--temporary");
  }
  {
    const std::lock_guard shares(cache_.shares_mutex());
    const std::lock_guard lock(settings_mutex_);
    SettingLayers next = settings_.layers();
    next.set_for_now(changes);
    if (Status status = change_settings(next); !status.ok()) return status;
  }
  kick();
  cache_.kick_reclaim();
  return Status();
}

Status CachedDevice::unset(const SettingSet& keys) {
  std::optional<ModeChoice> to;
  {
    const std::lock_guard shares(cache_.shares_mutex());
    const std::lock_guard lock(settings_mutex_);
    SettingLayers next = settings_.layers();
    SettingSet at_once = keys;
    if (keys.test(kModeBit)) {
      const ModeChoice now = mode_choice();
      const Setting mode = Setting::mode;
      const auto wanted = static_cast<Mode>((next.configured.has(mode) ? next.configured : Settings()).get(mode));
      // What is stored is what the log goes by: only the default goes without saying.
      at_once.set(kModeBit, now.mode == wanted && wanted == Mode{} && !pending_mode());
      next.stored_here.reset(kModeBit);
      if (now.mode != wanted || pending_mode()) to = ModeChoice{wanted, now.detached};
    }
    next.unset(at_once);
    if (Status status = change_settings(next); !status.ok()) return status;
  }
  if (to) {
    if (Status status = begin_switch(*to); !status.ok()) return status;
  }
  kick();
  cache_.kick_reclaim();
  return Status();
}

void CachedDevice::follow_configured_mode() {
  std::optional<Mode> wanted;
  {
    const std::lock_guard lock(settings_mutex_);
    const SettingLayers& layers = settings_.layers();
    if (!layers.configured.has(Setting::mode) || layers.stored_here.test(kModeBit)) return;
    wanted = static_cast<Mode>(layers.configured.get(Setting::mode));
  }
  const ModeChoice now = mode_choice();
  if (now.mode != *wanted) (void)begin_switch({*wanted, now.detached});
}

void CachedDevice::keep_choices_of(const CachedDevice& before) {
  SettingLayers chosen;
  {
    const std::lock_guard lock(before.settings_mutex_);
    chosen = before.settings_.layers();
  }
  const std::lock_guard lock(settings_mutex_);
  SettingLayers next = settings_.layers();
  next.temporary = chosen.temporary;
  next.stored_here = chosen.stored_here;
  settings_.set(next);
  (void)prepare_bypass();  // without it nothing goes around the log
}

std::vector<SettingValue> CachedDevice::settings() const {
  const std::lock_guard lock(settings_mutex_);
  return settings_.layers().list();
}

}  // namespace pcache
