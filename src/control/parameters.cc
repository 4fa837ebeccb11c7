#include "control/parameters.h"

#include <algorithm>

namespace pcache {
namespace {

std::string names_of(const std::vector<Parameter>& known) {
  std::string names;
  for (const Parameter& parameter : known) names += std::string(names.empty() ? "" : ", ") + parameter.name;
  return names;
}

}  // namespace

std::string_view take_parameter(std::string_view& text) {
  const std::string_view one = text.substr(0, text.find_first_of(",\n"));
  text.remove_prefix(std::min(text.size(), one.size() + 1));
  return one;
}

Result<Parameters> parse_parameters(std::string_view text, const std::vector<Parameter>& known) {
  Parameters given;
  while (!text.empty()) {
    const std::string_view one = take_parameter(text);
    if (one.empty()) continue;
    const std::size_t equals = one.find('=');
    const std::string name(one.substr(0, std::min(equals, std::size_t{64})));
    const auto it = std::find_if(known.begin(), known.end(), [&](const Parameter& p) { return name == p.name; });
    if (it == known.end()) {
      return Status(Errc::invalid, "there is no parameter '" + name + "'; there are " + names_of(known));
    }
    if (equals == std::string_view::npos || equals + 1 == one.size()) {
      return Status(Errc::invalid, "parameter '" + name + "' has no value");
    }
    if (!given.emplace(name, one.substr(equals + 1)).second) {
      return Status(Errc::invalid, "parameter '" + name + "' is given twice");
    }
  }
  for (const Parameter& parameter : known) {
    if (parameter.required && !given.contains(parameter.name)) {
      return Status(Errc::invalid, std::string("parameter '") + parameter.name + "' is missing");
    }
  }
  return given;
}

}  // namespace pcache
