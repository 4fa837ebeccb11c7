// Whether two paths lead to one file.
#pragma once

#include <filesystem>
#include <string>
#include <system_error>

namespace pcache {

// Two names of one file or device node, as far as can be seen: of a file that is not there only the name is known.
inline bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || std::filesystem::equivalent(a, b, error);
}

}  // namespace pcache
