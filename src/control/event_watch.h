// Tells what has happened from what the devices say of themselves, one look after the other: nothing is added to the
// paths of reads and writes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control/event_log.h"
#include "pcache/stats.h"

namespace pcache {

// Not synchronised.
class EventWatch {
 public:
  // Looks without a write that had to wait after which writes count as going on again.
  static constexpr int kQuietLooks = 5;

  // What is different from the last look; at the first one, everything that there is.
  std::vector<Event> look(const StatusReport& now);

 private:
  struct Waiting {
    bool told = false;
    int quiet = 0;
  };

  void compare_cache(const CacheDevStats& before, const CacheDevStats& now);
  void compare_device(const LogicDevStats& before, const LogicDevStats& now);
  void tell(EventKind kind, const std::string& object, std::string message);

  StatusReport before_;
  std::map<std::string, Waiting> waiting_;
  std::vector<Event> events_;
};

}  // namespace pcache
