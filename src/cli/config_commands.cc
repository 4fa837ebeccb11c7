#include "cli/config_commands.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/same_file.h"
#include "cli/absolute.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/mount_table.h"
#include "cli/output.h"
#include "cli/save_file.h"
#include "control/setting_json.h"
#include "control/version.h"
#include "pcache/config.h"

namespace pcache {

using nlohmann::json;

namespace {

Result<ConfigReading> read(const std::string& path) { return read_config(path.empty() ? config_dir() : path); }

// A link that leads nowhere is there, and what cannot be looked at may be.
bool is_there(const std::string& path) {
  std::error_code error;
  return std::filesystem::symlink_status(path, error).type() != std::filesystem::file_type::not_found;
}

std::string finding_text(const ConfigFinding& finding) {
  return to_string(finding.place) + ": " + (finding.is_error ? "error: " : "warning: ") + finding.message;
}

// As the TOML has it.
json config_json(const Config& config) {
  json cache_devs = json::object();
  for (const ConfiguredCacheDev& cache_dev : config.cache_devs) {
    json& one = cache_devs[cache_dev.label] = {{"path", cache_dev.path}};
    if (cache_dev.ack) one["ack"] = to_string(*cache_dev.ack);
    if (cache_dev.epoch_max_ms) one["epoch_max_ms"] = *cache_dev.epoch_max_ms;
    if (!cache_dev.defaults.empty()) one["defaults"] = settings_to_json(cache_dev.defaults);
  }
  json logic_devs = json::object();
  for (const ConfiguredLogicDev& device : config.logic_devs) {
    json& one = logic_devs[device.name] = settings_to_json(device.settings);
    one["backing"] = device.backing;
    one["cache_dev"] = device.cache_dev;
    if (device.size_bytes) one["size"] = *device.size_bytes;
  }
  json mount = {{"allow_other", config.allow_other}, {"http", config.http}};
  if (!config.log_level.empty()) mount["log_level"] = config.log_level;
  return {{"mount", std::move(mount)}, {"cache_dev", std::move(cache_devs)}, {"logic_dev", std::move(logic_devs)}};
}

json config_reply(const Config& config) { return {{"schema", schema_json()}, {"config", config_json(config)}}; }

// The setting as it shall be after the next mount: what was chosen for this one alone does not count.
void take_lasting(const json& shown, Settings& settings) {
  const auto setting = find_setting(text(shown, "name"));
  const std::string origin = text(shown, "origin");
  const bool lasts = origin == "stored" || origin == "config";
  const char* const key = lasts ? "value" : shown.contains("configured") ? "configured" : "stored";
  const std::string value = setting_word(shown.value(key, json()));
  if (!setting || value.empty()) return;
  if (const auto parsed = parse_setting(*setting, value)) settings.set(*setting, *parsed);
}

// Whether a cache device that is missing is there all the same, under another label or path.
bool is_elsewhere(const json& missing, const json& cache_devs) {
  return std::any_of(cache_devs.begin(), cache_devs.end(), [&](const json& other) {
    if (text(other, "state") == "missing") return false;
    return text(other, "label") == text(missing, "label") || is_same_file(text(other, "path"), text(missing, "path"));
  });
}

// What a mount is made of. Of what is missing its settings are not known; `gaps` says so, a line each.
Result<Config> config_in_force(const std::string& mount, std::vector<std::string>& gaps) {
  const auto status = ask(mount, "status", json::object());
  if (!status) return status.status();
  const auto server = ask(mount, "ping", json::object());
  if (!server) return server.status();
  Config config;
  config.http = text(*server, "http");
  const std::string options = "," + mount_options(text(*server, "mount")).value_or("") + ",";
  config.allow_other = options.find(",allow_other,") != std::string::npos;
  const json cache_devs = list(*status, "cache_devs");
  for (const json& shown : cache_devs) {
    if (text(shown, "state") == "missing") {
      if (is_elsewhere(shown, cache_devs)) continue;
      gaps.push_back("cache device " + text(shown, "label") +
                     " is missing: of the logical devices on it those that are configured are saved, without settings");
    }
    ConfiguredCacheDev cache_dev;
    cache_dev.label = text(shown, "label");
    cache_dev.path = text(shown, "path");
    if (const std::string ack = text(shown, "ack"); !ack.empty()) {
      cache_dev.ack = ack == "durable" ? Ack::durable : Ack::flush;
    }
    const std::uint64_t epoch_max_ms = number(shown, "epoch_max_ms");
    if (epoch_max_ms != 0 && epoch_max_ms != kEpochMaxMs) cache_dev.epoch_max_ms = epoch_max_ms;
    config.cache_devs.push_back(std::move(cache_dev));
  }
  for (const json& shown : list(*status, "logic_devs")) {
    if (text(shown, "state") == "parked") continue;
    ConfiguredLogicDev device;
    device.name = text(shown, "name");
    device.backing = text(shown, "backing");
    device.cache_dev = text(shown, "cache_dev");
    if (text(shown, "state") == "missing") {
      const bool has_place = std::any_of(config.cache_devs.begin(), config.cache_devs.end(),
                                         [&](const auto& cache_dev) { return cache_dev.label == device.cache_dev; });
      gaps.push_back("logical device " + device.name + " is missing: it is saved " +
                     (has_place ? "without settings" : "not at all, as there is no cache device " + device.cache_dev));
      if (has_place) config.logic_devs.push_back(std::move(device));
      continue;
    }
    const auto settings = ask(mount, "get", {{"name", device.name}});
    if (!settings) return settings.status();
    for (const json& setting : list(*settings, "settings")) take_lasting(setting, device.settings);
    config.logic_devs.push_back(std::move(device));
  }
  return config;
}

// Whether `text` in `file` can be read, also together with the files that are read with it. Errors: invalid, naming
// those.
Status check_fits(const std::string& file, const std::string& text) {
  if (const Status alone = parse_config(text, file).status(); !alone.ok()) {
    return alone.with_prefix("nothing was written, since it could not be read again");
  }
  const auto together = read_config_with(file, text);
  if (!together) return together.status();
  const Status status = together->status();
  if (status.ok()) return status;
  std::string others;
  for (const std::string& other : together->files) {
    if (other != absolute(file)) others += (others.empty() ? "" : ", ") + other;
  }
  return status.with_prefix("nothing was written, since " + file + " could not be read together with " + others +
                            ": move those away, or save to a file in another directory");
}

// Brings a mount to what is configured, a step at a time. A step that fails is told, and the others are taken.
class Restore {
 public:
  Restore(std::string mount, json status) : mount_(std::move(mount)), status_(std::move(status)) {}

