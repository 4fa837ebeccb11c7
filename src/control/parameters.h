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

// Errors: invalid, naming the parameter: one that is not in `known`, that has no value, is given twice, or is required
// and missing.
Result<Parameters> parse_parameters(std::string_view text, const std::vector<Parameter>& known);

}  // namespace pcache
