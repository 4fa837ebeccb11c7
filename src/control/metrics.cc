#include "control/metrics.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "control/health.h"
#include "control/version.h"

namespace pcache {
namespace {

using Labels = std::vector<std::pair<const char*, std::string>>;

// Upper bounds of histograms: powers of two nanoseconds, where the engine's own buckets end too.
constexpr int kFirstBound = 9;  // 512 ns
constexpr int kLastBound = 35;  // 34 s

// As these formats want it: UTF-8, with backslash, quote and newline escaped.
std::string label_text(const std::string& value) {
  using nlohmann::json;
  const auto utf8 = json::parse(json(value).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
  std::string text;
  for (const char c : utf8) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

std::string labels_text(const Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text += (text.empty() ? "" : ",") + std::string(name) + "=\"" + label_text(value) + "\"";
  }
  return text.empty() ? "" : "{" + text + "}";
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// Writes families, each begun once.
class Writer {
 public:
  explicit Writer(MetricsFormat format) : format_(format) {}

  void family(const std::string& name, const char* type, const char* help) {
    counter_ = std::string_view(type) == "counter";
    name_ = "pcachefs_" + name;
    // The text format has no families of counters: there the sample's name is all there is.
    const std::string shown = name_ + (counter_ && format_ == MetricsFormat::prometheus ? "_total" : "");
    text_ += "# HELP " + shown + " " + help + "\n# TYPE " + shown + " " + type + "\n";
    if (format_ == MetricsFormat::prometheus) return;
    for (const char* unit : {"bytes", "seconds"}) {
      if (ends_with(name, std::string("_") + unit)) text_ += "# UNIT " + name_ + " " + unit + "\n";
    }
  }

  void sample(const Labels& labels, const std::string& value, const char* suffix = "") {
    text_ += name_ + (counter_ ? "_total" : suffix) + labels_text(labels) + " " + value + "\n";
  }

  std::string finish() {
    if (format_ == MetricsFormat::openmetrics) text_ += "# EOF\n";
    return std::move(text_);
  }

 private:
  const MetricsFormat format_;
  std::string text_;
  std::string name_;
  bool counter_ = false;
};

// A family for each name of the table, with all its samples.
template <typename T, typename LabelsOf>
void write_numbers(Writer& out, const char* prefix, std::span<const NumberField<T>> fields, const std::vector<T>& all,
                   const LabelsOf& labels_of) {
  for (std::size_t first = 0; first < fields.size(); ++first) {
    if (fields[first].metric.name == nullptr) continue;
    const std::string_view name = fields[first].metric.name;
    bool begun = false;
    const auto is_of = [name](const NumberField<T>& field) {
      return field.metric.name != nullptr && name == field.metric.name;
    };
    for (std::size_t i = 0; i < first; ++i) begun = begun || is_of(fields[i]);
    if (begun) continue;
    out.family(std::string(prefix) + std::string(name), fields[first].counter ? "counter" : "gauge",
               fields[first].metric.help);
    for (std::size_t i = first; i < fields.size(); ++i) {
      const auto& field = fields[i];
      if (!is_of(field)) continue;
      for (const T& stats : all) {
        Labels labels = labels_of(stats);
        if (field.metric.label != nullptr) labels.emplace_back(field.metric.label, field.metric.value);
        const std::uint64_t value = stats.*field.member;
        const bool is_ms = ends_with(field.name, "_ms");
        out.sample(labels, is_ms ? number_text(static_cast<double>(value) / 1000) : std::to_string(value));
      }
    }
  }
}

void write_histogram(Writer& out, const Labels& labels, const LatencyStats& latency) {
  std::uint64_t below = 0;
  auto bucket = latency.buckets.begin();
  for (int bound = kFirstBound; bound <= kLastBound; ++bound) {
    const std::uint64_t bound_ns = std::uint64_t{1} << bound;
    for (; bucket != latency.buckets.end() && bucket->below_ns <= bound_ns; ++bucket) below += bucket->count;
    Labels with_bound = labels;
    with_bound.emplace_back("le", number_text(static_cast<double>(bound_ns) / 1e9));
    out.sample(with_bound, std::to_string(below), "_bucket");
  }
  Labels all = labels;
  all.emplace_back("le", "+Inf");
  out.sample(all, std::to_string(latency.count), "_bucket");
  out.sample(labels, number_text(static_cast<double>(latency.sum_ns) / 1e9), "_sum");
  out.sample(labels, std::to_string(latency.count), "_count");
}

constexpr std::array<std::string_view, 4> kOps{"read", "write", "flush", "discard"};

bool is_op(const std::string& name) { return std::find(kOps.begin(), kOps.end(), name) != kOps.end(); }

}  // namespace

std::string metrics_text(DeviceManager& manager, MetricsFormat format, const HealthWatch* watch) {
  const StatusReport report = manager.status();
  Writer out(format);
  out.family("build_info", "gauge", "The version that runs.");
  out.sample({{"version", kVersion}}, "1");
  out.family("health", "gauge", "0: ok, 1: warning, 2: critical.");
  out.sample({},
             std::to_string(static_cast<int>((watch != nullptr ? watch->health(report) : health_of(report)).level)));

  out.family("cache_dev_info", "gauge", "Cache devices.");
  for (const CacheDevStats& cache : report.cache_devs) {
    out.sample({{"cache_dev", cache.label},
                {"path", cache.path},
                {"uuid", cache.uuid},
                {"granularity", cache.granularity},
                {"ack", cache.ack}},
               "1");
  }
  out.family("cache_dev_running", "gauge", "0 where the cache device is gone, and its logical devices with it.");
  for (const CacheDevStats& cache : report.cache_devs) {
    out.sample({{"cache_dev", cache.label}}, cache.state == "running" ? "1" : "0");
  }
  write_numbers(out, "cache_dev_", cache_dev_numbers(), report.cache_devs, [](const CacheDevStats& cache) {
    return Labels{{"cache_dev", cache.label}};
  });

  const auto labels_of = [](const LogicDevStats& device) {
    return Labels{{"cache_dev", device.cache_dev}, {"logic_dev", device.name}};
  };
  out.family("logic_dev_info", "gauge", "Logical devices.");
  for (const LogicDevStats& device : report.logic_devs) {
    Labels labels = labels_of(device);
    labels.insert(labels.end(), {{"backing", device.backing}, {"mode", device.mode}, {"state", device.state}});
    out.sample(labels, "1");
  }
  out.family("logic_dev_running", "gauge", "1 where reads and writes are served.");
  for (const LogicDevStats& device : report.logic_devs) {
    out.sample(labels_of(device), device.state == "running" ? "1" : "0");
  }
  out.family("logic_dev_backing_failing", "gauge", "1 while writeback fails and is tried again.");
  for (const LogicDevStats& device : report.logic_devs) {
    out.sample(labels_of(device), device.backing_fails ? "1" : "0");
  }
  write_numbers(out, "logic_dev_", logic_dev_numbers(), report.logic_devs, labels_of);

  struct Family {
    const char* name;
    const char* label;
    const char* help;
    bool ops;
  };
  constexpr Family kFamilies[] = {
      {"logic_dev_request_duration_seconds", "op", "How long requests took; one in sixteen is measured.", true},
      {"logic_dev_phase_duration_seconds", "phase", "How long parts of requests, and the backing, took.", false}};
  std::vector<std::pair<Labels, LogicDevActivity>> activities;
  for (const LogicDevStats& device : report.logic_devs) {
    auto activity = manager.activity(device.name, false);
    if (activity) activities.emplace_back(labels_of(device), std::move(*activity));  // else it is gone since
  }
  for (const Family& family : kFamilies) {
    out.family(family.name, "histogram", family.help);
    for (const auto& [device_labels, activity] : activities) {
      for (const LatencyStats& latency : activity.latencies) {
        if (is_op(latency.name) != family.ops) continue;
        Labels labels = device_labels;
        labels.emplace_back(family.label, latency.name);
        write_histogram(out, labels, latency);
      }
    }
  }
  return out.finish();
}

const char* content_type(MetricsFormat format) {
  return format == MetricsFormat::openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                              : "text/plain; version=0.0.4; charset=utf-8";
}

MetricsFormat format_for(const std::string& accept) {
  if (accept.find("application/openmetrics-text") != std::string::npos) return MetricsFormat::openmetrics;
  return accept.find("text/plain") != std::string::npos ? MetricsFormat::prometheus : MetricsFormat::openmetrics;
}

}  // namespace pcache
