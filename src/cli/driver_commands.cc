#include "cli/driver_commands.h"

#include <algorithm>

#include "base/size_text.h"
#include "cli/absolute.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/output.h"
#include "control/driver_terms.h"
#include "control/setting_json.h"
#include "pcache/settings.h"

namespace pcache {
namespace {

using nlohmann::json;

const json* with_number(const json& all, const char* key, std::uint64_t value) {
  const auto it = std::find_if(all.begin(), all.end(), [&](const json& one) { return number(one, key) == value; });
  return it == all.end() ? nullptr : &*it;
}

// The label of the cache device with that number.
Result<std::string> label_of(const json& status, std::uint64_t cache_id) {
  const json* const cache = with_number(status.at("cache_devs"), "cache_dev_id", cache_id);
  if (cache != nullptr) return text(*cache, "label");
  return Status(Errc::not_found,
                "there is no cache device with ID " + std::to_string(cache_id) + "; pcachefs cache-list lists them");
}

// Without what is missing, which has no number.
Result<json> status_of(const std::string& mount) {
  auto status = ask(mount, "status", json::object());
  if (status && (!status->contains("cache_devs") || !status->contains("logic_devs"))) {
    return Status(Errc::failed, "the daemon's reply to 'status' makes no sense");
  }
  return status ? without_missing(std::move(*status)) : status;
}

}  // namespace

DriverCommands::DriverCommands(CLI::App& app) {
  const auto add = [&app](const char* name, const std::string& help, const char* example) {
    return app.add_subcommand(name, help + "\n\nExample: pcachefs " + name + example)->group("");
  };
  const auto cache_id = [this](CLI::App* command) {
    command->add_option("-c,--cache", cache_id_, "Number of the cache device; default: 0")->type_name("ID");
  };
  const auto backing_id = [this](CLI::App* command) {
    command->add_option("-b,--backing", backing_id_, "Number of the backing device")->type_name("ID")->required();
  };
  cache_start_ = add("cache-start", "Open a cache device; see pcachefs register", " -p /dev/dax0.0");
  cache_start_->add_option("-p,--path", path_, "The cache device")->type_name("PATH")->required();
  cache_start_->add_flag("-f,--format", format_, "Make it a cache device first");
  cache_start_->add_flag("-F,--force", force_, "With --format: overwrite what is there");
  cache_stop_ = add("cache-stop", "Close a cache device; see pcachefs unregister", " -c 0");
  cache_id(cache_stop_);
  cache_list_ = add("cache-list", "List the cache devices as JSON; see pcachefs status", "");
  backing_start_ =
      add("backing-start", "Expose a backing device and print its file; see pcachefs add", " -c 0 -p /dev/sdb -s 4G");
  backing_start_->add_option("-p,--path", path_, "The backing device")->type_name("PATH")->required();
  cache_id(backing_start_);
  backing_start_->add_option("-q,--queues", queues_, "1 to 128; changes nothing here")->check(CLI::Range(1, 128));
  backing_start_->add_option("-s,--cache-size", size_, "What it may take of the cache device, in bytes or with K, M, G")
      ->type_name("S");
  backing_start_->add_flag("-x,--data-crc", data_crc_, "All data has checksums, with or without it");
  backing_stop_ =
      add("backing-stop", "Write everything back and forget a backing device; see pcachefs remove", " -c 0 -b 0");
  backing_id(backing_stop_);
  cache_id(backing_stop_);
  backing_list_ =
      add("backing-list", "List the backing devices of a cache device as JSON; see pcachefs status", " -c 0");
  cache_id(backing_list_);
}

bool DriverCommands::parsed() const {
  const auto all = {cache_start_, cache_stop_, cache_list_, backing_start_, backing_stop_, backing_list_};
  return std::any_of(all.begin(), all.end(), [](const CLI::App* command) { return command->parsed(); });
}

int DriverCommands::run(const std::string& mount, bool as_json, bool yes) const {
  // The lists are JSON in any case.
  if (cache_list_->parsed()) return cache_list(mount);
  if (backing_list_->parsed()) return backing_list(mount);
  const auto reply = cache_start_->parsed()     ? cache_start(mount, yes)
                     : cache_stop_->parsed()    ? cache_stop(mount)
                     : backing_start_->parsed() ? backing_start(mount)
                                                : backing_stop(mount);
  if (!reply) return report(reply.status());
  if (as_json) return print_json(*reply);
  const std::string file = text(*reply, "file");
  return file.empty() ? 0 : print(file + "\n");
}

Result<json> DriverCommands::cache_start(const std::string& mount, bool yes) const {
  json args = {{"path", absolute(path_)}};
  if (format_) args["format"] = true;
  if (format_ && force_) {
    args["force"] = true;
    if (Status agreed = confirm(overwrites(path_), yes); !agreed.ok()) return agreed;
  }
  return ask_and_wait(mount, "register", args);
}

Result<json> DriverCommands::cache_stop(const std::string& mount) const {
  const auto status = status_of(mount);
  if (!status) return status.status();
  const auto label = label_of(*status, cache_id_);
  if (!label) return label.status();
  return ask_and_wait(mount, "unregister", {{"cache", *label}});
}

int DriverCommands::cache_list(const std::string& mount) {
  const auto status = status_of(mount);
  if (!status) return report(status.status());
  json caches = json::array();
  for (const json& cache : status->at("cache_devs")) {
    caches.push_back({{"cache_id", number(cache, "cache_dev_id")},
                      {"path", text(cache, "path")},
                      {"magic", driver_magic(cache)},
                      {"version", number(cache, "media_version")},
                      {"flags", 0},
                      {"segment_num", number(cache, "segments")}});
  }
  return print_json(caches);
}

Result<json> DriverCommands::backing_start(const std::string& mount) const {
  const auto status = status_of(mount);
  if (!status) return status.status();
  const auto label = label_of(*status, cache_id_);
  if (!label) return label.status();
  json args = {{"name", free_driver_name(*status)}, {"backing", absolute(path_)}, {"cache", *label}};
  if (!size_.empty()) {
    const auto size = parse_size(size_);
    if (!size) return size.status();
    args["settings"] = {{"share_max", format_setting(Setting::share_max, *size)}};
  }
  return ask_and_wait(mount, "add", args);
}

Result<json> DriverCommands::backing_stop(const std::string& mount) const {
  const auto status = status_of(mount);
  if (!status) return status.status();
  const auto label = label_of(*status, cache_id_);
  if (!label) return label.status();
  for (const json& device : status->at("logic_devs")) {
    if (text(device, "cache_dev") != *label || number(device, "backing_id") != backing_id_) continue;
    return ask_and_wait(mount, "remove", {{"name", text(device, "name")}});
  }
  return Status(Errc::not_found, "cache device " + *label + " has no backing device with ID " +
                                     std::to_string(backing_id_) + "; pcachefs backing-list lists them");
}

int DriverCommands::backing_list(const std::string& mount) const {
  const auto status = status_of(mount);
  if (!status) return report(status.status());
  const json* const cache = with_number(status->at("cache_devs"), "cache_dev_id", cache_id_);
  if (cache == nullptr) return report(label_of(*status, cache_id_).status());
  json backings = json::array();
  for (const json& device : status->at("logic_devs")) {
    if (text(device, "cache_dev") != text(*cache, "label")) continue;
    const auto settings = ask(mount, "get", {{"name", text(device, "name")}, {"key", "gc_high"}});
    if (!settings) return report(settings.status());
    const json values = list(*settings, "settings");
    const auto percent =
        driver_gc_percent(*cache, values.empty() ? "" : setting_word(values.front().value("value", json())));
    if (!percent) return report(percent.status());
    const bool exposed = text(device, "state") == "running" || text(device, "state") == "failed";
    backings.push_back({{"backing_id", number(device, "backing_id")},
                        {"backing_path", text(device, "backing")},
                        {"cache_segs", driver_segments(*cache, device)},
                        {"cache_gc_percent", *percent},
                        {"cache_used_segs", driver_used_segments(*cache, device)},
                        {"logic_dev", exposed ? text(*status, "mount") + "/" + text(device, "name") : ""}});
  }
  return print_json(backings);
}

}  // namespace pcache
