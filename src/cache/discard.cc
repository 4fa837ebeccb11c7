// Discarding: one zero record in each stream that has a part of the range.

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <vector>

#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

void CachedDevice::discard(std::uint64_t offset, std::uint64_t length, Completion done) {
  const OpTimer::Begun begun(timer_, OpTimer::Op::discard, done);
  if (!in_bounds(offset, length)) return done(EINVAL);
  if (stopped_ || failed_ || !serves_) return done(EIO);
  discards_.fetch_add(1, std::memory_order_relaxed);
  std::unique_ptr<WriteOp> op(new (std::nothrow) WriteOp);
  if (!op) return done(EIO);
  op->offset = offset;
  op->end = offset + length;
  op->discard = true;
  op->done = done;
  PCACHE_PAUSE_POINT("discard.begun");
  if (!count_in()) return done(EIO);
  resume(std::move(op));
}

// Persist order: one record a stream, all streams locked; each is durable before the next is written. A crash in
// between leaves the range discarded in part, as an unacknowledged discard may be.
CachedDevice::Progress CachedDevice::discard_blocks(WriteOp& op) {
  constexpr std::uint64_t kMaxCount = 1U << 31;  // of one record
  const std::uint64_t begin = op.offset / kBlockSize;
  const std::uint64_t end = begin + std::min(op.end / kBlockSize - begin, kMaxCount);
  const std::uint32_t wanted = streams_in(begin, end);

  std::vector<std::unique_lock<BackoffLock>> locks;
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    locks.emplace_back(streams_[i]->lock);
    if (const Progress progress = reserve(*streams_[i], op); progress != Progress::done) return progress;
    streams_[i]->zeros.reserve();
  }
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    Stream& stream = *streams_[i];
    LogEntry entry{RecordType::zero, begin, end - begin, nullptr, 0};
    const std::uint64_t epoch = enter_epoch(stream);
    PCACHE_PAUSE_POINT("discard.entered");
    bump(stream.stored_slots, 1);
    const auto lsn = stream.log.append({&entry, 1}, epoch, cache_.ack_persist());
    if (!lsn) return Progress::failed;
    publish_zero(stream, *lsn, entry);
  }
  op.offset = end * kBlockSize;
  op.waited = false;
  return Progress::done;
}

// The streams, as bits, that own a window of blocks [begin, end).
std::uint32_t CachedDevice::streams_in(std::uint64_t begin, std::uint64_t end) const {
  const std::uint32_t all = (1U << streams_.size()) - 1;
  std::uint32_t wanted = 0;
  for (std::uint64_t window = begin / kWindowBlocks; window <= (end - 1) / kWindowBlocks && wanted != all; ++window) {
    wanted |= 1U << stream_number(window * kWindowBlocks);
  }
  return wanted;
}

void CachedDevice::publish_zero(Stream& stream, std::uint64_t lsn, const LogEntry& entry) {
  const std::uint64_t end = entry.block + entry.count;
  forget_blocks(stream, entry.block, end);
  note_zero(stream, lsn, entry, true);
  overtake(stream, entry.block, end);
}

// All but taking the blocks out of the index.
void CachedDevice::note_zero(Stream& stream, std::uint64_t lsn, const LogEntry& entry, bool dirty) {
  const std::uint64_t end = entry.block + entry.count;
  const SlotId slot = stream.log.slot_of(lsn);
  cache_.slots().set_key(slot, {entry.block, SlotType::zero, false, dirty});
  cache_.slots().set_value(slot, static_cast<std::uint32_t>(entry.count));
  if (dirty) {
    stream.zeros.add(entry.block, end, lsn);
  } else {
    stream.zeros.cut(entry.block, end);
  }
}

// Takes blocks [begin, end) out of the stream's index, going over whichever is shorter: the range or what is cached.
void CachedDevice::forget_blocks(Stream& stream, std::uint64_t begin, std::uint64_t end) {
  if (stream.index.count() == 0) return;
  if (end - begin <= 4 * stream.index.count()) {
    for (std::uint64_t block = begin; block < end; ++block) {
      if (const SlotId slot = stream.index.find(block); slot != kNoSlot) unlink(stream, slot);
    }
    return;
  }
  const auto forget = [&](SlotId slot) {
    const SlotKey key = cache_.slots().key(slot);
    if (key.linked && key.block >= begin && key.block < end) unlink(stream, slot);
  };
  for (const StreamLog::Segment& segment : stream.log.segments()) {
    const std::uint64_t stop = std::min(stream.log.end_lsn(segment), stream.log.next_lsn());
    for (std::uint64_t lsn = segment.first_lsn; lsn < stop; ++lsn) forget(stream.log.slot_of(lsn));
  }
  probation_.for_each_slot([&](SlotId slot) {
    if (&stream_of(cache_.slots().key(slot).block) == &stream) forget(slot);
  });
}

// Takes a slot out of the index, if it is in it, and out of the counts.
void CachedDevice::unlink(Stream& stream, SlotId slot) {
  const SlotKey key = cache_.slots().key(slot);
  if (!stream.index.erase(slot)) return;
  bump(stream.cached_blocks, -std::uint64_t{1});
  if (key.type == SlotType::lost) stream.no_longer_lost(key.block);
  if (key.dirty) bump(stream.dirty_blocks, -std::uint64_t{1});
}

}  // namespace pcache
