// Where a logical device has data and where it reads as zeroes: as the cache knows, and the backing where it does not.

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <vector>

#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

int CachedDevice::seek(Seek what, std::uint64_t& offset) try {
  if (offset >= size_bytes()) return ENXIO;
  if (stopped_ || failed_ || !serves_ || !count_in()) return EIO;
  struct CountOut {
    CachedDevice& device;
    ~CountOut() { device.count_out(); }
  } const count{*this};

  Extent backing;
  for (std::uint64_t block = offset / kBlockSize; block < blocks();) {
    const Extent extent = extent_of(block, backing);
    if (extent.data == (what == Seek::data)) {
      offset = std::max(offset, block * kBlockSize);
      return 0;
    }
    block = extent.end;
  }
  if (what == Seek::data) return ENXIO;
  offset = size_bytes();
  return 0;
} catch (const std::bad_alloc&) {
  return EIO;
}

// What `block` is, and how far the same is known. `backing` is what the backing said last, and goes as far as its
// `end`; it is enough to call data what may be a hole by now, while a hole is only what the backing says is one after
// the cache was found to have nothing there: what was dirty when it was asked may have been written back and evicted
// since.
CachedDevice::Extent CachedDevice::extent_of(std::uint64_t block, Extent& backing) {
  if (backing.end <= block) backing = backing_extent(block);
  const auto is_cached = [this](std::uint64_t b) { return stream_of(b).index.find_unlocked(b).slot != kNoSlot; };
  if (!backing.data) {
    std::uint64_t end = block;
    const std::uint64_t window_end = (block / kWindowBlocks + 1) * kWindowBlocks;
    while (end < std::min(window_end, backing.end) && is_cached(end)) ++end;
    if (end > block) return {true, end};
    const std::uint64_t cached = first_cached(block, backing.end);
    if (cached == block) return {true, block + 1};
    const Extent again = backing_extent(block);
    backing = again;
    if (!again.data) return {false, std::min(cached, again.end)};
  }
  if (const std::uint64_t zero = first_zero(block, backing.end); zero > block) return {true, zero};
  Stream& stream = stream_of(block);
  const std::uint64_t window_end = (block / kWindowBlocks + 1) * kWindowBlocks;
  const std::lock_guard lock(stream.lock);
  const std::uint64_t end = std::min({stream.zeros.end_of(block), window_end, blocks()});
  return end > block ? Extent{false, end} : Extent{true, block + 1};  // written just now
}

// In whole blocks: one that is a hole in part is data.
CachedDevice::Extent CachedDevice::backing_extent(std::uint64_t block) const {
  const BackingExtent extent = backing_->extent_at(block * kBlockSize);
  if (extent.data) return {true, std::clamp(div_ceil(extent.end, kBlockSize), block + 1, blocks())};
  const std::uint64_t end = extent.end >= size_bytes() ? blocks() : extent.end / kBlockSize;
  return end > block ? Extent{false, end} : Extent{true, block + 1};
}

// The first block of [begin, end) that was discarded and not written since; `end` if there is none. Such a block is in
// no index.
std::uint64_t CachedDevice::first_zero(std::uint64_t begin, std::uint64_t end) {
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    const std::lock_guard lock(streams_[i]->lock);
    const ZeroMap& zeros = streams_[i]->zeros;
    if (zeros.empty()) continue;
    end = zeros.first_in(begin, end, kWindowBlocks, [&](std::uint64_t block) { return stream_number(block) == i; });
  }
  return end;
}

// The first block of [begin, end) that is in the cache; `end` if there is none. Goes over whichever is shorter: the
// range or the log.
std::uint64_t CachedDevice::first_cached(std::uint64_t begin, std::uint64_t end) {
  std::uint64_t cached = 0;
  for (const auto& stream : streams_) cached += stream->cached_blocks.load(std::memory_order_relaxed);
  if (cached == 0) return end;
  if (end - begin > 4 * cached) return first_cached_by_log(begin, end);
  for (std::uint64_t block = begin; block < end; ++block) {
    if (stream_of(block).index.find_unlocked(block).slot != kNoSlot) return block;
  }
  return end;
}

// A block that was cached all the time is found, though it may move to another slot meanwhile: each slot names a block
// to look for, linked or not.
std::uint64_t CachedDevice::first_cached_by_log(std::uint64_t begin, std::uint64_t end) {
  const SlotTable& slots = cache_.slots();
  const std::uint32_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  std::vector<SegmentId> segments;
  for (const auto& stream : streams_) {
    for (;;) {
      std::size_t count = 0;
      {
        const std::lock_guard lock(stream->lock);
        count = stream->log.segments().size();
        if (segments.capacity() >= segments.size() + count) {
          for (const StreamLog::Segment& segment : stream->log.segments()) segments.push_back(segment.id);
          break;
        }
      }
      segments.reserve(segments.size() + 2 * count);
    }
  }
  for (const SegmentId segment : segments) {
    const SlotId first = segment * slots_per_segment;
    for (SlotId slot = first; slot < first + slots_per_segment; ++slot) {
      const SlotKey key = slots.key(slot);
      if (key.block < begin || key.block >= end) continue;
      if (stream_of(key.block).index.find_unlocked(key.block).slot != kNoSlot) end = key.block;
    }
  }
  return end;
}

}  // namespace pcache