  void look_again(json status) { status_ = std::move(status); }

  void cache_dev(const ConfiguredCacheDev& wanted) {
    for (const json& shown : list(status_, "cache_devs")) {
      if (text(shown, "label") == wanted.label && text(shown, "state") != "missing") return;
    }
    step("register", "register " + wanted.path, {{"path", wanted.path}});
  }

  void logic_dev(const ConfiguredLogicDev& wanted, const Settings& settings) {
    const json devices = list(status_, "logic_devs");
    const auto there = std::find_if(devices.begin(), devices.end(), [&](const json& shown) {
      const std::string state = text(shown, "state");
      return text(shown, "name") == wanted.name && state != "parked" && state != "missing";
    });
    if (there == devices.end()) {
      json args = {{"name", wanted.name}, {"backing", wanted.backing}, {"cache", wanted.cache_dev}};
      if (wanted.size_bytes) args["size"] = *wanted.size_bytes;
      if (!settings.empty()) args["settings"] = settings_to_json(settings);
      step("add", "add " + wanted.name + " " + wanted.backing, args);
      return;
    }
    if (const std::string backing = text(*there, "backing"); !is_same_file(backing, wanted.backing)) {
      failed(Status(Errc::busy, "logical device " + wanted.name + " has the backing device " + backing + " and not " +
                                    wanted.backing + "; remove it first"));
      return;
    }
    change(wanted.name, settings);
  }

  json result() const { return {{"schema", schema_json()}, {"done", done_}, {"failed", failures_}}; }
  // Of the first step that failed.
  int code() const { return exit_code(first_failure_); }

 private:
  // Takes back what is stored and not wanted, and stores what is wanted.
  void change(const std::string& name, const Settings& wanted) {
    const auto reply = ask(mount_, "get", {{"name", name}});
    if (!reply) return failed(reply.status());
    json changes = json::object();
    json keys = json::array();
    std::string change_text;
    std::string keys_text;
    for (const json& shown : list(*reply, "settings")) {
      const std::string key = text(shown, "name");
      const auto setting = find_setting(key);
      if (!setting) continue;
      if (!wanted.has(*setting)) {
        if (!shown.contains("stored") && text(shown, "origin") != "temporary") continue;
        keys.push_back(key);
        keys_text += " " + key;
        continue;
      }
      const std::string value = format_setting(*setting, wanted.get(*setting));
      const bool lasts = text(shown, "origin") == "stored" || text(shown, "origin") == "config";
      if (setting_text(key, shown.value("value", json())) == value && lasts) continue;
      changes[key] = value;
      change_text += " " + key + "=" + value;
    }
    if (!keys.empty()) step("unset", "unset " + name + keys_text, {{"name", name}, {"keys", keys}});
    if (!changes.empty()) step("set", "set " + name + change_text, {{"name", name}, {"settings", changes}});
  }

