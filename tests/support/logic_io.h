// Reads and writes of logical devices that wait for their end, what status says of one, and options under which nothing
// is written back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <future>
#include <span>
#include <string>

#include "pcache/device_manager.h"
#include "pcache/logic_dev.h"
#include "pcache/options.h"

namespace pcache {

// What is written stays only in the cache until somebody asks for more.
inline CacheOptions keep_dirty() {
  CacheOptions options;
  options.settings.set(Setting::dirty_max_age, 86'400'000);
  options.settings.set(Setting::dirty_high, kPercent | 95);
  return options;
}

// The errno that the operation came to.
template <typename Start>
int finish(Start start) {
  std::promise<int> end;
  start(Completion{[](void* context, int error) { static_cast<std::promise<int>*>(context)->set_value(error); }, &end});
  return end.get_future().get();
}

inline int write_to(LogicDev& device, std::uint64_t offset, const std::string& data) {
  return finish([&](Completion done) { device.write(offset, std::as_bytes(std::span(data)), done); });
}

inline int flush(LogicDev& device) {
  return finish([&](Completion done) { device.flush(done); });
}

// What is read, or the number of the error in brackets.
inline std::string read_from(LogicDev& device, std::uint64_t offset, std::size_t length) {
  std::string data(length, '?');
  const int error =
      finish([&](Completion done) { device.read(offset, std::as_writable_bytes(std::span(data)), done); });
  return error == 0 ? data : "(" + std::to_string(error) + ")";
}

// The same by the logical device's name, which is there in brackets if it is not exposed.
inline std::string read_from(DeviceManager& manager, const std::string& name, std::uint64_t offset,
                             std::size_t length) {
  const auto device = manager.find(name);
  return device == nullptr ? "(no " + name + ")" : read_from(*device, offset, length);
}

// What status() says of a logical device; without a name if it says nothing.
inline LogicDevStats stats_of(DeviceManager& manager, const std::string& name) {
  for (const LogicDevStats& device : manager.status().logic_devs) {
    if (device.name == name) return device;
  }
  return {};
}

}  // namespace pcache
