// What is written into a file of the control tree: "KEY=VALUE", several of them with commas or newlines in between.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pcache/result.h"

namespace pcache {

struct Parameter {
  const char* name;
  bool required = false;
};

using Parameters = std::map<std::string, std::string>;

// Takes the first `NAME=VALUE`, and what separates it from the next, off `text`.
std::string_view take_parameter(std::string_view& text);

// Errors: invalid, naming the parameter: one that is not in `known`, that has no value, is given twice, or is required
// and missing.
Result<Parameters> parse_parameters(std::string_view text, const std::vector<Parameter>& known);

}  // namespace pcache
