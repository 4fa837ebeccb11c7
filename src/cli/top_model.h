// What `pcachefs top` shows, from what the daemon says twice.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pcache {

// What one logical device did between two looks, a second.
struct TopRow {
  std::string name;
  std::string mode;
  std::string state;
  std::string cache;
  double read_ops = 0;
  double write_ops = 0;
  double read_bytes = 0;
  double write_bytes = 0;
  double written_back_bytes = 0;
  double hit_part = -1;                            // of the blocks read; -1: none was
  std::uint64_t read_p50_ns = 0, read_p99_ns = 0;  // 0: none was timed
  std::uint64_t write_p50_ns = 0, write_p99_ns = 0;
  std::uint64_t dirty_bytes = 0;
  double dirty_part = 0;  // of the cache device
};

enum class TopSort : std::uint8_t { name, throughput, iops, latency, hits, dirty, writeback };
inline constexpr int kTopSorts = 7;
const char* to_string(TopSort sort);

// Not synchronised.
class TopModel {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // What `status` replied, and `stats` by the names of the logical devices. After less than two looks, and of a device
  // that came in between, there are no rates; a device that was reset or brought up anew begins again.
  void look(const nlohmann::json& status, const std::map<std::string, nlohmann::json>& stats, Time now);
  // The daemon is gone: what it says next has nothing to do with what it said.
  void forget();

  // The largest first, but for names; those that are alike by their names.
  std::vector<TopRow> rows(TopSort sort) const;
  const std::string& health() const { return health_; }

 private:
  std::map<std::string, nlohmann::json> before_;
  Time looked_{};
  std::vector<TopRow> rows_;
  std::string health_;
};

}  // namespace pcache
