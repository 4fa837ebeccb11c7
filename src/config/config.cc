#include "pcache/config.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "base/stable_name.h"
#include "base/unique_fd.h"
#include "config/config_reader.h"

namespace pcache {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostBytes = 1 << 20;

Result<std::string> read_file(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto failed = [&path](int error) {
    std::error_code no_link;
    const std::string target = fs::read_symlink(path, no_link);
    return Status::from_errno(
        error, "cannot read the configuration " + path + (no_link ? std::string() : ", a link to " + target));
  };
  if (!fd) return failed(errno);
  std::string text;
  char piece[4096];
  for (;;) {
    const ssize_t n = read(fd.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(errno);
    if (n == 0) return text;
    text.append(piece, static_cast<std::size_t>(n));
    if (text.size() > kMostBytes) return Status(Errc::invalid, path + " is too long for a configuration");
  }
}

constexpr const char* kMainFile = "pcachefs.toml";
constexpr const char* kMoreFiles = "conf.d";

// Editors and package managers have files of their own there.
bool is_name_of_more(const fs::path& name) { return name.extension() == ".toml" && !name.string().starts_with('.'); }

// A link that leads nowhere is there: that it cannot be read is told when it is.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

// pcachefs.toml, then those of conf.d by name.
Result<std::vector<std::string>> files_of(const fs::path& directory) {
  std::vector<std::string> files;
  std::error_code error;
  if (is_there(directory / kMainFile)) files.push_back(directory / kMainFile);
  if (!is_there(directory / kMoreFiles)) return files;
  std::vector<std::string> more;
  fs::directory_iterator entry(directory / kMoreFiles, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (is_name_of_more(entry->path().filename())) more.push_back(entry->path());
  }
  if (error) return Status::from_errno(error.value(), "cannot read " + (directory / kMoreFiles).string());
  std::sort(more.begin(), more.end());
  files.insert(files.end(), more.begin(), more.end());
  return files;
}

// The files that are read together, in their order, of which `file` is one.
Result<std::vector<std::string>> files_with(const fs::path& file) {
  const bool is_main = file.filename() == kMainFile;
  const bool is_more = file.parent_path().filename() == kMoreFiles && is_name_of_more(file.filename());
  if (!is_main && !is_more) return std::vector<std::string>{file};
  auto files = files_of(is_main ? file.parent_path() : file.parent_path().parent_path());
  if (!files || std::find(files->begin(), files->end(), file) != files->end()) return files;
  if (is_main) {
    files->insert(files->begin(), file);
  } else {
    const auto first = files->begin() + (!files->empty() && fs::path(files->front()).filename() == kMainFile ? 1 : 0);
    files->insert(std::lower_bound(first, files->end(), file.string()), file);
  }
  return files;
}

void add_table(std::ostream& out, const std::string& kind, const std::string& name, const toml::table& values) {
  toml::table named;
  named.insert(name, values);
  toml::table kinds;
  kinds.insert(kind, named);
  out << "\n" << toml::default_formatter(kinds) << "\n";
}

void insert_settings(toml::table& table, const Settings& settings) {
  for (const SettingInfo& info : all_settings()) {
    if (settings.has(info.setting)) table.insert(info.name, format_setting(info.setting, settings.get(info.setting)));
  }
}

}  // namespace

std::string config_dir() {
  const char* const dir = std::getenv("PCACHEFS_CONFIG_DIR");
  return dir != nullptr && *dir != '\0' ? dir : kConfigDir;
}

std::string to_string(const ConfigPlace& place) {
  if (place.line == 0) return place.file;
  return place.file + ":" + std::to_string(place.line) + ":" + std::to_string(place.column);
}

CacheOptions options_of(const Config& config, const ConfiguredCacheDev& cache_dev, const CacheOptions& chosen) {
  CacheOptions options = chosen;
  options.label = cache_dev.label;
  if (!options.ack) options.ack = cache_dev.ack;
  if (!options.epoch_max_ms) options.epoch_max_ms = cache_dev.epoch_max_ms;
  options.configured.all = cache_dev.defaults;
  for (const ConfiguredLogicDev& device : config.logic_devs) {
    if (device.cache_dev == cache_dev.label) options.configured.by_name[device.name] = device.settings;
  }
  return options;
}

Status ConfigReading::status() const {
  const auto errors = [](const ConfigFinding& finding) { return finding.is_error; };
  const auto first = std::find_if(findings.begin(), findings.end(), errors);
  if (first == findings.end()) return Status();
  const auto more = std::count_if(std::next(first), findings.end(), errors);
  return Status(Errc::invalid, to_string(first->place) + ": " + first->message +
                                   (more == 0 ? ""
                                              : "; and " + std::to_string(more) +
                                                    " more errors, see pcachefs "
                                                    "config check"));
}

Result<ConfigReading> read_config(const std::string& path) {
  std::error_code error;
  const fs::file_status found = fs::status(path, error);
  if (!fs::exists(found)) {
    return Status::from_errno(error ? error.value() : ENOENT, "cannot read the configuration " + path);
  }
  auto files = fs::is_directory(found) ? files_of(path) : Result<std::vector<std::string>>(std::vector{path});
  if (!files) return files.status();
  ConfigReader reader;
  for (const std::string& file : *files) {
    const auto text = read_file(file);
    if (!text) return text.status();
    reader.add(file, *text);
  }
  return reader.finish();
}

Result<ConfigReading> read_config_with(const std::string& file, const std::string& text) {
  std::error_code error;
  const fs::path whole = fs::absolute(file, error);
  const auto files = files_with(error ? fs::path(file) : whole);
  if (!files) return files.status();
  ConfigReader reader;
  for (const std::string& read : *files) {
    const auto content = read == whole ? Result<std::string>(text) : read_file(read);
    if (!content) return content.status();
    reader.add(read, *content);
  }
  return reader.finish();
}

ConfigReading parse_config(const std::string& text, const std::string& file) {
  ConfigReader reader;
  reader.add(file, text);
  return reader.finish();
}

std::string format_config(const Config& config) {
  std::ostringstream out;
  toml::table mount;
  if (config.allow_other) mount.insert("allow_other", true);
  if (!config.http.empty()) mount.insert("http", config.http);
  if (!config.log_level.empty()) mount.insert("log_level", config.log_level);
  if (!mount.empty()) {
    out << "\n" << toml::default_formatter(toml::table{{"mount", mount}}) << "\n";
  }
  for (const ConfiguredCacheDev& cache_dev : config.cache_devs) {
    toml::table values;
    values.insert("path", cache_dev.path);
    if (cache_dev.ack) values.insert("ack", to_string(*cache_dev.ack));
    if (cache_dev.epoch_max_ms) values.insert("epoch_max_ms", *cache_dev.epoch_max_ms);
    toml::table defaults;
    insert_settings(defaults, cache_dev.defaults);
    if (!defaults.empty()) values.insert("defaults", defaults);
    add_table(out, "cache_dev", cache_dev.label, values);
  }
  for (const ConfiguredLogicDev& device : config.logic_devs) {
    toml::table values;
    values.insert("backing", device.backing);
    values.insert("cache_dev", device.cache_dev);
    if (device.size_bytes) values.insert("size", static_cast<std::int64_t>(*device.size_bytes));
    insert_settings(values, device.settings);
    add_table(out, "logic_dev", device.name, values);
  }
  const std::string text = out.str();
  return text.empty() ? text : text.substr(1);  // no empty line at the top
}

std::vector<ConfigFinding> inspect_config(const Config& config,
                                          const std::function<Result<std::string>(const std::string& path)>& label_of) {
  std::vector<ConfigFinding> findings;
  const auto look_at = [&](const std::string& what, const std::string& path, const ConfigPlace& place) {
    std::error_code error;
    if (!fs::exists(path, error)) {
      findings.push_back(
          {false, place, what + " " + path + " is not there" + (error ? ": " + error.message() : std::string())});
    } else if (const std::string why = stable_name_advice(path); !why.empty()) {
      findings.push_back({false, place, what + " " + why});
    }
  };
  for (const ConfiguredCacheDev& cache_dev : config.cache_devs) {
    look_at("cache device", cache_dev.path, cache_dev.place);
    const auto label = label_of(cache_dev.path);
    if (label && *label != cache_dev.label) {
      findings.push_back(
          {false, cache_dev.place,
           "cache device " + cache_dev.path + " has the label " + *label + ", and not " + cache_dev.label});
    } else if (!label && (label.status().code() == Errc::invalid || label.status().code() == Errc::integrity)) {
      findings.push_back({false, cache_dev.place, label.status().message()});
    }
  }
  for (const ConfiguredLogicDev& device : config.logic_devs) look_at("backing device", device.backing, device.place);
  return findings;
}

}  // namespace pcache
