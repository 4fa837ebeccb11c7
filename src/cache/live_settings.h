// The settings of a logical device: who chose what, and what is in force, changed while it runs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "pcache/options.h"
#include "pcache/settings.h"

namespace pcache {

// Who chose what. Of the mode only the stored choice is ever in force: a log goes by it. Value type.
struct SettingLayers {
  Settings stored;
  Settings configured;
  Settings mount;
  Settings temporary;
  // Stored while it runs, and therefore in force whatever is configured: whoever changes something sees it change.
  SettingSet stored_here;

  void store(const Settings& changes);
  void set_for_now(const Settings& changes);
  // What was stored or set for now is chosen no more.
  void unset(const SettingSet& keys);

  SettingOrigin origin(Setting setting) const;
  // Of every setting, in the order of their numbers.
  std::vector<SettingValue> list() const;
  Settings in_force() const;
};

// What is in force where a cache device that was opened with `options` holds a logical device called `name`.
SettingLayers layers_at_opening(const CacheOptions& options, const std::string& name, const Settings& stored);

// get() may be called from any thread, also while set() runs, which is called by one thread at a time.
class LiveSettings {
 public:
  explicit LiveSettings(const SettingLayers& layers) { set(layers); }

  std::uint64_t get(Setting setting) const {
    return values_[static_cast<std::size_t>(setting)].load(std::memory_order_relaxed);
  }
  template <typename Choice>
  Choice choice(Setting setting) const {
    return static_cast<Choice>(get(setting));
  }

  // Not while set() runs.
  const SettingLayers& layers() const { return layers_; }
  void set(const SettingLayers& layers);

 private:
  SettingLayers layers_;
  std::array<std::atomic<std::uint64_t>, kSettingCount> values_;
};

}  // namespace pcache
