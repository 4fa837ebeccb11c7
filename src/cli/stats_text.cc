#include "cli/stats_text.h"

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "cli/json_fields.h"
#include "cli/output.h"

namespace pcache {
namespace {

using nlohmann::json;

std::string line(const char* format, auto... values) {
  char text[200];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string histogram(const json& latency) {
  constexpr std::uint64_t kWidth = 40;
  const json buckets = list(latency, "buckets");
  std::uint64_t most = 1;
  for (const json& bucket : buckets) most = std::max(most, number(bucket, "count"));
  std::string out;
  for (const json& bucket : buckets) {
    const std::uint64_t count = number(bucket, "count");
    const auto bar = static_cast<std::size_t>(static_cast<double>(count) / static_cast<double>(most) * kWidth);
    out += line("    below %-10s %12llu  ", duration_text(number(bucket, "below_ns")).c_str(),
                static_cast<unsigned long long>(count)) +
           std::string(bar, '#') + "\n";
  }
  return out;
}

}  // namespace

std::string duration_text(std::uint64_t nanoseconds) {
  constexpr const char* kUnits[] = {"ns", "us", "ms", "s"};
  if (nanoseconds < 1000) return std::to_string(nanoseconds) + " ns";
  double value = static_cast<double>(nanoseconds);
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, "%.*f %s", value < 10 ? 2 : 1, value, kUnits[unit]);
  return text;
}

namespace {

std::string bare_stats(const json& stats, const json& device, bool histograms) {
  std::string out = "since_ms\t" + std::to_string(number(stats, "since_ms")) + "\n";
  for (const auto& [key, value] : device.items()) {
    if (value.is_number_unsigned()) out += key + "\t" + value.dump() + "\n";
  }
  for (const json& latency : list(stats, "latencies")) {
    const std::string name = text(latency, "name");
    for (const char* key : {"count", "mean_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns"}) {
      out += name + "." + key + "\t" + std::to_string(number(latency, key)) + "\n";
    }
    if (!histograms) continue;
    for (const json& bucket : list(latency, "buckets")) {
      out += name + ".below_ns." + std::to_string(number(bucket, "below_ns")) + "\t" +
             std::to_string(number(bucket, "count")) + "\n";
    }
  }
  return out;
}

// The same lines with one column more, in front.
std::string with_name(const std::string& name, const std::string& lines) {
  std::istringstream in(lines);
  std::string out;
  for (std::string line; std::getline(in, line);) out += printable(name) + "\t" + line + "\n";
  return out;
}

}  // namespace

std::string stats_text(const json& stats, bool histograms, const OutputStyle& style) {
  if (stats.contains("stats")) {
    std::string all;
    for (const json& one : list(stats, "stats")) {
      if (style.bare) {
        all += with_name(text(object(one, "logic_dev"), "name"), stats_text(one, histograms, style));
      } else {
        all += stats_text(one, histograms, style);
      }
    }
    return all;
  }
  const auto device = stats.find("logic_dev");
  std::string out;
  if (device == stats.end() || !device->is_object()) return out;
  if (style.bare) return bare_stats(stats, *device, histograms);
  out += "logical device " + text(*device, "name") + ", " +
         line("%.1f", static_cast<double>(number(stats, "since_ms")) / 1000) + " s\n";
  for (const auto& [key, value] : device->items()) {
    if (!value.is_number_unsigned()) continue;
    out += line("  %-24s %llu\n", key.c_str(), static_cast<unsigned long long>(value.get<std::uint64_t>()));
  }
  out += line("  %-14s %12s %10s %10s %10s %10s %10s\n", "", "measured", "mean", "p50", "p99", "p99.9", "max");
  for (const json& latency : list(stats, "latencies")) {
    if (number(latency, "count") == 0) continue;
    const auto of = [&](const char* key) {
      return style.exact ? std::to_string(number(latency, key)) : duration_text(number(latency, key));
    };
    out += line("  %-14s %12llu %10s %10s %10s %10s %10s\n", text(latency, "name").c_str(),
                static_cast<unsigned long long>(number(latency, "count")), of("mean_ns").c_str(), of("p50_ns").c_str(),
                of("p99_ns").c_str(), of("p999_ns").c_str(), of("max_ns").c_str());
    if (histograms) out += histogram(latency);
  }
  return out;
}

}  // namespace pcache
