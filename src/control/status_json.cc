#include "control/status_json.h"

#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

json to_json(const CacheDevStats& s) {
  json object = {{"path", s.path}, {"uuid", s.uuid},   {"label", s.label},  {"granularity", s.granularity},
                 {"ack", s.ack},   {"state", s.state}, {"detail", s.detail}};
  for (const auto& field : cache_dev_numbers()) object[field.name] = s.*field.member;
  return object;
}

json to_json(const std::vector<ByteRange>& ranges) {
  json list = json::array();
  for (const ByteRange& range : ranges) list.push_back({{"offset", range.offset}, {"length", range.length}});
  return list;
}

json to_json(const LogicDevStats& s) {
  json object = {{"name", s.name},
                 {"backing", s.backing},
                 {"cache_dev", s.cache_dev},
                 {"mode", s.mode},
                 {"pending_mode", s.pending_mode},
                 {"detached", s.detached},
                 {"backing_fails", s.backing_fails},
                 {"state", s.state},
                 {"detail", s.detail},
                 {"lost_ranges", to_json(s.lost_ranges)}};
  for (const auto& field : logic_dev_numbers()) object[field.name] = s.*field.member;
  return object;
}

json to_json(const LatencyStats& latency) {
  json buckets = json::array();
  for (const auto& bucket : latency.buckets)
    buckets.push_back({{"below_ns", bucket.below_ns}, {"count", bucket.count}});
  return {{"name", latency.name},
          {"count", latency.count},
          {"mean_ns", latency.count == 0 ? 0 : latency.sum_ns / latency.count},
          {"p50_ns", latency.percentile_ns(0.5)},
          {"p99_ns", latency.percentile_ns(0.99)},
          {"p999_ns", latency.percentile_ns(0.999)},
          {"max_ns", latency.max_ns},
          {"buckets", std::move(buckets)}};
}

}  // namespace

json activity_to_json(const LogicDevActivity& activity) {
  json latencies = json::array();
  for (const LatencyStats& latency : activity.latencies) latencies.push_back(to_json(latency));
  return {{"schema", schema_json()},
          {"since_ms", activity.since_ms},
          {"logic_dev", to_json(activity.stats)},
          {"latencies", std::move(latencies)}};
}

const char* state_word(bool ending) { return ending ? "closing" : "serving"; }

json status_to_json(const StatusReport& report, const std::string& mount_point, const Health& health, bool ending) {
  json status = {{"schema", schema_json()},     {"version", kVersion},         {"mount", mount_point},
                 {"state", state_word(ending)}, {"cache_devs", json::array()}, {"logic_devs", json::array()}};
  status["health"] = {{"level", to_string(health.level)}, {"reasons", health.reasons}};
  for (const CacheDevStats& stats : report.cache_devs) status["cache_devs"].push_back(to_json(stats));
  for (const LogicDevStats& stats : report.logic_devs) status["logic_devs"].push_back(to_json(stats));
  return status;
}

}  // namespace pcache
