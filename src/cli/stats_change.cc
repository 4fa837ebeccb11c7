#include "cli/stats_change.h"

#include <algorithm>
#include <map>

#include "cli/json_fields.h"

namespace pcache {

using nlohmann::json;

namespace {

std::map<std::uint64_t, std::uint64_t> buckets_of(const json& stats, const std::string& name) {
  std::map<std::uint64_t, std::uint64_t> counts;
  for (const json& latency : list(stats, "latencies")) {
    if (text(latency, "name") != name) continue;
    for (const json& bucket : list(latency, "buckets")) counts[number(bucket, "below_ns")] = number(bucket, "count");
  }
  return counts;
}

}  // namespace

std::uint64_t growth(const json& before, const json& now, const char* key) {
  return number(now, key) - std::min(number(now, key), number(before, key));
}

LatencyStats latency_between(const json& before, const json& now, const std::string& name) {
  auto old = buckets_of(before, name);
  LatencyStats latency;
  for (const auto& [below_ns, count] : buckets_of(now, name)) {
    const std::uint64_t more = count - std::min(count, old[below_ns]);
    if (more == 0) continue;
    latency.buckets.push_back({below_ns, more});
    latency.count += more;
    latency.max_ns = below_ns;
  }
  return latency;
}

}  // namespace pcache
