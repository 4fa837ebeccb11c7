#include "pcache/stats.h"

#include <algorithm>
#include <cmath>

namespace pcache {
namespace {

constexpr bool kGauge = false;
constexpr bool kCounter = true;

constexpr NumberField<LogicDevStats> kLogicDevNumbers[] = {
    {"size_bytes", &LogicDevStats::size_bytes, kGauge},
    {"dirty_bytes", &LogicDevStats::dirty_bytes, kGauge},
    {"cached_bytes", &LogicDevStats::cached_bytes, kGauge},
    {"used_bytes", &LogicDevStats::used_bytes, kGauge},
    {"reads", &LogicDevStats::reads, kCounter},
    {"read_bytes", &LogicDevStats::read_bytes, kCounter},
    {"read_hits", &LogicDevStats::read_hits, kCounter},
    {"read_misses", &LogicDevStats::read_misses, kCounter},
    {"read_fills", &LogicDevStats::read_fills, kCounter},
    {"partial_hits", &LogicDevStats::partial_hits, kCounter},
    {"not_admitted_first_touch", &LogicDevStats::not_admitted_first_touch, kCounter},
    {"not_admitted_sequential", &LogicDevStats::not_admitted_sequential, kCounter},
    {"not_admitted_no_space", &LogicDevStats::not_admitted_no_space, kCounter},
    {"not_admitted_mode", &LogicDevStats::not_admitted_mode, kCounter},
    {"writes", &LogicDevStats::writes, kCounter},
    {"write_bytes", &LogicDevStats::write_bytes, kCounter},
    {"flushes", &LogicDevStats::flushes, kCounter},
    {"discards", &LogicDevStats::discards, kCounter},
    {"written_back_bytes", &LogicDevStats::written_back_bytes, kCounter},
    {"writeback_errors", &LogicDevStats::writeback_errors, kCounter},
    {"space_waits", &LogicDevStats::space_waits, kCounter},
    {"evicted_bytes", &LogicDevStats::evicted_bytes, kCounter},
    {"relocated_bytes", &LogicDevStats::relocated_bytes, kCounter},
    {"promoted_bytes", &LogicDevStats::promoted_bytes, kCounter},
    {"ghost_hits", &LogicDevStats::ghost_hits, kCounter},
    {"checksum_errors", &LogicDevStats::checksum_errors, kCounter},
    {"lost_bytes", &LogicDevStats::lost_bytes, kGauge},
    {"bypassed_bytes", &LogicDevStats::bypassed_bytes, kCounter},
    {"bypassed_full_bytes", &LogicDevStats::bypassed_full_bytes, kCounter},
    {"bad_cells", &LogicDevStats::bad_cells, kCounter},
    {"epoch", &LogicDevStats::epoch, kGauge},
    {"clean_epoch", &LogicDevStats::clean_epoch, kGauge},
    {"throttled_ms", &LogicDevStats::throttled_ms, kCounter},
    {"oldest_dirty_ms", &LogicDevStats::oldest_dirty_ms, kGauge},
    {"clean_in_ms", &LogicDevStats::clean_in_ms, kGauge},
};

constexpr NumberField<CacheDevStats> kCacheDevNumbers[] = {
    {"size_bytes", &CacheDevStats::size_bytes, kGauge},
    {"segment_size_bytes", &CacheDevStats::segment_size_bytes, kGauge},
    {"segments", &CacheDevStats::segments, kGauge},
    {"segments_used", &CacheDevStats::segments_used, kGauge},
    {"stored_bytes", &CacheDevStats::stored_bytes, kCounter},
    {"index_bytes", &CacheDevStats::index_bytes, kGauge},
    {"damaged_records", &CacheDevStats::damaged_records, kGauge},
    {"repaired_copies", &CacheDevStats::repaired_copies, kGauge},
    {"unrepaired_copies", &CacheDevStats::unrepaired_copies, kGauge},
    {"segments_free", &CacheDevStats::segments_free, kGauge},
    {"segments_clean", &CacheDevStats::segments_clean, kGauge},
    {"segments_dirty", &CacheDevStats::segments_dirty, kGauge},
    {"segments_reserved", &CacheDevStats::segments_reserved, kGauge},
};

}  // namespace

std::uint64_t LatencyStats::percentile_ns(double part) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count)));
  std::uint64_t seen = 0;
  for (const Bucket& bucket : buckets) {
    seen += bucket.count;
    if (seen >= wanted) return std::min(bucket.below_ns, max_ns);
  }
  return max_ns;
}

std::span<const NumberField<LogicDevStats>> logic_dev_numbers() { return kLogicDevNumbers; }
std::span<const NumberField<CacheDevStats>> cache_dev_numbers() { return kCacheDevNumbers; }

}  // namespace pcache
