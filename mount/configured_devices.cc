#include "mount/configured_devices.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/find_by.h"
#include "base/no_throw.h"
#include "base/same_file.h"
#include "pcache/inspect.h"

namespace pcache {
namespace {

constexpr std::chrono::milliseconds kRetryInterval{5000};

template <typename Stats>
bool is_missing(const std::vector<Stats>& all, std::string Stats::*key, const std::string& name) {
  const Stats* const found = find_by(all, key, name);
  return found != nullptr && found->state == "missing";
}

// Why one that is there is not as it is configured.
Status check(const LogicDevStats& held, const ConfiguredLogicDev& device) {
  if (held.cache_dev != device.cache_dev) {
    return Status(Errc::busy, "cache device " + held.cache_dev + " has one of that name");
  }
  if (held.state != "running") return Status(Errc::failed, "it is " + held.state + ": " + held.detail);
  if (is_same_file(held.backing, device.backing)) return Status();
  return Status(Errc::busy,
                "its backing device is " + held.backing + " and not " + device.backing + "; it goes on with that one");
}

std::string problem(const std::string& what, const ConfigPlace& place, const std::string& why) {
  return what + " is not brought up (" + to_string(place) + "): " + why;
}

}  // namespace

ConfiguredDevices::ConfiguredDevices(Config config, CacheOptions chosen, DeviceManager& manager)
    : config_(std::move(config)), chosen_(std::move(chosen)), manager_(manager), retrier_("configured", [this] {
        (void)no_throw("cannot bring up what is configured", [this] {
          const std::lock_guard lock(mutex_);
          try_cache_devs();
          try_logic_devs();
          return Status();
        });
        return kRetryInterval;
      }) {}

std::vector<std::string> ConfiguredDevices::bring_up() {
  const std::lock_guard lock(mutex_);
  const Status not_yet(Errc::not_found, "it is not brought up yet");
  for (const ConfiguredCacheDev& cache_dev : config_.cache_devs) {
    manager_.expect_cache_dev(cache_dev.label, cache_dev.path, not_yet);
  }
  try_cache_devs();
  StatusReport report = manager_.status();
  for (const ConfiguredLogicDev& device : config_.logic_devs) {
    if (find_by(report.logic_devs, &LogicDevStats::name, device.name) != nullptr) continue;
    manager_.expect_logic_dev(device.name, device.backing, device.cache_dev, not_yet);
  }
  try_logic_devs();

  std::vector<std::string> problems;
  report = manager_.status();
  for (const ConfiguredCacheDev& cache_dev : config_.cache_devs) {
    const auto* const found = find_by(report.cache_devs, &CacheDevStats::label, cache_dev.label);
    if (found == nullptr || found->state != "missing") continue;
    problems.push_back(problem("cache device " + cache_dev.label, cache_dev.place, found->detail));
  }
  for (const ConfiguredLogicDev& device : config_.logic_devs) {
    const auto* const found = find_by(report.logic_devs, &LogicDevStats::name, device.name);
    if (found == nullptr) continue;
    const Status as_configured =
        found->state == "missing" ? Status(Errc::not_found, found->detail) : check(*found, device);
    if (as_configured.ok()) continue;
    problems.push_back(problem("logical device " + device.name, device.place, as_configured.message()));
  }
  for (const LogicDevStats& held : report.logic_devs) {
    const auto configures = [&](const ConfiguredLogicDev& device) { return device.name == held.name; };
    if (held.state == "running" || held.state == "parked") continue;
    if (std::any_of(config_.logic_devs.begin(), config_.logic_devs.end(), configures)) continue;
    problems.push_back("logical device " + held.name + " is " + held.state + ": " + held.detail);
  }
  for (const std::string& line : problems) spdlog::error("{}", line);
  // Nothing becomes missing later.
  const auto missing = [](const auto& stats) { return stats.state == "missing"; };
  if (std::any_of(report.cache_devs.begin(), report.cache_devs.end(), missing) ||
      std::any_of(report.logic_devs.begin(), report.logic_devs.end(), missing)) {
    retrier_.start();
  }
  return problems;
}

Status ConfiguredDevices::open_cache_dev(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (Status opened = manager_.open_cache_dev(path, options_for(path)); !opened.ok()) return opened;
  try_logic_devs();
  return Status();
}

// One whose label is not configured may all the same hold logical devices that are.
CacheOptions ConfiguredDevices::options_for(const std::string& path) const {
  const auto label = cache_dev_label(path);  // where there is none, opening says why
  CacheOptions options = chosen_;
  for (const ConfiguredCacheDev& cache_dev : config_.cache_devs) {
    const CacheOptions configured = options_of(config_, cache_dev, chosen_);
    if (label && *label == cache_dev.label) return configured;
    for (const auto& [name, own] : configured.configured.by_name) {
      options.configured.by_name[name] = configured.configured.of(name);
    }
  }
  return options;
}

void ConfiguredDevices::try_cache_devs() {
  const StatusReport report = manager_.status();
  for (const ConfiguredCacheDev& cache_dev : config_.cache_devs) {
    if (!is_missing(report.cache_devs, &CacheDevStats::label, cache_dev.label)) continue;
    const Status opened = manager_.open_cache_dev(cache_dev.path, options_of(config_, cache_dev, chosen_));
    if (opened.ok() || !is_missing(manager_.status().cache_devs, &CacheDevStats::label, cache_dev.label)) continue;
    manager_.expect_cache_dev(cache_dev.label, cache_dev.path, opened);
  }
}

void ConfiguredDevices::try_logic_devs() {
  const StatusReport report = manager_.status();
  for (const ConfiguredLogicDev& device : config_.logic_devs) {
    if (!is_missing(report.logic_devs, &LogicDevStats::name, device.name)) continue;
    Status added(Errc::not_found, "cache device " + device.cache_dev + " is missing");
    if (!is_missing(report.cache_devs, &CacheDevStats::label, device.cache_dev)) {
      AddOptions options;
      options.cache_label = device.cache_dev;
      options.size_bytes = device.size_bytes;
      added = manager_.add(device.name, device.backing, options);
    }
    if (added.ok() || !is_missing(manager_.status().logic_devs, &LogicDevStats::name, device.name)) continue;
    manager_.expect_logic_dev(device.name, device.backing, device.cache_dev, added);
  }
}

}  // namespace pcache
