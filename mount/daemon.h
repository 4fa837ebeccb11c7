// The process behind a mount, from its start to its end.
#pragma once

#include <string>
#include <vector>

#include "pcache/config.h"
#include "pcache/options.h"
#include "pcache/status.h"

namespace pcache {

struct MountConfig {
  std::string mount_point;
  std::vector<std::string> caches;  // absolute paths of cache devices
  Config config;                    // more of them, and logical devices that shall be there
  CacheOptions options;
  bool foreground = false;   // serve in this process, which may be a service
  bool allow_other = false;  // users besides the mount's owner may look (the files stay the owner's)
  std::string http;          // where to serve HTTP beside the control socket, "ADDR:PORT"; empty: nowhere
  std::string source;        // what the mount table calls what is mounted
  std::string log_level;     // the least that is logged, as of start_logging()
};

// Opens the cache devices, adds the logical devices that are configured and not there yet, mounts, and serves until the
// mount is taken down or SIGINT or SIGTERM comes; SIGHUP is ignored. In the background (the default) it returns in the
// calling process as soon as the mount is ready, or why it cannot be; in the foreground when it has ended and
// everything is on the cache devices. Call it before any thread is started. What is configured and cannot be brought up
// goes to `problems`, a line each; the rest is served all the same. Errors: not_found, invalid, busy, permission,
// integrity, failed, as of DeviceManager::open_cache_dev() and the mount point: not_found (missing), invalid (not a
// directory), busy (something is mounted there, or a dead mount).
Status run_mount(const MountConfig& config, std::vector<std::string>& problems);

}  // namespace pcache
