#include "cli/stats_rate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/output.h"
#include "cli/stats_change.h"
#include "cli/stats_text.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

constexpr std::uint64_t kHeadingEvery = 24;

}  // namespace

json stats_rate(const json& before, const json& after) {
  const bool anew = number(after, "since_ms") < number(before, "since_ms");
  const json none = json::object();
  const json& from = anew ? none : before;
  const json now = object(after, "logic_dev");
  const json then = object(from, "logic_dev");
  const std::uint64_t ms = std::max<std::uint64_t>(number(after, "since_ms") - number(from, "since_ms"), 1);
  const auto more = [&](const char* key) { return growth(then, now, key); };
  const auto per_second = [&](const char* key) { return more(key) * 1000 / ms; };
  const std::uint64_t hits = more("read_hits");
  const std::uint64_t blocks = hits + more("read_misses");
  json rate = {{"name", text(now, "name")},
               {"interval_ms", ms},
               {"reads_per_second", per_second("reads")},
               {"writes_per_second", per_second("writes")},
               {"read_bytes_per_second", per_second("read_bytes")},
               {"write_bytes_per_second", per_second("write_bytes")},
               {"written_back_bytes_per_second", per_second("written_back_bytes")},
               {"dirty_bytes", number(now, "dirty_bytes")}};
  if (blocks != 0) rate["read_hit_percent"] = hits * 100 / blocks;
  for (const char* name : {"read", "write"}) {
    const LatencyStats latency = latency_between(from, after, name);
    if (latency.count != 0) rate[std::string(name) + "_p99_ns"] = latency.percentile_ns(0.99);
  }
  return rate;
}

namespace {

constexpr const char* kHeadings[] = {"READ/s",   "WRITE/s",   "READ B/s", "WRITE B/s", "HIT %",
                                     "p99 READ", "p99 WRITE", "DIRTY",    "BACK B/s"};

}  // namespace

std::string rate_heading(const OutputStyle& style) {
  if (style.bare) return "";
  std::string line;
  for (const char* heading : kHeadings) {
    char cell[32];
    std::snprintf(cell, sizeof cell, "%11s", heading);
    line += cell;
  }
  return line + "\n";
}

std::string rate_text(const json& rate, const OutputStyle& style) {
  const auto count = [&](const char* key) { return std::to_string(number(rate, key)); };
  const auto size = [&](const char* key) { return size_text(number(rate, key), style); };
  const auto known = [&](const char* key, const std::string& shown) { return rate.contains(key) ? shown : "-"; };
  const auto time = [&](const char* key) {
    return known(key, style.exact ? count(key) : duration_text(number(rate, key)));
  };
  const std::string cells[] = {count("reads_per_second"),
                               count("writes_per_second"),
                               size("read_bytes_per_second"),
                               size("write_bytes_per_second"),
                               known("read_hit_percent", count("read_hit_percent")),
                               time("read_p99_ns"),
                               time("write_p99_ns"),
                               size("dirty_bytes"),
                               size("written_back_bytes_per_second")};
  std::string line;
  for (const std::string& cell : cells) {
    char padded[64];
    std::snprintf(padded, sizeof padded, "%11s", cell.c_str());
    line += style.bare ? (line.empty() ? "" : "\t") + cell : padded;
  }
  return line + "\n";
}

int run_rates(const std::string& mount, const RateArgs& args, const OutputStyle& style, bool as_json) {
  const json name = {{"name", args.name}};
  auto before = ask(mount, "stats", name);
  if (!before) return report(before.status());
  for (std::uint64_t line = 0; args.count == 0 || line < args.count; ++line) {
    std::this_thread::sleep_for(std::chrono::duration<double>(args.seconds));
    auto after = ask(mount, "stats", name);
    if (!after) return report(after.status());
    json rate = stats_rate(*before, *after);
    rate["schema"] = schema_json();
    const bool heads = line % kHeadingEvery == 0;
    const int code =
        as_json ? print_json_line(rate) : print((heads ? rate_heading(style) : "") + rate_text(rate, style));
    if (code != 0) return code;
    before = std::move(after);
  }
  return 0;
}

}  // namespace pcache
