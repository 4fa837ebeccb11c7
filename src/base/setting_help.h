// Settings explained, for manual pages.
#pragma once

#include <string>

#include "pcache/settings.h"

namespace pcache {

// What it does, in a sentence or two.
const char* setting_help(Setting setting);

// What can be written for it: "0% to 95% or a size such as 512M".
std::string setting_rule(Setting setting);

}  // namespace pcache
