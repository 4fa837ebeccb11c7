// What words of a kind a command line can have, by the names that the help has for kinds of words.
#pragma once

#include <string>
#include <vector>

#include "pcache/result.h"

namespace pcache {

// The kinds of which it is known: NAME, KEY=VALUE, ...
std::vector<std::string> completed_kinds();

// What a word of that kind can be, where the daemon of `mount` is asked if it has to be. Of "KEY=VALUE" what ends with
// = takes any value. Errors: invalid (there is no such kind), those of ask().
Result<std::vector<std::string>> completion_words(const std::string& kind, const std::string& mount);

}  // namespace pcache
