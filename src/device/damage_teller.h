// What a survey found, in the words of pcache/inspect.h.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cache/cache.h"
#include "cache/survey.h"
#include "pcache/inspect.h"

namespace pcache {

// The blocks as bytes of a device that has `size_bytes`, whose last block may be a part.
ByteRange range_of(std::uint64_t first_block, std::uint64_t count, std::uint64_t size_bytes);

// Calls `report` with each thing that is wrong. `devices` and `report` outlive it.
class DamageTeller {
 public:
  DamageTeller(const std::vector<CacheDev::Device>& devices, const std::function<void(const Damage&)>& report)
      : devices_(devices), report_(report) {}

  std::uint64_t count() const { return count_; }
  // The metadata of the cache device.
  void check_items(const CacheDev& cache_dev);
  // Of the segment table only what is damaged in both copies: data of any device may be in such a segment.
  void check_segments(const CacheDev& cache_dev);
  // The log of a device that was attached, and all that it would read from.
  void check_log(CachedDevice& device);
  void check_cells(Cache& cache, CachedDevice& device);

 private:
  void tell(const Damage& damage) {
    ++count_;
    report_(damage);
  }
  void tell_item(const CacheDev& cache_dev, const ItemDamage& item);
  void tell_hidden(const CacheDev& cache_dev, const ItemDamage& item);
  void tell_log(CachedDevice& device, const CachedDevice::LogDamage& log);

  const std::vector<CacheDev::Device>& devices_;
  const std::function<void(const Damage&)>& report_;
  std::uint64_t count_ = 0;
};

}  // namespace pcache