  void step(const std::string& command, const std::string& what, const json& args) {
    const auto reply = ask_and_wait(mount_, command, args);
    if (reply) {
      done_.push_back(what);
    } else {
      failed(reply.status());
    }
  }

  void failed(const Status& status) {
    if (first_failure_ == Errc::ok) first_failure_ = status.code();
    failures_.push_back({{"code", to_string(status.code())}, {"message", status.message()}});
  }

  const std::string mount_;
  json status_;
  json done_ = json::array();
  json failures_ = json::array();
  Errc first_failure_ = Errc::ok;
};

}  // namespace

Status configure_mount(const std::string& path, MountArgs& args) {
  if (!path.empty() || (args.caches.empty() && is_there(config_dir()))) {
    auto reading = read(path);
    if (!reading) return reading.status();
    if (Status status = reading->status(); !status.ok()) return status;
    args.config = std::move(reading->config);
  }
  args.allow_other = args.allow_other || args.config.allow_other;
  if (args.http.empty()) args.http = args.config.http;
  if (args.log_level.empty()) args.log_level = args.config.log_level.empty() ? "info" : args.config.log_level;
  return Status();
}

int run_config_check(const CliActions& actions, const std::string& path, bool as_json) {
  auto reading = read(path);
  if (!reading) return report(reading.status());
  if (reading->status().ok()) reading->findings = inspect_config(reading->config, actions.label);
  if (as_json) {
    json findings = json::array();
    for (const ConfigFinding& finding : reading->findings) {
      findings.push_back({{"severity", finding.is_error ? "error" : "warning"},
                          {"file", finding.place.file},
                          {"line", finding.place.line},
                          {"column", finding.place.column},
                          {"message", finding.message}});
    }
    const int printed = print_json({{"schema", schema_json()}, {"files", reading->files}, {"findings", findings}});
    return printed != 0 || reading->status().ok() ? printed : exit_code(Errc::invalid);
  }
  std::string out;
  for (const ConfigFinding& finding : reading->findings) out += printable(finding_text(finding)) + "\n";
  if (reading->findings.empty()) {
    const std::size_t files = reading->files.size();
    out = std::to_string(files) + (files == 1 ? " file: " : " files: ") +
          std::to_string(reading->config.cache_devs.size()) + " cache devices, " +
          std::to_string(reading->config.logic_devs.size()) + " logical devices, nothing wrong\n";
  }
  const int printed = print(out);
  return printed != 0 || reading->status().ok() ? printed : exit_code(Errc::invalid);
}

int run_config_show(const std::string& path, bool as_json) {
  const auto reading = read(path);
  if (!reading) return report(reading.status());
  if (Status status = reading->status(); !status.ok()) return report(status);
  return as_json ? print_json(config_reply(reading->config)) : print(format_config(reading->config));
}

int run_save(const std::string& mount, const std::string& file, bool as_json) {
  std::vector<std::string> gaps;
  const auto config = config_in_force(mount, gaps);
  if (!config) return report(config.status());
  for (const std::string& gap : gaps) warn(gap);
  if (file.empty() || file == "-") return as_json ? print_json(config_reply(*config)) : print(format_config(*config));
  const std::string toml = format_config(*config);
  if (Status fits = check_fits(file, toml); !fits.ok()) return report(fits);
  if (Status written = save_file(file, toml); !written.ok()) return report(written);
  return as_json ? print_json({{"schema", schema_json()}, {"file", file}}) : 0;
}

int run_restore(const std::string& mount, const std::string& path, bool as_json) {
  const auto reading = read_config(path);
  if (!reading) return report(reading.status());
  if (Status status = reading->status(); !status.ok()) return report(status);
  auto status = ask(mount, "status", json::object());
  if (!status) return report(status.status());
  std::map<std::string, Settings> defaults;
  Restore restore(mount, *status);
  for (const ConfiguredCacheDev& cache_dev : reading->config.cache_devs) {
    defaults[cache_dev.label] = cache_dev.defaults;
    restore.cache_dev(cache_dev);
  }
  // What a cache device that was registered just now holds is there now.
  status = ask(mount, "status", json::object());
  if (!status) return report(status.status());
  restore.look_again(*status);
  for (const ConfiguredLogicDev& device : reading->config.logic_devs) {
    Settings settings = defaults[device.cache_dev];
    settings.merge(device.settings);
    restore.logic_dev(device, settings);
  }
  const json result = restore.result();
  if (as_json) {
    const int printed = print_json(result);
    return printed != 0 ? printed : restore.code();
  }
  std::string out;
  for (const json& done : result["done"]) out += printable(done.get<std::string>()) + "\n";
  const int printed = print(out);
  for (const json& failure : result["failed"]) {
    (void)report(Status(errc_from_string(text(failure, "code")), text(failure, "message")));
  }
  return printed != 0 ? printed : restore.code();
}

}  // namespace pcache
