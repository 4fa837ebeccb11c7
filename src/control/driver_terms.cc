#include "control/driver_terms.h"

#include <algorithm>
#include <cstdio>

#include "pcache/settings.h"

namespace pcache {

using nlohmann::json;

namespace {

// A daemon of another version may not say it.
std::uint64_t number(const json& object, const char* key) { return object.value(key, std::uint64_t{0}); }

std::uint64_t in_segments(const json& cache, std::uint64_t bytes) {
  return bytes / std::max<std::uint64_t>(number(cache, "segment_size_bytes"), 1);
}

}  // namespace

std::string free_driver_name(const json& status) {
  const json devices = status.value("logic_devs", json::array());
  for (int i = 0;; ++i) {
    std::string name = "pcache" + std::to_string(i);
    const auto has_it = [&](const json& device) { return device.value("name", "") == name; };
    if (std::none_of(devices.begin(), devices.end(), has_it)) return name;
  }
}

json without_missing(json status) {
  for (const char* const kind : {"cache_devs", "logic_devs"}) {
    json& all = status.at(kind);
    const auto gone =
        std::remove_if(all.begin(), all.end(), [](const json& one) { return one.value("state", "") == "missing"; });
    all.erase(gone, all.end());
  }
  return status;
}

std::string driver_magic(const json& cache) {
  char magic[32];
  std::snprintf(magic, sizeof magic, "0x%llx", static_cast<unsigned long long>(number(cache, "magic")));
  return magic;
}

Result<std::uint64_t> driver_gc_percent(const json& cache, const std::string& gc_high) {
  const auto value = parse_setting(Setting::gc_high, gc_high);
  if (!value) return value.status();
  if ((*value & kPercent) != 0) return *value & ~kPercent;
  const std::uint64_t all = number(cache, "segments") * number(cache, "segment_size_bytes");
  return all == 0 ? 0 : amount_bytes(*value, all) * 100 / all;
}

std::uint64_t driver_segments(const json& cache, const json& device) {
  return in_segments(cache, number(device, "share_bytes"));
}

std::uint64_t driver_used_segments(const json& cache, const json& device) {
  return in_segments(cache, number(device, "used_bytes"));
}

}  // namespace pcache
