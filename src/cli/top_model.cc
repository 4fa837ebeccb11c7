#include "cli/top_model.h"

#include <algorithm>
#include <cmath>

#include "cli/json_fields.h"
#include "cli/stats_change.h"

namespace pcache {

using nlohmann::json;

namespace {

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
  health_ = text(object(status, "health"), "level");
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
    const json was = object(before->second, "logic_dev");
    const json is = object(there->second, "logic_dev");
    const auto more = [&](const char* key) { return static_cast<double>(growth(was, is, key)); };
    const auto a_second = [&](const char* key) { return more(key) / seconds; };
    row.read_ops = a_second("reads");
    row.write_ops = a_second("writes");
    row.read_bytes = a_second("read_bytes");
    row.write_bytes = a_second("write_bytes");
    row.written_back_bytes = a_second("written_back_bytes");
    const double hits = more("read_hits");
    const double blocks = hits + more("read_misses");
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
