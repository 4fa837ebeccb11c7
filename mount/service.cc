#include "mount/service.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>

namespace pcache {

Service Service::from_environment() {
  Service service;
  service.is_service_ = std::getenv("NOTIFY_SOCKET") != nullptr;
  service.is_watched_ = sd_watchdog_enabled(0, nullptr) > 0;
  return service;
}

void Service::says(const std::string& text) const { tell("", text); }

void Service::ready(const std::string& text) const { tell("READY=1\n", text); }

void Service::alive(const std::string& text) const { tell(is_watched_ ? "WATCHDOG=1\n" : "", text); }

void Service::stopping(const std::string& text) const {
  tell(is_watched_ ? "STOPPING=1\nWATCHDOG_USEC=0\n" : "STOPPING=1\n", text);
}

// Whether it arrives is the service manager's business: the mount works without.
void Service::tell(const std::string& state, const std::string& text) const {
  if (!is_service_) return;
  std::string line = text;
  std::replace(line.begin(), line.end(), '\n', ' ');  // a mount point may have one
  sd_notify(0, (state + "STATUS=" + line).c_str());
}

}  // namespace pcache
