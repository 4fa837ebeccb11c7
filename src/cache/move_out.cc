// Emptying segments that are to be given up, because the cache device becomes smaller.

#include <algorithm>
#include <array>
#include <mutex>

#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

void CachedDevice::reserve_segments(std::uint32_t segments) {
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    stream->log.reserve_segments(segments);
    stream->index.reserve(std::size_t{segments} * cache_.cache_dev().geometry().slots_per_segment);
  }
  probation_.reserve_segments(segments);
}

// A log gives its segments back in their order, so that those before the one in question go too. What is dirty is
// written back first, what was read since goes to the head, as in any reclaim.
CachedDevice::MoveOut CachedDevice::move_out_of(SegmentId end) {
  if (probation_.holds_any_from(end)) return reclaim_probation() ? MoveOut::moved : MoveOut::waits;
  bool waits = false;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = *streams_[i];
    {
      const std::lock_guard lock(stream.lock);
      const auto& segments = stream.log.segments();
      if (std::none_of(segments.begin(), segments.end(), [end](const auto& s) { return s.id >= end; })) continue;
      waits = true;
      const bool stuck = !serves_ && stream.first_dirty_lsn() < stream.log.next_lsn();
      if (failed_ || stuck || (segments.back().id >= end && !leave_head(stream))) continue;
    }
    if (reclaim_front(i)) return MoveOut::moved;
  }
  return waits ? MoveOut::waits : MoveOut::none;
}

// Goes on in another segment, the rest of the head filled up. Under the stream's lock. Returns false when there is no
// free one now.
bool CachedDevice::leave_head(Stream& stream) {
  constexpr std::uint32_t kAtOnce = 64;
  if (cache_.pool().free_count() <= cache_.reserve()) return false;
  std::array<LogEntry, kAtOnce> fillers;
  fillers.fill({RecordType::filler});
  while (const std::uint32_t room = stream.log.room()) {
    const std::uint32_t count = std::min(room, kAtOnce);
    const auto lsn =
        stream.log.commit({fillers.data(), count}, epoch_.load(std::memory_order_acquire), Persist::relaxed);
    if (!lsn) return false;
    for (std::uint32_t i = 0; i < count; ++i) {
      cache_.slots().set_key(stream.log.slot_of(*lsn + i), {0, SlotType::filler, false, false});
    }
  }
  const auto room = take_segment(stream);
  return room && *room != 0;
}

}  // namespace pcache
