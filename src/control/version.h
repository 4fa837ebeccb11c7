// The version of pcachefs.
#pragma once

namespace pcache {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace pcache
