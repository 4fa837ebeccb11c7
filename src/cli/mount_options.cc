#include "cli/mount_options.h"

#include <charconv>
#include <sstream>

namespace pcache {
namespace {

Status parse_number(const std::string& key, const std::string& value, std::optional<std::uint32_t>& out) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out.emplace());
  if (value.empty() || error != std::errc() || end != value.data() + value.size()) {
    return Status(Errc::invalid, "mount option " + key + " needs a number, not '" + value + "'");
  }
  return Status();
}

std::string option_names() {
  std::string names = "ack, epoch_max_ms, allow_other, http, log_level";
  for (const SettingInfo& info : all_settings()) {
    if (info.setting != Setting::mode) names += std::string(", ") + info.name;
  }
  return names;
}

}  // namespace

Status parse_mount_options(const std::string& text, MountArgs& args) {
  std::istringstream options(text);
  for (std::string option; std::getline(options, option, ',');) {
    if (option.empty()) continue;
    const std::size_t equals = option.find('=');
    const std::string key = option.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
    Status status;
    if (key == "ack") {
      if (value != "durable" && value != "flush") {
        return Status(Errc::invalid, "mount option ack is 'durable' or 'flush', not '" + value + "'");
      }
      args.options.ack = value == "durable" ? Ack::durable : Ack::flush;
    } else if (key == "epoch_max_ms") {
      status = parse_number(key, value, args.options.epoch_max_ms);
    } else if (option == "allow_other") {
      args.allow_other = true;
    } else if (key == "http") {
      if (value.empty()) return Status(Errc::invalid, "mount option http needs ADDR:PORT");
      args.http = value;
    } else if (key == "log_level") {
      args.log_level = value;
    } else if (find_setting(key)) {
      status = parse_assignment(option, args.options.settings);
    } else {
      status = Status(Errc::invalid, "there is no mount option '" + option + "'; there are " + option_names());
    }
    if (!status.ok()) return status;
  }
  return check_cache_options(args.options);
}

}  // namespace pcache
