// A configuration: which cache devices and logical devices a mount brings up, and their settings. Written as TOML
// (docs/configuration.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pcache/options.h"
#include "pcache/result.h"

namespace pcache {

// Where the configuration is, unless the environment variable PCACHEFS_CONFIG_DIR names another directory.
inline constexpr const char* kConfigDir = "/etc/pcachefs";
std::string config_dir();

// Where something stands; line and column count from 1, 0: it is about the whole file.
struct ConfigPlace {
  std::string file;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
};
// "FILE:LINE:COLUMN".
std::string to_string(const ConfigPlace& place);

struct ConfiguredCacheDev {
  std::string label;
  std::string path;
  std::optional<Ack> ack;
  std::optional<std::uint32_t> epoch_max_ms;
  Settings defaults;  // of its logical devices
  ConfigPlace place;
};

struct ConfiguredLogicDev {
  std::string name;
  std::string backing;
  std::string cache_dev;  // a label
  std::optional<std::uint64_t> size_bytes;
  Settings settings;
  ConfigPlace place;
};

// Labels, names and paths occur once; each logical device's cache device is one of `cache_devs`.
struct Config {
  bool allow_other = false;
  std::string http;
  std::string log_level;  // empty: nothing is said of it
  std::vector<ConfiguredCacheDev> cache_devs;
  std::vector<ConfiguredLogicDev> logic_devs;

  bool empty() const {
    return cache_devs.empty() && logic_devs.empty() && !allow_other && http.empty() && log_level.empty();
  }
};

// What a configured cache device is opened with. What `chosen`, of the command line, says counts more.
CacheOptions options_of(const Config& config, const ConfiguredCacheDev& cache_dev, const CacheOptions& chosen);

struct ConfigFinding {
  bool is_error = true;  // or a warning: it will do, but not for long or not for everything
  ConfigPlace place;
  std::string message;
};

struct ConfigReading {
  std::vector<std::string> files;       // in the order in which they were read
  std::vector<ConfigFinding> findings;  // in the order of the files and lines
  Config config;                        // makes no sense where there are errors

  // Invalid, with the first error and its place, if there is one.
  Status status() const;
};

// Reads the file `path`, or the files pcachefs.toml and conf.d/*.toml of the directory `path`; of these, none need be
// there. Hidden files are left out. Errors, naming the file: not_found (no such file or directory, or a link to one),
// permission, failed.
Result<ConfigReading> read_config(const std::string& path);

// What would be read if the file `file` contained `text`: the whole directory's where it is a pcachefs.toml or one of a
// conf.d, else that file alone. Errors as read_config(), of the other files.
Result<ConfigReading> read_config_with(const std::string& file, const std::string& text);

// The same for a text; `file` is what places call it.
ConfigReading parse_config(const std::string& text, const std::string& file);

// The configuration as a file from which read_config() makes the same one.
std::string format_config(const Config& config);

// What a look at this machine says of a configuration: paths that are not there, names that do not last, cache devices
// that are none or have another label. `label_of` tells the label of a cache device; where its error is invalid or
// integrity, that is what is found, and others say nothing.
std::vector<ConfigFinding> inspect_config(const Config& config,
                                          const std::function<Result<std::string>(const std::string& path)>& label_of);

}  // namespace pcache
