// The words for the enumerations of the public headers, and the ranges of the options.

#include "pcache/options.h"
#include "pcache/pmem_space.h"

namespace pcache {

const char* to_string(Granularity granularity) {
  switch (granularity) {
    case Granularity::byte:
      return "byte";
    case Granularity::cache_line:
      return "cache_line";
    case Granularity::page:
      return "page";
  }
  return "unknown";
}

const char* to_string(Ack ack) { return ack == Ack::durable ? "durable" : "flush"; }

Settings ConfiguredSettings::of(const std::string& name) const {
  Settings settings = all;
  if (const auto own = by_name.find(name); own != by_name.end()) settings.merge(own->second);
  return settings;
}

Status check_cache_options(const CacheOptions& options) {
  const auto bad = [](const char* name, const char* range) {
    return Status(Errc::invalid, std::string("option ") + name + " must be " + range);
  };
  const std::uint32_t epoch_max_ms = options.epoch_max_ms.value_or(kEpochMaxMs);
  if (epoch_max_ms < 10 || epoch_max_ms > 60'000) return bad("epoch_max_ms", "10 to 60000");
  if (options.settings.has(Setting::mode)) return bad("mode", "set for one logical device");
  return check_settings(options.settings);
}

}  // namespace pcache
