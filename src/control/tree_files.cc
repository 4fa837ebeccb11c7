#include "control/tree_files.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "control/command_table.h"
#include "control/driver_terms.h"
#include "control/parameters.h"
#include "control/setting_json.h"
#include "control/status_json.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

std::uint64_t number(const json& object, const char* key) { return object.at(key).get<std::uint64_t>(); }
std::string text(const json& object, const char* key) { return object.at(key).get<std::string>(); }

std::string dump(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace); }

// The reply to a command that only looks.
Result<json> look(const TreePlace& place, const char* command, const json& args = json::object()) {
  return run_command(*find_command(command), place.context, args);
}

std::string value_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
  return value.dump();
}

// A file for each single value of `sample`, but for those in `but`.
void add_values(std::vector<TreeFile>& files, const json& sample, const json* TreePlace::*object,
                const std::set<std::string>& but) {
  for (const auto& [key, value] : sample.items()) {
    if (value.is_structured() || but.contains(key)) continue;
    files.push_back({key,
                     [object, key = key](const TreePlace& place) -> Result<std::string> {
                       return value_text((place.*object)->at(key));
                     },
                     nullptr, nullptr});
  }
}

// What status says of one of each, with nothing known.
json sample_status() { return status_to_json({{CacheDevStats()}, {LogicDevStats()}}, "", {}); }

std::vector<TreeFile> sorted(std::vector<TreeFile> files) {
  std::sort(files.begin(), files.end(), [](const TreeFile& a, const TreeFile& b) { return a.name < b.name; });
  return files;
}

