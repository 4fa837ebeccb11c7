// Which names logical devices may have.

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

}  // namespace pcache
