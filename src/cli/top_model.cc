#include "cli/top_model.h"

#include <algorithm>
#include <cmath>

#include "cli/json_fields.h"
#include "pcache/stats.h"

namespace pcache {

using nlohmann::json;

namespace {

json object_in(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_object() ? *it : json::object();
}

// How much a counter grew; nothing where it begins anew.
double growth(const json& before, const json& now, const char* key) {
  const std::uint64_t a = number(before, key);
  const std::uint64_t b = number(now, key);
  return b >= a ? static_cast<double>(b - a) : 0;
}

// What was timed between two looks.
LatencyStats latency_between(const json& before, const json& now, const std::string& name) {
  const auto counts = [&name](const json& stats) {
    std::map<std::uint64_t, std::uint64_t> found;
    for (const json& latency : list(stats, "latencies")) {
      if (text(latency, "name") != name) continue;
      for (const json& bucket : list(latency, "buckets")) found[number(bucket, "below_ns")] = number(bucket, "count");
    }
    return found;
  };
  const auto old_counts = counts(before);
  LatencyStats latency;
  for (const auto& [below_ns, count] : counts(now)) {
    const auto it = old_counts.find(below_ns);
    const std::uint64_t had = it == old_counts.end() ? 0 : std::min(it->second, count);
    if (count == had) continue;
    latency.buckets.push_back({below_ns, count - had});
    latency.count += count - had;
    latency.max_ns = below_ns;
  }
  return latency;
}

double key_of(const TopRow& row, TopSort sort) {
  switch (sort) {
    case TopSort::name:
      return 0;
    case TopSort::throughput:
      return row.read_bytes + row.write_bytes;
    case TopSort::iops:
      return row.read_ops + row.write_ops;
    case TopSort::latency:
      return static_cast<double>(std::max(row.read_p99_ns, row.write_p99_ns));
    case TopSort::hits:
      return row.hit_part;
    case TopSort::dirty:
      return static_cast<double>(row.dirty_bytes);
    case TopSort::writeback:
      return row.written_back_bytes;
  }
  return 0;
}

}  // namespace

const char* to_string(TopSort sort) {
  constexpr const char* kNames[kTopSorts] = {"name", "throughput", "iops", "latency", "hits", "dirty", "writeback"};
  return kNames[static_cast<int>(sort)];
}

void TopModel::look(const json& status, const std::map<std::string, json>& stats, Time now) {
  const double seconds = std::chrono::duration<double>(now - looked_).count();
  std::map<std::string, double> cache_bytes;
  for (const json& cache : list(status, "cache_devs")) {
    cache_bytes[text(cache, "label")] = static_cast<double>(number(cache, "size_bytes"));
  }
  health_ = text(object_in(status, "health"), "level");
  rows_.clear();
  for (const json& device : list(status, "logic_devs")) {
    TopRow& row = rows_.emplace_back();
    row.name = text(device, "name");
    row.mode = text(device, "mode");
    row.state = text(device, "state");
    row.cache = text(device, "cache_dev");
    row.dirty_bytes = number(device, "dirty_bytes");
    const double whole = cache_bytes[row.cache];
    row.dirty_part = whole > 0 ? static_cast<double>(row.dirty_bytes) / whole : 0;
    const auto before = before_.find(row.name);
    const auto there = stats.find(row.name);
    // Another inception of the device: its counters began at another time.
    const bool same = before != before_.end() && there != stats.end() && seconds > 0 &&
                      number(there->second, "since_ms") >= number(before->second, "since_ms");
    if (!same) continue;
    const json was = object_in(before->second, "logic_dev");
    const json is = object_in(there->second, "logic_dev");
    row.read_ops = growth(was, is, "reads") / seconds;
    row.write_ops = growth(was, is, "writes") / seconds;
    row.read_bytes = growth(was, is, "read_bytes") / seconds;
    row.write_bytes = growth(was, is, "write_bytes") / seconds;
    row.written_back_bytes = growth(was, is, "written_back_bytes") / seconds;
    const double hits = growth(was, is, "read_hits");
    const double blocks = hits + growth(was, is, "read_misses");
    if (blocks > 0) row.hit_part = hits / blocks;
    const LatencyStats read = latency_between(before->second, there->second, "read");
    const LatencyStats write = latency_between(before->second, there->second, "write");
    row.read_p50_ns = read.percentile_ns(0.5);
    row.read_p99_ns = read.percentile_ns(0.99);
    row.write_p50_ns = write.percentile_ns(0.5);
    row.write_p99_ns = write.percentile_ns(0.99);
  }
  before_ = stats;
  looked_ = now;
}

void TopModel::forget() {
  before_.clear();
  rows_.clear();
  health_.clear();
}

std::vector<TopRow> TopModel::rows(TopSort sort) const {
  std::vector<TopRow> rows = rows_;
  std::sort(rows.begin(), rows.end(), [sort](const TopRow& a, const TopRow& b) {
    const double x = key_of(a, sort);
    const double y = key_of(b, sort);
    if (x > y || x < y) return x > y;
    return a.name < b.name;
  });
  return rows;
}

}  // namespace pcache
