// What is configured, brought up: at the start, and later what was not there then.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "base/worker.h"
#include "pcache/config.h"
#include "pcache/device_manager.h"
#include "pcache/options.h"
#include "pcache/result.h"

namespace pcache {

// What could not be brought up is listed as missing by the device manager, and tried again every few seconds for as
// long as it is.
class ConfiguredDevices {
 public:
  // `chosen`, of the command line, counts more than what is configured. The manager outlives it.
  ConfiguredDevices(Config config, CacheOptions chosen, DeviceManager& manager);
  // Waits for what is being brought up.
  ~ConfiguredDevices() { retrier_.stop(); }

  // Opens and adds everything, and begins to try again. Returns what is not as it is configured, and which other
  // logical devices of the open cache devices did not come up, a line each. Called once, before anything else.
  std::vector<std::string> bring_up();

  // Opens the cache device at `path`, as it is configured by its label, and adds what is configured to be on it.
  // Errors: those of DeviceManager::open_cache_dev(). Thread-safe.
  Status open_cache_dev(const std::string& path);

 private:
  CacheOptions options_for(const std::string& path) const;
  void try_cache_devs();
  void try_logic_devs();

  const Config config_;
  const CacheOptions chosen_;
  DeviceManager& manager_;
  std::mutex mutex_;  // one attempt at a time; held during I/O
  Worker retrier_;
};

}  // namespace pcache
