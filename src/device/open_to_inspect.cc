#include "device/open_to_inspect.h"

#include "pcache/inspect.h"
#include "pcache/pmem_space.h"

namespace pcache {

Result<std::unique_ptr<CacheDev>> open_to_inspect(const std::string& path) {
  auto space = open_pmem_space(path, PmemAccess::inspect);
  if (!space) return space.status();
  return CacheDev::open(std::move(*space), CacheDev::Access::inspect);
}

Result<std::string> cache_dev_label(const std::string& path) {
  const auto cache_dev = open_to_inspect(path);
  if (!cache_dev) return cache_dev.status();
  return (*cache_dev)->label();
}

}  // namespace pcache
