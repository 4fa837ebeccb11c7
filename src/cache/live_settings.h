// The settings of a logical device that are in force, changed while it runs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "pcache/settings.h"

namespace pcache {

// get() may be called from any thread, also while set_stored() runs, which is called by one thread at a time.
class LiveSettings {
 public:
  // `stored`: those on the medium; `mount`: those that take their place.
  LiveSettings(const Settings& stored, const Settings& mount);

  std::uint64_t get(Setting setting) const {
    return values_[static_cast<std::size_t>(setting)].load(std::memory_order_relaxed);
  }
  template <typename Choice>
  Choice choice(Setting setting) const {
    return static_cast<Choice>(get(setting));
  }

  const Settings& stored() const { return stored_; }
  // What was stored with `changes` made. Errors: invalid (values that do not go together).
  Result<Settings> changed(const Settings& changes) const;
  // Puts in force what was stored now. What `changes` gives is no longer overruled by the mount.
  void set_stored(const Settings& stored, const Settings& changes);

  // Every setting, in the order of their numbers. Not while set_stored() runs.
  std::vector<SettingValue> list() const;

 private:
  void publish();

  Settings stored_;
  Settings mount_;
  std::array<std::atomic<std::uint64_t>, kSettingCount> values_;
};

}  // namespace pcache
