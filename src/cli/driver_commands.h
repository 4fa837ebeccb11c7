// The six commands of the user tool of the kernel's pcache driver, for those who know them: what they are asked and
// what they print is the same, what they do are the commands of the daemon's table.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/result.h"

namespace pcache {

class DriverCommands {
 public:
  // They are not listed by --help.
  explicit DriverCommands(CLI::App& app);
  DriverCommands(const DriverCommands&) = delete;
  DriverCommands& operator=(const DriverCommands&) = delete;

  // Whether one of them was given.
  bool parsed() const;
  // Asks the daemon of `mount` and prints what the tool prints, or the daemon's reply `as_json`. `yes`: nobody is asked
  // before something is overwritten. Returns the exit code.
  int run(const std::string& mount, bool as_json, bool yes) const;

 private:
  Result<nlohmann::json> cache_start(const std::string& mount, bool yes) const;
  Result<nlohmann::json> cache_stop(const std::string& mount) const;
  static int cache_list(const std::string& mount);
  Result<nlohmann::json> backing_start(const std::string& mount) const;
  Result<nlohmann::json> backing_stop(const std::string& mount) const;
  int backing_list(const std::string& mount) const;

  CLI::App* cache_start_ = nullptr;
  CLI::App* cache_stop_ = nullptr;
  CLI::App* cache_list_ = nullptr;
  CLI::App* backing_start_ = nullptr;
  CLI::App* backing_stop_ = nullptr;
  CLI::App* backing_list_ = nullptr;
  std::string path_;
  bool format_ = false;
  bool force_ = false;
  std::uint64_t cache_id_ = 0;
  std::uint64_t backing_id_ = 0;
  std::uint32_t queues_ = 1;  // a mount has no queues of a logical device's own
  std::string size_;
  bool data_crc_ = false;  // all data has checksums
};

}  // namespace pcache
