// Which names logical devices and cache devices may have.

#include <cctype>

#include "pcache/device_manager.h"

namespace pcache {

Status check_logic_dev_name(const std::string& name) {
  const auto bad = [&name](const std::string& why) {
    return Status(Errc::invalid, "'" + name.substr(0, 64) + "' cannot name a logical device: " + why);
  };
  if (name.empty()) return bad("it is empty");
  if (name.size() > 255) return bad("it has " + std::to_string(name.size()) + " bytes, 255 are allowed");
  if (name == "." || name == ".." || name == ".pcache") return bad("the name is reserved");
  for (const char c : name) {
    if (c == '/') return bad("it contains a slash");
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad("it contains a control character");
  }
  return Status();
}

Status check_cache_dev_label(const std::string& label) {
  if (label.size() > 63)
    return Status(Errc::invalid, "the label has " + std::to_string(label.size()) + " characters, 63 are allowed");
  for (const char c : label) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '.' && c != '-') {
      return Status(Errc::invalid, "label '" + label + "' contains '" + std::string(1, c) +
                                       "'; letters, digits, '_', '.' and '-' are allowed");
    }
  }
  return Status();
}

}  // namespace pcache
