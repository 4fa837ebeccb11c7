#include "pcache/stats.h"

#include <algorithm>
#include <cmath>

namespace pcache {
namespace {

constexpr bool kGauge = false;
constexpr bool kCounter = true;

constexpr NumberField<LogicDevStats> kLogicDevNumbers[] = {
    {"backing_id",
     &LogicDevStats::backing_id,
     kGauge,
     {"backing_id", "Number of the backing device among those of its cache device."}},
    {"size_bytes", &LogicDevStats::size_bytes, kGauge, {"size_bytes", "Size of the logical device."}},
    {"dirty_bytes", &LogicDevStats::dirty_bytes, kGauge, {"dirty_bytes", "Data that only the cache has so far."}},
    {"cached_bytes",
     &LogicDevStats::cached_bytes,
     kGauge,
     {"cached_bytes", "Data that can be read from the cache, dirty data included."}},
    {"used_bytes", &LogicDevStats::used_bytes, kGauge, {"used_bytes", "Space taken of the cache device."}},
    {"share_bytes",
     &LogicDevStats::share_bytes,
     kGauge,
     {"share_bytes", "Space that may be taken of the cache device."}},
    {"reads", &LogicDevStats::reads, kCounter, {"requests", "Requests.", "op", "read"}},
    {"read_bytes", &LogicDevStats::read_bytes, kCounter, {"request_bytes", "Data read and written.", "op", "read"}},
    {"read_hits",
     &LogicDevStats::read_hits,
     kCounter,
     {"read_blocks", "Blocks of 4 KiB that were read, from the cache (hit) or the backing device (miss).", "result",
      "hit"}},
    {"read_misses", &LogicDevStats::read_misses, kCounter, {"read_blocks", "", "result", "miss"}},
    {"read_fills",
     &LogicDevStats::read_fills,
     kCounter,
     {"admitted_blocks", "Blocks of 4 KiB that were kept after a miss."}},
    {"partial_hits",
     &LogicDevStats::partial_hits,
     kCounter,
     {"partial_hits", "Reads of which a part came from the cache."}},
    {"not_admitted_first_touch",
     &LogicDevStats::not_admitted_first_touch,
     kCounter,
     {"not_admitted_blocks", "Blocks of 4 KiB that were not kept after a miss.", "reason", "first_touch"}},
    {"not_admitted_sequential",
     &LogicDevStats::not_admitted_sequential,
     kCounter,
     {"not_admitted_blocks", "", "reason", "sequential"}},
    {"not_admitted_no_space",
     &LogicDevStats::not_admitted_no_space,
     kCounter,
     {"not_admitted_blocks", "", "reason", "no_space"}},
    {"not_admitted_mode", &LogicDevStats::not_admitted_mode, kCounter, {"not_admitted_blocks", "", "reason", "mode"}},
    {"writes", &LogicDevStats::writes, kCounter, {"requests", "", "op", "write"}},
    {"write_bytes", &LogicDevStats::write_bytes, kCounter, {"request_bytes", "", "op", "write"}},
    {"flushes", &LogicDevStats::flushes, kCounter, {"requests", "", "op", "flush"}},
    {"discards", &LogicDevStats::discards, kCounter, {"requests", "", "op", "discard"}},
    {"written_back_bytes",
     &LogicDevStats::written_back_bytes,
     kCounter,
     {"writeback_bytes", "Data written to the backing device by writeback."}},
    {"writeback_errors",
     &LogicDevStats::writeback_errors,
     kCounter,
     {"backing_errors", "Failed attempts of writeback; each is tried again."}},
    {"space_waits", &LogicDevStats::space_waits, kCounter, {"space_waits", "Writes that had to wait for space."}},
    {"evicted_bytes",
     &LogicDevStats::evicted_bytes,
     kCounter,
     {"evicted_bytes", "Clean data that was dropped from the cache."}},
    {"relocated_bytes",
     &LogicDevStats::relocated_bytes,
     kCounter,
     {"relocated_bytes", "Data kept when its segment was freed, since it had been read."}},
    {"promoted_bytes",
     &LogicDevStats::promoted_bytes,
     kCounter,
     {"promoted_bytes", "Data moved from probation to the log, since it had been read again."}},
    {"ghost_hits",
     &LogicDevStats::ghost_hits,
     kCounter,
     {"ghost_hit_blocks", "Blocks of 4 KiB admitted to the log at once, since they had been dropped only lately."}},
    {"checksum_errors",
     &LogicDevStats::checksum_errors,
     kCounter,
     {"checksum_errors", "Cached blocks that did not match their checksums."}},
    {"lost_bytes", &LogicDevStats::lost_bytes, kGauge, {"lost_bytes", "Dirty data that cannot be read."}},
    {"bypassed_bytes",
     &LogicDevStats::bypassed_bytes,
     kCounter,
     {"bypassed_bytes", "Data written to the backing device and not kept.", "reason", "mode"}},
    {"bypassed_full_bytes", &LogicDevStats::bypassed_full_bytes, kCounter, {"bypassed_bytes", "", "reason", "full"}},
    {"bad_cells", &LogicDevStats::bad_cells, kCounter, {"bad_cells", "Places on the cache device that took no data."}},
    {"epoch", &LogicDevStats::epoch, kGauge, {"epoch", "The open epoch."}},
    {"clean_epoch",
     &LogicDevStats::clean_epoch,
     kGauge,
     {"clean_epoch", "The last epoch that the backing device holds completely."}},
    {"throttled_ms",
     &LogicDevStats::throttled_ms,
     kCounter,
     {"throttled_seconds", "Time that writes waited for space or for their turn, summed over all of them."}},
    {"oldest_dirty_ms",
     &LogicDevStats::oldest_dirty_ms,
     kGauge,
     {"oldest_dirty_seconds", "Age of the oldest dirty data."}},
    {"clean_in_ms",
     &LogicDevStats::clean_in_ms,
     kGauge,
     {"clean_in_seconds", "Time until all dirty data is written back at full speed."}},
};

constexpr NumberField<CacheDevStats> kCacheDevNumbers[] = {
    {"cache_dev_id", &CacheDevStats::cache_dev_id, kGauge, {"id", "Number of the cache device in this mount."}},
    {"epoch_max_ms",
     &CacheDevStats::epoch_max_ms,
     kGauge,
     {"epoch_max_seconds", "After how long an open epoch closes by itself."}},
    {"size_bytes", &CacheDevStats::size_bytes, kGauge, {"size_bytes", "Size of the cache device."}},
    {"segment_size_bytes", &CacheDevStats::segment_size_bytes, kGauge, {"segment_size_bytes", "Size of a segment."}},
    {"magic", &CacheDevStats::magic, kGauge, {"magic", "What a cache device begins with."}},
    {"media_version", &CacheDevStats::media_version, kGauge, {"media_version", "Version of the format on the medium."}},
    {"segments", &CacheDevStats::segments, kGauge, {"segments_capacity", "Segments that there are."}},
    {"segments_used", &CacheDevStats::segments_used, kGauge, {"segments_used", "Segments that are not free."}},
    {"stored_bytes",
     &CacheDevStats::stored_bytes,
     kCounter,
     {"stored_bytes", "Data written to the medium, with its records."}},
    {"index_bytes", &CacheDevStats::index_bytes, kGauge, {"index_bytes", "Memory of the index."}},
    {"damaged_records", &CacheDevStats::damaged_records, kGauge, {"damaged_records", "Records that are damaged."}},
    {"repaired_copies",
     &CacheDevStats::repaired_copies,
     kGauge,
     {"repaired_copies", "Copies of metadata that were found damaged and stored again."}},
    {"unrepaired_copies",
     &CacheDevStats::unrepaired_copies,
     kGauge,
     {"unrepaired_copies", "Copies of metadata that could not be stored again."}},
    {"segments_free",
     &CacheDevStats::segments_free,
     kGauge,
     {"segments", "Segments: free, clean (free as soon as somebody needs them), or dirty.", "state", "free"}},
    {"segments_clean", &CacheDevStats::segments_clean, kGauge, {"segments", "", "state", "clean"}},
    {"segments_dirty", &CacheDevStats::segments_dirty, kGauge, {"segments", "", "state", "dirty"}},
    {"segments_reserved",
     &CacheDevStats::segments_reserved,
     kGauge,
     {"segments_reserved", "Segments kept from writes, for records that must not fail."}},
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
