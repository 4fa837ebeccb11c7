// Extended attributes of logical devices: `user.pcachefs.NAME` is what the control tree has as a file NAME.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/control_tree.h"
#include "mount/request.h"
#include "pcache/device_manager.h"

namespace pcache {

// Of others there are none, which is said at once; the rest is answered by the control tree's threads. Fields of a
// request are checked, as if anybody could have written it.
class DeviceAttributes {
 public:
  // Both outlive all requests.
  DeviceAttributes(const DeviceManager& manager, ControlTree& tree) : manager_(manager), tree_(tree) {}

  // Whether this answers the request.
  static bool takes(const Request& request);
  // Takes it over: it is answered now or later, on any thread, and then given back to its pool.
  void serve(std::unique_ptr<Request> request);

 private:
  void answer(std::unique_ptr<Request> request);
  void list(std::unique_ptr<Request> request, std::uint64_t directory);

  const DeviceManager& manager_;
  ControlTree& tree_;
};

}  // namespace pcache
