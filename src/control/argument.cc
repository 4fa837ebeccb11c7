#include "control/argument.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/size_text.h"
#include "control/setting_json.h"

namespace pcache {

using nlohmann::json;

namespace {

Status wrong(const Argument& argument, const std::string& why) {
  return Status(Errc::invalid, std::string("argument '") + argument.name + "': " + why);
}

const char* form_of(ArgKind kind) {
  switch (kind) {
    case ArgKind::text:
      return "a text";
    case ArgKind::path:
      return "a path";
    case ArgKind::size:
      return "a number of bytes";
    case ArgKind::number:
      return "a whole number that is not negative";
    case ArgKind::flag:
      return "true or false";
    case ArgKind::settings:
      return "an object of settings, each a text or a number";
    case ArgKind::keys:
      return "a list of names of settings";
  }
  return "";
}

bool has_form(ArgKind kind, const json& value) {
  switch (kind) {
    case ArgKind::text:
    case ArgKind::path:
      return value.is_string();
    case ArgKind::size:
    case ArgKind::number:
      return value.is_number_unsigned();
    case ArgKind::flag:
      return value.is_boolean();
    case ArgKind::settings:
      return value.is_object() && std::all_of(value.begin(), value.end(),
                                              [](const json& v) { return v.is_string() || v.is_number_unsigned(); });
    case ArgKind::keys:
      return value.is_array() && std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_string(); });
  }
  return false;
}

Status read_settings(const json& object, Settings& settings) {
  for (const auto& [key, value] : object.items()) {
    if (Status read = parse_assignment(key + "=" + setting_word(value), settings); !read.ok()) return read;
  }
  return check_settings(settings);
}

Status read_keys(const json& names, SettingSet& keys) {
  for (const json& name : names) {
    const auto setting = find_setting(name.get<std::string>());
    if (!setting) return unknown_setting(name.get<std::string>());
    keys.set(static_cast<std::size_t>(*setting));
  }
  return Status();
}

// {"KEY": "VALUE"} of "KEY=VALUE,...".
Result<json> assignments(const std::string& word) {
  json object = json::object();
  std::istringstream in(word);
  for (std::string part; std::getline(in, part, ',');) {
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos) return Status(Errc::invalid, "'" + part + "' is not of the form KEY=VALUE");
    const std::string key = part.substr(0, equals);
    if (object.contains(key)) return Status(Errc::invalid, "setting " + key + " is given twice");
    object[key] = part.substr(equals + 1);
  }
  return object;
}

}  // namespace

const char* to_string(ArgKind kind) {
  switch (kind) {
    case ArgKind::text:
      return "text";
    case ArgKind::path:
      return "path";
    case ArgKind::size:
      return "size";
    case ArgKind::number:
      return "number";
    case ArgKind::flag:
      return "flag";
    case ArgKind::settings:
      return "settings";
    case ArgKind::keys:
      return "keys";
  }
  return "";
}

std::string Args::text(const char* name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::string() : it->get<std::string>();
}

std::uint64_t Args::number(const char* name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? 0 : it->get<std::uint64_t>();
}

bool Args::flag(const char* name) const {
  const auto it = values_.find(name);
  return it != values_.end() && it->get<bool>();
}

Result<Args> check_args(const std::string& command, const std::vector<Argument>& takes, const json& given) {
  if (!given.is_object()) return Status(Errc::invalid, "the arguments of '" + command + "' are not an object");
  for (const auto& [name, value] : given.items()) {
    if (std::any_of(takes.begin(), takes.end(), [&](const Argument& a) { return name == a.name; })) continue;
    std::string names;
    for (const Argument& argument : takes) names += std::string(names.empty() ? "" : ", ") + argument.name;
    return Status(Errc::invalid, "'" + command + "' takes no argument '" + name.substr(0, 64) + "'; it takes " +
                                     (names.empty() ? "none" : names));
  }
  Args args;
  for (const Argument& argument : takes) {
    const auto value = given.find(argument.name);
    if (value == given.end()) {
      if (argument.need == Need::optional) continue;
      return wrong(argument, "'" + command + "' needs it: " + argument.help);
    }
    if (!has_form(argument.kind, *value)) return wrong(argument, std::string("it is not ") + form_of(argument.kind));
    if (argument.kind == ArgKind::settings) {
      if (Status read = read_settings(*value, args.settings_); !read.ok()) {
        return wrong(argument, read.message());
      }
    }
    if (argument.kind == ArgKind::keys) {
      if (Status read = read_keys(*value, args.keys_); !read.ok()) return wrong(argument, read.message());
    }
    if (argument.need == Need::required && value->empty() && (value->is_object() || value->is_array())) {
      return wrong(argument, "no setting is given");
    }
    args.values_[argument.name] = *value;
  }
  return args;
}

Result<json> argument_from_word(const Argument& argument, const std::string& word, const std::string& called) {
  const auto no_value = [&](const std::string& why) { return Status(Errc::invalid, called + ": " + why); };
  switch (argument.kind) {
    case ArgKind::text:
    case ArgKind::path:
      return json(word);
    case ArgKind::size: {
      const auto size = parse_size(word);
      return size ? Result<json>(json(*size)) : no_value(size.status().message());
    }
    case ArgKind::number: {
      std::uint64_t value = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
      if (word.empty() || error != std::errc() || end != word.data() + word.size()) {
        return no_value("'" + word + "' is not " + form_of(argument.kind));
      }
      return json(value);
    }
    case ArgKind::flag:
      if (word == "1" || word == "true") return json(true);
      if (word == "0" || word == "false") return json(false);
      return no_value("'" + word + "' is not " + form_of(argument.kind));
    case ArgKind::keys: {
      json names = json::array();
      std::istringstream in(word);
      for (std::string name; std::getline(in, name, ',');) {
        if (!name.empty()) names.push_back(name);
      }
      SettingSet keys;
      if (Status read = read_keys(names, keys); !read.ok()) return read;
      return names;
    }
    case ArgKind::settings:
      break;
  }
  auto object = assignments(word);
  if (!object) return object;
  Settings settings;
  if (Status read = read_settings(*object, settings); !read.ok()) return read;
  return object;
}

}  // namespace pcache
