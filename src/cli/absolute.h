// Paths as a daemon understands them, whose working directory is another. The text itself is changed as little as can
// be: "/x/../y" may lead elsewhere than "/y" where x is a link.
#pragma once

#include <filesystem>
#include <string>

namespace pcache {

// An empty path stays empty, and one that cannot be made absolute as it is.
inline std::string absolute(const std::string& path) {
  std::error_code error;
  const auto full = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : full.string();
}

}  // namespace pcache
