// Looking for damage on a cache device that is not mounted.

#include <algorithm>

#include "base/no_throw.h"
#include "cache/cache.h"
#include "device/damage_teller.h"
#include "device/open_to_inspect.h"
#include "pcache/inspect.h"

namespace pcache {
namespace {

Result<CheckReport> check(const std::string& path, const std::function<void(const Damage&)>& report) {
  auto cache_dev = open_to_inspect(path);
  if (!cache_dev) return cache_dev.status();
  CheckReport found;
  found.path = path;
  found.uuid = uuid_text((*cache_dev)->uuid());
  found.label = (*cache_dev)->label();
  found.size_bytes = (*cache_dev)->geometry().size_bytes;
  auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
  if (!cache) return cache.status();
  const std::vector<CacheDev::Device> devices = (*cache)->cache_dev().devices();
  found.closed_in_order = std::all_of(devices.begin(), devices.end(), [&](const CacheDev::Device& device) {
    return (*cache)->cache_dev().closed(device.place).has_value();
  });
  DamageTeller teller(devices, report);
  teller.check_items((*cache)->cache_dev());
  for (const CacheDev::Device& device : devices) {
    const auto attached = (*cache)->attach(device, nullptr);
    if (!attached) return attached.status();
    teller.check_log(**attached);
    teller.check_cells(**cache, **attached);
    const LogicDevStats stats = (*attached)->stats();
    found.logic_devs.push_back({stats.name, stats.size_bytes, stats.backing, (*attached)->failed(), stats.detail,
                                stats.dirty_bytes, stats.cached_bytes, stats.lost_bytes});
  }
  found.damages = teller.count();
  return found;
}

}  // namespace

Result<CheckReport> check_cache_dev(const std::string& path, const std::function<void(const Damage&)>& report) {
  return no_throw("cannot check " + path, [&] { return check(path, report); });
}

}  // namespace pcache
