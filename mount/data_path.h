// What a logical device does: reads, writes, flushes and discards, from the kernel's request to its answer.
#pragma once

#include <memory>
#include <span>

#include "mount/request.h"
#include "pcache/device_manager.h"

namespace pcache {

// Between the kernel and the devices there is no allocation, no other thread, and no lock but the one of finding the
// device.
// Thread-safe. Fields of a request are checked, as if anybody could have written it.
class DataPath {
 public:
  // `manager` outlives all requests.
  explicit DataPath(const DeviceManager& manager) : manager_(manager) {}

  // Finds what to do with a request that has come, and its device. Returns whether serving it may keep the calling
  // thread long.
  bool admit(Request& request) const;

  // Lets the devices load what requests that were admitted are going to need.
  static void announce(std::span<const std::unique_ptr<Request>> batch);

  // If `request`, which was admitted, is one of these, takes it over and returns true: it is answered, now or when its
  // device is done, on any thread, and then given back to its pool. Otherwise returns false and leaves it.
  bool handle(std::unique_ptr<Request>& request);

 private:
  const DeviceManager& manager_;
};

}  // namespace pcache
