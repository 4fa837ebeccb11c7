// What the service manager is told of this process, by the protocol of sd_notify(3).
#pragma once

#include <string>

namespace pcache {

// Thread-safe. Where no service manager waits for this process (NOTIFY_SOCKET is not set), nothing happens.
class Service {
 public:
  // Tells nobody.
  Service() = default;
  // Tells whom the environment names.
  static Service from_environment();

  // What the process is doing, for people; one line.
  void says(const std::string& text) const;
  // It serves from now on.
  void ready(const std::string& text) const;
  // It lives, and is doing that. A process that is watched and does not say so in time is killed and started again.
  void alive(const std::string& text) const;
  // It ends, which takes as long as what is under way: it is not watched any more.
  void stopping(const std::string& text) const;

 private:
  void tell(const std::string& state, const std::string& text) const;

  bool is_service_ = false;
  bool is_watched_ = false;
};

}  // namespace pcache
