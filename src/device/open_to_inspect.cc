#include "device/open_to_inspect.h"

#include "device/open_space.h"

namespace pcache {

Result<std::unique_ptr<CacheDev>> open_to_inspect(const std::string& path) {
  auto space = open_cache_space(path, PmemAccess::inspect);
  if (!space) return space.status();
  return CacheDev::open(std::move(*space), CacheDev::Access::inspect);
}

}  // namespace pcache
