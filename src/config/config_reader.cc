#include "config/config_reader.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <utility>

#include "base/http_address.h"
#include "base/log_level.h"
#include "base/size_text.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

// A text of the file as part of one line.
std::string in_line(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  std::string out;
  for (const char c : text.substr(0, kLongest)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return out + (text.size() > kLongest ? "..." : "");
}

std::string in_quotes(std::string_view text) { return "'" + in_line(text) + "'"; }

std::string type_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "a number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

std::string key_text(const toml::key& key) { return std::string(key.str()); }

constexpr const char* kTables = "mount, cache_dev.LABEL and logic_dev.NAME";

}  // namespace

ConfigPlace ConfigReader::place_of(const toml::node& node) const {
  const auto begin = node.source().begin;
  return {file_, begin.line, begin.column};
}

ConfigPlace ConfigReader::place_of(const toml::key& key) const {
  const auto begin = key.source().begin;
  return {file_, begin.line, begin.column};
}

void ConfigReader::error(ConfigPlace place, std::string message) {
  reading_.findings.push_back({true, std::move(place), std::move(message)});
}

void ConfigReader::add(const std::string& file, const std::string& text) {
  file_ = file;
  reading_.files.push_back(file);
  toml::table tables;
  try {
    tables = toml::parse(text, file);
  } catch (const toml::parse_error& wrong) {
    std::string why(wrong.description());
    std::replace_if(
        why.begin(), why.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    return error({file, wrong.source().begin.line, wrong.source().begin.column}, why);
  }
  for (const auto& [key, node] : tables) {
    if (key == "mount") {
      read_mount(key, node);
    } else if (key == "cache_dev") {
      for_each("cache_dev.LABEL", node, [this](const auto& k, const auto& n) { read_cache_dev(k, n); });
    } else if (key == "logic_dev") {
      for_each("logic_dev.NAME", node, [this](const auto& k, const auto& n) { read_logic_dev(k, n); });
    } else {
      error(place_of(key), "there is no table " + in_quotes(key.str()) + "; there are " + kTables);
    }
  }
}

// Calls `read` with each table of a table of tables.
template <typename Read>
void ConfigReader::for_each(const char* what, const toml::node& node, Read read) {
  const toml::table* const tables = node.as_table();
  if (tables == nullptr) return error(place_of(node), std::string("this is to be a table [") + what + "]");
  for (const auto& [key, table] : *tables) {
    if (table.is_table()) {
      read(key, table);
    } else {
      error(place_of(key), in_quotes(key.str()) + " stands alone; it belongs into a table [" + what + "]");
    }
  }
}

bool ConfigReader::is_first(const std::string& what, const std::string& same, const ConfigPlace& place) {
  const auto [before, is_first] = seen_.emplace(same, place);
  if (!is_first) error(place, what + " is configured already at " + to_string(before->second));
  return is_first;
}

bool ConfigReader::read_text(const toml::key& key, const toml::node& node, std::string& out) {
  if (const auto* text = node.as_string()) {
    out = text->get();
    if (std::none_of(out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
      return true;
    error(place_of(node), key_text(key) + " contains a control character");
    return false;
  }
  error(place_of(node), key_text(key) + " is to be a text, not " + type_of(node));
  return false;
}

bool ConfigReader::read_path(const toml::key& key, const toml::node& node, std::string& out) {
  if (!read_text(key, node, out)) return false;
  if (out.starts_with('/')) {
    std::error_code unknown;
    const std::filesystem::path path = std::filesystem::weakly_canonical(out, unknown);
    return is_first("path " + out, "path " + (unknown ? out : path.string()), place_of(node));
  }
  error(place_of(node), key_text(key) + " is to be a whole path, which begins with /, not " + in_quotes(out));
  return false;
}

bool ConfigReader::read_word(const toml::key& key, const toml::node& node, std::string& out) {
  if (const auto* number = node.as_integer()) {
    out = std::to_string(number->get());
    return true;
  }
  if (node.is_string()) return read_text(key, node, out);
  error(place_of(node), key_text(key) + " is to be a text or a whole number, not " + type_of(node));
  return false;
}

void ConfigReader::read_setting(const toml::key& key, const toml::node& node, Settings& settings) {
  std::string word;
  const auto setting = find_setting(key.str());
  // As a number of TOML, 0o640 would be 416.
  const bool is_text = setting_info(*setting).kind == SettingKind::permissions;
  if (!(is_text ? read_text(key, node, word) : read_word(key, node, word))) return;
  const auto value = parse_setting(*setting, word);
  if (!value) return error(place_of(node), value.status().message());
  settings.set(*setting, *value);
}

void ConfigReader::read_mount(const toml::key& key, const toml::node& node) {
  const toml::table* const table = node.as_table();
  if (table == nullptr) return error(place_of(node), "this is to be a table [mount]");
  if (!is_first("[mount]", place_of(key))) return;
  for (const auto& [name, value] : *table) {
    if (name == "allow_other") {
      if (const auto* flag = value.as_boolean()) {
        reading_.config.allow_other = flag->get();
      } else {
        error(place_of(value), "allow_other is to be true or false, not " + type_of(value));
      }
    } else if (name == "http") {
      if (!read_text(name, value, reading_.config.http)) continue;
      const auto address = parse_http_address(reading_.config.http);
      if (!address) error(place_of(value), "http: " + address.status().message());
    } else if (name == "log_level") {
      if (!read_text(name, value, reading_.config.log_level)) continue;
      if (Status status = check_log_level(reading_.config.log_level); !status.ok()) {
        error(place_of(value), status.message());
      }
    } else {
      error(place_of(name),
            "there is no " + in_quotes(name.str()) + " in [mount]; there are allow_other, http, log_level");
    }
  }
}

void ConfigReader::read_cache_dev(const toml::key& key, const toml::node& node) {
  ConfiguredCacheDev cache_dev;
  cache_dev.label = key.str();
  cache_dev.place = place_of(key);
  if (Status status = check_cache_dev_label(cache_dev.label); !status.ok() || cache_dev.label.empty()) {
    return error(cache_dev.place, status.ok() ? "the label of a cache device is empty" : status.message());
  }
  if (!is_first("cache device " + cache_dev.label, cache_dev.place)) return;
  for (const auto& [name, value] : *node.as_table()) {
    std::string word;
    if (name == "path") {
      (void)read_path(name, value, cache_dev.path);
    } else if (name == "ack") {
      if (!read_text(name, value, word)) continue;
      if (word == "durable" || word == "flush") {
        cache_dev.ack = word == "durable" ? Ack::durable : Ack::flush;
      } else {
        error(place_of(value), "ack is to be durable or flush, not " + in_quotes(word));
      }
    } else if (name == "epoch_max_ms") {
      if (!read_word(name, value, word)) continue;
      CacheOptions options;
      options.epoch_max_ms.emplace();
      const auto [end, wrong] = std::from_chars(word.data(), word.data() + word.size(), *options.epoch_max_ms);
      const bool is_number = wrong == std::errc() && end == word.data() + word.size();
      if (is_number && check_cache_options(options).ok()) {
        cache_dev.epoch_max_ms = options.epoch_max_ms;
      } else {
        error(place_of(value), "epoch_max_ms is to be a number from 10 to 60000, not " + in_quotes(word));
      }
    } else if (name == "defaults") {
      const toml::table* const defaults = value.as_table();
      if (defaults == nullptr) {
        error(place_of(value), "defaults is to be a table, not " + type_of(value));
        continue;
      }
      for (const auto& [setting, chosen] : *defaults) {
        if (find_setting(setting.str())) {
          read_setting(setting, chosen, cache_dev.defaults);
        } else {
          error(place_of(setting), unknown_setting(in_line(setting.str())).message());
        }
      }
      if (Status status = check_settings(cache_dev.defaults); !status.ok()) error(place_of(name), status.message());
    } else {
      error(place_of(name), "there is no " + in_quotes(name.str()) +
                                " in a table [cache_dev.LABEL]; there are path, ack, epoch_max_ms, defaults");
    }
  }
  if (!node.as_table()->contains("path")) {
    error(cache_dev.place, "cache device " + cache_dev.label + " has no path");
  }
  reading_.config.cache_devs.push_back(std::move(cache_dev));
}

void ConfigReader::read_logic_dev(const toml::key& key, const toml::node& node) {
  ConfiguredLogicDev device;
  device.name = key.str();
  device.place = place_of(key);
  if (Status status = check_logic_dev_name(device.name); !status.ok()) {
    return error(device.place, in_quotes(key.str()) + " cannot name a logical device: see pcachefs add");
  }
  if (!is_first("logical device " + device.name, device.place)) return;
  for (const auto& [name, value] : *node.as_table()) {
    std::string word;
    if (name == "backing") {
      (void)read_path(name, value, device.backing);
    } else if (name == "cache_dev") {
      (void)read_text(name, value, device.cache_dev);
    } else if (name == "size") {
      if (!read_word(name, value, word)) continue;
      const auto size = parse_size(word);
      if (size) {
        device.size_bytes = *size;
      } else {
        error(place_of(value), size.status().message());
      }
    } else if (find_setting(name.str())) {
      read_setting(name, value, device.settings);
    } else {
      error(place_of(name), "there is no " + in_quotes(name.str()) +
                                " in a table [logic_dev.NAME]; there are backing, cache_dev, size, " + setting_names());
    }
  }
  if (!node.as_table()->contains("backing")) {
    error(device.place, "logical device " + device.name + " has no backing");
  }
  reading_.config.logic_devs.push_back(std::move(device));
}

// Which cache device each one is on may stand in another file.
void ConfigReader::look_at_logic_devs() {
  const auto& cache_devs = reading_.config.cache_devs;
  for (ConfiguredLogicDev& device : reading_.config.logic_devs) {
    if (device.cache_dev.empty()) {
      if (cache_devs.size() == 1) {
        device.cache_dev = cache_devs.front().label;
      } else {
        error(device.place, "logical device " + device.name + " has no cache_dev, and there is not exactly one");
        continue;
      }
    }
    const auto on = std::find_if(cache_devs.begin(), cache_devs.end(),
                                 [&](const ConfiguredCacheDev& c) { return c.label == device.cache_dev; });
    if (on == cache_devs.end()) {
      error(device.place, "logical device " + device.name + ": there is no [cache_dev." + in_quotes(device.cache_dev) +
                              "] in the configuration");
      continue;
    }
    Settings together = on->defaults;
    together.merge(device.settings);
    if (Status status = check_settings(together); !status.ok()) {
      error(device.place, "logical device " + device.name + ": " + status.message());
    }
  }
}

ConfigReading ConfigReader::finish() {
  // What is wrong in one place would be wrong in others because of that.
  if (reading_.findings.empty()) look_at_logic_devs();
  std::stable_sort(reading_.findings.begin(), reading_.findings.end(), [&](const auto& a, const auto& b) {
    const auto order = [&](const ConfigFinding& finding) {
      const auto file = std::find(reading_.files.begin(), reading_.files.end(), finding.place.file);
      return std::tuple(file, finding.place.line, finding.place.column);
    };
    return order(a) < order(b);
  });
  return std::move(reading_);
}

}  // namespace pcache