std::string without_newline(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// The words of parameters as the arguments of a command.
Status take_words(const Parameters& given, const char* command, json& args) {
  for (const Argument& argument : find_command(command)->args) {
    const auto it = given.find(argument.name);
    if (it == given.end()) continue;
    auto value = argument_from_word(argument, it->second, std::string("parameter '") + argument.name + "'");
    if (!value) return value.status();
    args[argument.name] = std::move(*value);
  }
  return Status();
}

Status check_path(const std::string& path) {
  if (path.front() == '/') return Status();
  return Status(Errc::invalid, "parameter 'path' does not begin with '/': " + path);
}

Result<std::uint64_t> whole_number(const char* what, const std::string& word, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (word.empty() || error != std::errc() || end != word.data() + word.size() || value > most) {
    return Status(Errc::invalid, std::string(what) + " is not a whole number" +
                                     (most == UINT64_MAX ? "" : " from 0 to " + std::to_string(most)) + ": '" + word +
                                     "'");
  }
  return value;
}

// --- The tree itself

Result<TreeOrder> register_order(const TreePlace&, const std::string& written) {
  const auto given = parse_parameters(written, {{"path", true}, {"format"}, {"force"}, {"size"}, {"label"}});
  if (!given) return given.status();
  if (Status status = check_path(given->at("path")); !status.ok()) return status;
  TreeOrder order{"register", json::object()};
  if (Status status = take_words(*given, order.command, order.args); !status.ok()) return status;
  // As with the kernel's driver, force=1 without format=1 asks for nothing.
  if (!order.args.value("format", false)) order.args.erase("force");
  return order;
}

Result<TreeOrder> unregister_order(const TreePlace& place, const std::string& written) {
  const auto given = parse_parameters(written, {{"cache_dev_id", true}, {"no_flush"}});
  if (!given) return given.status();
  const auto id = whole_number("parameter 'cache_dev_id'", given->at("cache_dev_id"), UINT64_MAX);
  if (!id) return id.status();
  for (const json& cache : place.status.at("cache_devs")) {
    if (number(cache, "cache_dev_id") != *id) continue;
    TreeOrder order{"unregister", {{"cache", text(cache, "label")}}};
    if (Status status = take_words(*given, order.command, order.args); !status.ok()) return status;
    return order;
  }
  return Status(Errc::not_found, "there is no cache device with cache_dev_id " + std::to_string(*id));
}

std::vector<TreeFile> make_root_files() {
  const auto reply = [](const char* command) {
    return [command](const TreePlace& place) -> Result<std::string> {
      const auto answer = look(place, command);
      if (!answer) return answer.status();
      return dump(*answer);
    };
  };
  return sorted({
      {"cache_dev_register", nullptr, register_order, nullptr},
      {"cache_dev_unregister", nullptr, unregister_order, nullptr},
      {"events", reply("events"), nullptr, nullptr},
      {"health",
       [](const TreePlace& place) -> Result<std::string> {
         const json& health = place.status.at("health");
         std::string lines = text(health, "level");
         for (const json& reason : health.at("reasons")) lines += "\n" + reason.get<std::string>();
         return lines;
       },
       nullptr, nullptr},
      {"jobs", reply("jobs"), nullptr, nullptr},
      {"status", reply("status"), nullptr, nullptr},
      {"version", [](const TreePlace&) -> Result<std::string> { return std::string(kVersion); }, nullptr, nullptr},
  });
}

// --- A cache device

std::string info(const TreePlace& place) {
  return "magic: " + driver_magic(*place.cache) +
         "\nversion: " + std::to_string(number(*place.cache, "media_version")) +
         "\nflags: 0\n\nsegment_num: " + std::to_string(number(*place.cache, "segments"));
}

constexpr std::uint64_t kMostQueues = 128;  // of the kernel's driver

Result<TreeOrder> start_order(const TreePlace& place, const std::string& written) {
  const auto given =
      parse_parameters(written, {{"op"}, {"path", true}, {"name"}, {"cache_size"}, {"mode"}, {"data_crc"}, {"queues"}});
  if (!given) return given.status();
  if (Status status = check_path(given->at("path")); !status.ok()) return status;
  if (const auto crc = given->find("data_crc"); crc != given->end() && crc->second != "1" && crc->second != "true") {
    return Status(Errc::invalid,
                  "parameter 'data_crc' can only be 1: all data has checksums, not '" + crc->second + "'");
  }
  if (const auto queues = given->find("queues"); queues != given->end()) {
    // As the driver has it; a mount has no queues of a logical device's own.
    const auto count = whole_number("parameter 'queues'", queues->second, kMostQueues);
    if (!count) return count.status();
    if (*count == 0) return Status(Errc::invalid, "parameter 'queues' is 0");
  }
  json settings = json::object();
  if (const auto mode = given->find("mode"); mode != given->end()) {
    if (const auto known = parse_setting(Setting::mode, mode->second); !known) {
      return known.status().with_prefix("parameter 'mode'");
    }
    settings["mode"] = mode->second;
  }
  if (const auto size = given->find("cache_size"); size != given->end()) {
    const auto mib = whole_number("parameter 'cache_size' (MiB)", size->second, UINT32_MAX);
    if (!mib) return mib.status();
    if (*mib == 0) return Status(Errc::invalid, "parameter 'cache_size' (MiB) is 0");
    settings["share_max"] = std::to_string(*mib) + "M";
  }
  const auto name = given->find("name");
  json args = {{"name", name == given->end() ? free_driver_name(place.status) : name->second},
               {"backing", given->at("path")},
               {"cache", text(*place.cache, "label")}};
  if (!settings.empty()) args["settings"] = std::move(settings);
  return TreeOrder{"add", std::move(args)};
}

Result<TreeOrder> stop_order(const TreePlace& place, const std::string& written) {
  const auto given = parse_parameters(written, {{"op"}, {"backing_id", true}});
  if (!given) return given.status();
  const auto id = whole_number("parameter 'backing_id'", given->at("backing_id"), UINT64_MAX);
  if (!id) return id.status();
  for (const json& device : place.status.at("logic_devs")) {
    if (device.at("cache_dev") != place.cache->at("label") || number(device, "backing_id") != *id) continue;
    return TreeOrder{"remove", {{"name", text(device, "name")}}};
  }
  return Status(Errc::not_found, "cache device " + text(*place.cache, "label") + " has no backing device with " +
                                     "backing_id " + std::to_string(*id));
}

// What `op` is decides which parameters there are.
Result<TreeOrder> adm_order(const TreePlace& place, const std::string& written) {
  std::string op = "backing-start";
  std::string_view rest = written;
  while (!rest.empty()) {
    const std::string_view one = take_parameter(rest);
    if (one.starts_with("op=")) op = one.substr(3);
  }
  if (op == "backing-start") return start_order(place, written);
  if (op == "backing-stop") return stop_order(place, written);
  if (op.empty()) return Status(Errc::invalid, "parameter 'op' has no value");
  return Status(Errc::invalid, "parameter 'op' is backing-start or backing-stop, not '" + op.substr(0, 64) + "'");
}

std::vector<TreeFile> make_cache_files() {
  std::vector<TreeFile> files = {
      {"adm", nullptr, adm_order, nullptr},
      {"info", [](const TreePlace& place) -> Result<std::string> { return info(place); }, nullptr, nullptr},
  };
  add_values(files, sample_status().at("cache_devs").at(0), &TreePlace::cache, {});
  return sorted(std::move(files));
}

// --- A backing device

std::string name_of(const TreePlace& place) { return text(*place.device, "name"); }

Result<std::string> read_setting(const TreePlace& place, const char* key) {
  const auto reply = look(place, "get", {{"name", name_of(place)}, {"key", key}});
  if (!reply) return reply.status();
  return setting_text(key, reply->at("settings").at(0).at("value"));
}

TreeOrder set_order(const TreePlace& place, const char* key, const std::string& value) {
  return {"set", {{"name", name_of(place)}, {"settings", {{key, value}}}}};
}

TreeFile setting_file(const SettingInfo& info) {
  const char* const key = info.name;
  return {key, [key](const TreePlace& place) { return read_setting(place, key); },
          [key, setting = info.setting](const TreePlace& place, const std::string& written) -> Result<TreeOrder> {
            const std::string value = without_newline(written);
            if (const auto parsed = parse_setting(setting, value); !parsed) return parsed.status();
            return set_order(place, key, value);
          },
          nullptr};
}

constexpr std::uint64_t kMostGcPercent = 90;  // of the kernel's driver

Result<std::string> read_gc_percent(const TreePlace& place) {
  const auto written = read_setting(place, "gc_high");
  if (!written) return written.status();
  const auto percent = driver_gc_percent(*place.cache, *written);
  if (!percent) return percent.status();
  return std::to_string(*percent);
}

Result<TreeOrder> gc_percent_order(const TreePlace& place, const std::string& written) {
  const auto percent = whole_number("cache_gc_percent", without_newline(written), kMostGcPercent);
  if (!percent) return percent.status();
  return set_order(place, "gc_high", std::to_string(*percent) + "%");
}

// A line for each number since the last reset, and for each latency that was measured.
Result<std::string> read_stats(const TreePlace& place) {
  const auto reply = look(place, "stats", {{"name", name_of(place)}});
  if (!reply) return reply.status();
  std::string lines = "since_ms " + value_text(reply->at("since_ms"));
  for (const auto& field : logic_dev_numbers()) {
    if (field.counter)
      lines += std::string("\n") + field.name + " " + value_text(reply->at("logic_dev").at(field.name));
  }
  for (const json& latency : reply->at("latencies")) {
    for (const char* const key : {"count", "mean_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns"}) {
      lines += "\n" + text(latency, "name") + "_" + key + " " + value_text(latency.at(key));
    }
  }
  return lines;
}

Result<std::string> read_lost_ranges(const TreePlace& place) {
  std::string lines;
  for (const json& range : place.device->at("lost_ranges")) {
    lines += (lines.empty() ? "" : "\n") + value_text(range.at("offset")) + " " + value_text(range.at("length"));
  }
  return lines;
}

std::vector<TreeFile> make_backing_files() {
  const auto reads = [](auto value) {
    return [value](const TreePlace& place) -> Result<std::string> { return value(place); };
  };
  std::vector<TreeFile> files = {
      {"path", reads([](const TreePlace& place) { return text(*place.device, "backing"); }), nullptr, nullptr},
      {"mapped_id", reads(name_of), nullptr, nullptr},
      {"cache_segs", reads([](const TreePlace& p) { return std::to_string(driver_segments(*p.cache, *p.device)); }),
       nullptr, nullptr},
      {"cache_used_segs",
       reads([](const TreePlace& p) { return std::to_string(driver_used_segments(*p.cache, *p.device)); }), nullptr,
       nullptr},
      {"cache_gc_percent", read_gc_percent, gc_percent_order, nullptr},
      {"lost_ranges", read_lost_ranges, nullptr, nullptr},
      {"stats", read_stats, nullptr,
       [](const TreePlace& place) {
         return TreeOrder{"stats-reset", {{"name", name_of(place)}}};
       }},
  };
  std::set<std::string> named = {"backing"};
  for (const SettingInfo& setting : all_settings()) {
    files.push_back(setting_file(setting));
    named.insert(setting.name);
  }
  add_values(files, sample_status().at("logic_devs").at(0), &TreePlace::device, named);
  return sorted(std::move(files));
}

}  // namespace

const std::vector<TreeFile>& tree_root_files() {
  static const std::vector<TreeFile> files = make_root_files();
  return files;
}

const std::vector<TreeFile>& tree_cache_files() {
  static const std::vector<TreeFile> files = make_cache_files();
  return files;
}

const std::vector<TreeFile>& tree_backing_files() {
  static const std::vector<TreeFile> files = make_backing_files();
  return files;
}

}  // namespace pcache
