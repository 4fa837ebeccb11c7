// Reading: what the cache has is copied on the calling thread, the rest comes from the backing and is kept.

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>

#include "base/crc32c.h"
#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

void ReadOp::take_block(std::uint64_t block, const std::byte* content) {
  const std::uint64_t begin = std::max(offset, block * kBlockSize);
  const std::uint64_t end = std::min(offset + buffer.size(), (block + 1) * kBlockSize);
  std::memcpy(buffer.data() + (begin - offset), content + (begin - block * kBlockSize), end - begin);
}

void ReadOp::put() {
  if (pending.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const Completion completion = done;
  const int code = error.load(std::memory_order_relaxed);
  delete this;
  completion(code);
}

void CachedDevice::read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) {
  const OpTimer::Begun begun(timer_, OpTimer::Op::read, done);
  reads_.fetch_add(1, std::memory_order_relaxed);
  read_bytes_.fetch_add(buffer.size(), std::memory_order_relaxed);
  start_read(offset, buffer, done);
}

void CachedDevice::start_read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) {
  if (!in_bounds(offset, buffer.size())) return done(EINVAL);
  if (stopped_ || failed_ || !serves_) return done(EIO);

  const std::uint64_t end = offset + buffer.size();
  std::uint64_t hits = 0;
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t block = at / kBlockSize;
    const std::uint64_t length = std::min(end, (block + 1) * kBlockSize) - at;
    switch (read_cached(stream_of(block), block, at % kBlockSize, buffer.subspan(at - offset, length))) {
      case Lookup::hit:
        ++hits;
        at += length;
        continue;
      case Lookup::error:
        return done(EIO);
      case Lookup::miss:
        break;
    }
    read_hits_.fetch_add(hits, std::memory_order_relaxed);
    PCACHE_PAUSE_POINT("read.missed");
    if (!count_in()) return done(EIO);
    auto* op = new (std::nothrow) ReadOp{offset, buffer, done};
    if (op == nullptr) {
      count_out();
      return done(EIO);
    }
    if (read_rest(*op, at) || hits != 0) partial_hits_.fetch_add(1, std::memory_order_relaxed);
    count_out();
    op->put();
    return;
  }
  read_hits_.fetch_add(hits, std::memory_order_relaxed);
  done(0);
}

// Serves the request from `from` on, which is known to miss. Returns whether some of it was cached.
bool CachedDevice::read_rest(ReadOp& op, std::uint64_t from) {
  const std::uint64_t end = op.offset + op.buffer.size();
  const std::uint64_t last = div_ceil(end, kBlockSize);
  std::uint64_t block = from / kBlockSize;
  bool any_hit = false;
  while (block < last) {
    // A run of blocks of one window that are not cached.
    const std::uint64_t window_end = std::min(last, (block / kWindowBlocks + 1) * kWindowBlocks);
    std::uint64_t run_end = block;
    std::uint64_t hits = 0;
    for (; run_end < window_end; ++run_end) {
      const std::uint64_t begin = std::max(op.offset, run_end * kBlockSize);
      const std::uint64_t stop = std::min(end, (run_end + 1) * kBlockSize);
      const Lookup found = read_cached(stream_of(run_end), run_end, begin % kBlockSize,
                                       op.buffer.subspan(begin - op.offset, stop - begin));
      if (found == Lookup::miss) continue;
      hits = 1;
      if (found == Lookup::error) op.fail(EIO);
      break;
    }
    if (run_end > block) start_misses(op, block, run_end - block);
    read_hits_.fetch_add(hits, std::memory_order_relaxed);
    any_hit |= hits != 0;
    block = run_end + hits;
  }
  return any_hit;
}

// Looks `block` up; if there is a slot with data, its segment is pinned on return.
StreamIndex::Found CachedDevice::find_pinned(const Stream& stream, std::uint64_t block) {
  SegmentPool& pool = cache_.pool();
  const std::uint32_t slots_per_segment = cache_.cache_dev().geometry().slots_per_segment;
  for (;;) {
    const StreamIndex::Found found = stream.index.find_unlocked(block);
    if (found.slot == kNoSlot || found.key.type == SlotType::lost) return found;
    PCACHE_PAUSE_POINT("read.found");
    pool.pin(found.slot / slots_per_segment);
    if (stream.index.still_valid(found)) return found;
    pool.unpin(found.slot / slots_per_segment);
  }
}

CachedDevice::Lookup CachedDevice::read_cached(Stream& stream, std::uint64_t block, std::uint64_t skip,
                                               std::span<std::byte> out) {
  if (mode() == Mode::passthrough) return Lookup::miss;
  for (;;) {
    const StreamIndex::Found found = find_pinned(stream, block);
    if (found.slot == kNoSlot) return Lookup::miss;
    if (found.key.type == SlotType::lost) return Lookup::error;
    PCACHE_PAUSE_POINT("read.pinned");
    OpTimer::mark(OpTimer::Phase::index);
    bool intact;
    if (out.size() == kBlockSize) {
      intact = read_cell(found.slot, found.value, out.data());
    } else {
      std::array<std::byte, kBlockSize> whole;
      intact = read_cell(found.slot, found.value, whole.data());
      if (intact) std::memcpy(out.data(), whole.data() + skip, out.size());
    }
    cache_.pool().unpin(found.slot / cache_.cache_dev().geometry().slots_per_segment);
    OpTimer::mark(OpTimer::Phase::pmem);
    if (intact) {
      cache_.slots().count_read(found.slot);
      return Lookup::hit;
    }
    if (!drop_damaged(stream, found)) return Lookup::error;
  }
}

bool CachedDevice::read_cell(SlotId slot, std::uint32_t crc, std::byte* out) const {
  const Geometry& g = cache_.cache_dev().geometry();
  const std::uint64_t offset = g.cell_offset(slot / g.slots_per_segment, slot % g.slots_per_segment);
  return cache_.cache_dev().space().read(offset, out, kBlockSize) && crc32c(out, kBlockSize) == crc;
}

// A clean block that is damaged is forgotten, to be read from the backing again; a dirty one has no other copy.
bool CachedDevice::drop_damaged(Stream& stream, const StreamIndex::Found& found) {
  checksum_errors_.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard lock(stream.lock);
  if (stopped_) return false;  // another object may have the slot by now
  const SlotKey key = cache_.slots().key(found.slot);
  if (key.block != found.key.block || !key.linked) return true;  // it is another one by now: look again
  if (key.dirty) return false;
  drop_bare(stream, found.slot);
  return true;
}

// Takes a slot out of the index that no record of the log takes away.
void CachedDevice::drop_bare(Stream& stream, SlotId slot) {
  stream.bare_end_lsn = stream.log.next_lsn();
  unlink(stream, slot);
}

void CachedDevice::start_misses(ReadOp& op, std::uint64_t first, std::uint64_t count) {
  Stream& stream = stream_of(first);
  static constexpr std::array<std::byte, kBlockSize> kZeroes{};
  const std::uint64_t bypass_bytes = setting(Setting::sequential_bypass);
  const bool sequential = bypass_bytes != 0 && sequential_reads_.note(first, count) > bypass_bytes / kBlockSize;
  std::vector<std::unique_ptr<Fetch>> fetches;
  std::vector<std::uint64_t> again;
  try {
    const std::lock_guard lock(stream.lock);
    const bool around = mode() == Mode::passthrough;
    for (std::uint64_t block = first; block < first + count; ++block) {
      // What is being written to the backing at the same time is as the backing says, and is not kept.
      const bool shared = !around && !gate_.is_busy(block);
      if (!around && stream.index.find(block) != kNoSlot) {
        again.push_back(block);  // somebody filled or wrote it just now
      } else if (!around && stream.zeros.contains(block)) {
        op.take_block(block, kZeroes.data());
        read_hits_.fetch_add(1, std::memory_order_relaxed);
      } else if (const auto joined = stream.fetches.find(block); shared && joined != stream.fetches.end()) {
        Fetch& fetch = *joined->second;
        if (!fetch.waiters.empty() && fetch.waiters.back().op == &op &&
            fetch.waiters.back().first + fetch.waiters.back().count == block) {
          ++fetch.waiters.back().count;
        } else {
          fetch.waiters.push_back({&op, block, 1});
          op.pending.fetch_add(1, std::memory_order_relaxed);
        }
        read_misses_.fetch_add(1, std::memory_order_relaxed);
      } else {
        if (fetches.empty() || fetches.back()->first + fetches.back()->count != block ||
            fetches.back()->shared != shared) {
          fetches.push_back(std::make_unique<Fetch>(Fetch{*this, stream, block, 0, shared, AlignedBuffer(0), 0, {}}));
          fetches.back()->waiters.reserve(1);
          fetches.back()->sequential = sequential;
        }
        ++fetches.back()->count;
      }
    }
    stream.fetches.reserve(stream.fetches.size() + count);
    // Nothing takes memory any more: either all fetches are known to others and under way, or none.
    for (const auto& fetch : fetches) {
      for (std::uint64_t i = 0; fetch->shared && i < fetch->count; ++i) {
        stream.fetches[fetch->first + i] = fetch.get();
      }
      fetch->waiters.push_back({&op, fetch->first, fetch->count});
      op.pending.fetch_add(1, std::memory_order_relaxed);
      read_misses_.fetch_add(fetch->count, std::memory_order_relaxed);
    }
  } catch (const std::bad_alloc&) {
    return op.fail(EIO);
  }
  PCACHE_PAUSE_POINT("miss.registered");
  for (auto& fetch : fetches) {
    operations_.fetch_add(1, std::memory_order_relaxed);  // the request's own count is still there
    try {
      fetch->buffer = AlignedBuffer(fetch->count * kBlockSize);
    } catch (const std::bad_alloc&) {
      fetched(*fetch.release(), ENOMEM);
      continue;
    }
    const std::uint64_t begin = fetch->first * kBlockSize;
    const std::uint64_t length = std::min(fetch->count * kBlockSize, size_bytes() - begin);
    std::memset(fetch->buffer.data() + length, 0, fetch->buffer.size() - length);
    Fetch* const raw = fetch.release();
    raw->began_ns = OpTimer::now();
    backing_->read(begin, {raw->buffer.data(), length},
                   {[](void* context, int error) {
                      auto* f = static_cast<Fetch*>(context);
                      f->device.fetched(*f, error);
                    },
                    raw});
  }
  for (const std::uint64_t block : again) read_block(op, block);
}

// Serves one block of a request that found it missing before.
void CachedDevice::read_block(ReadOp& op, std::uint64_t block) {
  const std::uint64_t begin = std::max(op.offset, block * kBlockSize);
  const std::uint64_t stop = std::min(op.offset + op.buffer.size(), (block + 1) * kBlockSize);
  switch (
      read_cached(stream_of(block), block, begin % kBlockSize, op.buffer.subspan(begin - op.offset, stop - begin))) {
    case Lookup::hit:
      read_hits_.fetch_add(1, std::memory_order_relaxed);
      break;
    case Lookup::error:
      op.fail(EIO);
      break;
    case Lookup::miss:
      start_misses(op, block, 1);
      break;
  }
}

// A block that was overtaken may have been written back while the backing was read, and what was read of it may be part
// old and part new: it is looked up again, and fetched again if it is not cached any more. That ends: for each further
// turn the block has to be written, written back, flushed and evicted during one read of the backing.
void CachedDevice::fetched(Fetch& fetch, int error) {
  PCACHE_PAUSE_POINT("fetch.arrived");
  if (fetch.began_ns != 0) {  // or there was no memory to read into
    timer_.add(OpTimer::Phase::backing_read, OpTimer::now() - fetch.began_ns);
    if (error != 0) backing_read_errors_.fetch_add(1, std::memory_order_relaxed);
  }
  if (error == 0) fill(fetch);
  PCACHE_PAUSE_POINT("fetch.filled");
  std::vector<Fetch::Waiter> waiters;
  std::bitset<kWindowBlocks> overtaken;
  {
    const std::lock_guard lock(fetch.stream.lock);
    // One that nobody knew of, begun beside a write to the backing or in a mode without a log, has not been told what
    // was logged since. While such a write goes on, nothing is.
    for (std::uint64_t i = 0; !fetch.shared && keeps_dirty(mode()) && i < fetch.count; ++i) {
      if (!gate_.is_busy(fetch.first + i)) overtaken.set(i);
    }
    for (std::uint64_t i = 0; fetch.shared && i < fetch.count; ++i) {
      const auto it = fetch.stream.fetches.find(fetch.first + i);
      if (it != fetch.stream.fetches.end() && it->second == &fetch) {
        fetch.stream.fetches.erase(it);
      } else {
        overtaken.set(i);
      }
    }
    waiters.swap(fetch.waiters);
  }
  const std::unique_ptr<Fetch> owned(&fetch);
  PCACHE_PAUSE_POINT("fetch.taken");
  for (const Fetch::Waiter& waiter : waiters) {
    for (std::uint64_t block = waiter.first; block < waiter.first + waiter.count; ++block) {
      if (overtaken.test(block - fetch.first)) {
        read_block(*waiter.op, block);
      } else if (error != 0) {
        waiter.op->fail(EIO);
      } else {
        waiter.op->take_block(block, fetch.buffer.data() + (block - fetch.first) * kBlockSize);
      }
    }
  }
  count_out();  // from here on only the requests are touched
  for (const Fetch::Waiter& waiter : waiters) waiter.op->put();
}

// Keeps what was read, as far as it is admitted and there is space without waiting: while the cache device has room,
// and what was dropped or refused only lately, in the log, the rest on probation.
void CachedDevice::fill(Fetch& fetch) {
  Stream& stream = fetch.stream;
  if (fetch.sequential) {
    refused_sequential_.fetch_add(fetch.count, std::memory_order_relaxed);
    return;
  }
  const bool second_touch = settings_.choice<Admission>(Setting::admission) == Admission::second_touch;
  for (std::uint64_t done = 0; done < fetch.count;) {
    const std::lock_guard lock(stream.lock);
    if (!fetch.shared || !admits_reads() || in_doubt()) {
      refused_mode_.fetch_add(fetch.count - done, std::memory_order_relaxed);
      return;
    }
    std::array<LogEntry, kBatchBlocks> to_log;
    std::array<LogEntry, kBatchBlocks> to_probation;
    std::size_t logged = 0;
    std::size_t tried = 0;
    for (; done < fetch.count && logged + tried < kBatchBlocks; ++done) {
      const std::uint64_t block = fetch.first + done;
      const auto it = stream.fetches.find(block);
      if (it == stream.fetches.end() || it->second != &fetch) continue;  // overtaken
      const bool returns = cache_.ghosts().take(device_id_, block);
      if (returns) ghost_hits_.fetch_add(1, std::memory_order_relaxed);
      if (second_touch && !returns) {
        cache_.ghosts().add(device_id_, block);
        refused_first_touch_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      const LogEntry entry{RecordType::clean, block, 1, fetch.buffer.data() + done * kBlockSize};
      if (returns || !is_full()) {
        to_log[logged++] = entry;
      } else {
        to_probation[tried++] = entry;
      }
    }
    const std::size_t kept =
        fill_log(stream, {to_log.data(), logged}) + fill_probation(stream, {to_probation.data(), tried});
    read_fills_.fetch_add(kept, std::memory_order_relaxed);
    refused_no_space_.fetch_add(logged + tried - kept, std::memory_order_relaxed);
  }
  if (cache_.short_of_space() || at_share_max()) cache_.kick_reclaim();
}

// Appends what was read from the backing. Returns how many blocks. Nothing here needs to be durable: a record whose
// payload did not make it fails its checksum and is read again.
std::size_t CachedDevice::fill_log(Stream& stream, std::span<LogEntry> entries) {
  std::size_t kept = 0;
  while (!entries.empty()) {
    if (stream.log.room() == 0) {
      if (!may_fill()) return kept;
      const auto room = take_segment(stream);
      if (!room || *room == 0) return kept;
    }
    const std::size_t count = std::min<std::size_t>(entries.size(), stream.log.room());
    const std::uint32_t staged = stream.log.stage(entries.first(count));
    if (staged == 0) {
      // Where a cell takes nothing, its block is tried in the next one, and given up there.
      if (!skip_slot(stream, Persist::relaxed)) return kept;
      entries = entries.subspan(1);
      continue;
    }
    const auto lsn = stream.log.commit(entries.first(staged), epoch_for_copies(stream), Persist::relaxed);
    if (!lsn) return kept;
    bump(stream.stored_slots, staged);
    for (std::size_t i = 0; i < staged; ++i) publish(stream, *lsn + i, entries[i], false);
    kept += staged;
    entries = entries.subspan(staged);
  }
  return kept;
}

// The same without records.
std::size_t CachedDevice::fill_probation(Stream& stream, std::span<LogEntry> entries) {
  const Geometry& g = cache_.cache_dev().geometry();
  PmemSpace& space = cache_.cache_dev().space();
  std::size_t kept = 0;
  while (!entries.empty()) {
    SlotId first = kNoSlot;
    const std::uint32_t claimed = probation_.claim(static_cast<std::uint32_t>(entries.size()), may_fill(), first);
    if (claimed == 0) return kept;
    std::array<bool, kBatchBlocks> stored{};
    for (std::uint32_t i = 0; i < claimed; ++i) {
      const SlotId slot = first + i;
      const std::uint64_t cell = g.cell_offset(slot / g.slots_per_segment, slot % g.slots_per_segment);
      stored[i] = space.write(cell, entries[i].payload, kCellSize);
      if (!stored[i]) bad_cells_.fetch_add(1, std::memory_order_relaxed);
      entries[i].payload_crc = crc32c(entries[i].payload, kCellSize);
    }
    space.drain();  // before others may read it
    bump(stream.stored_slots, claimed);
    for (std::uint32_t i = 0; i < claimed; ++i) {
      if (!stored[i]) continue;
      publish_at(stream, first + i, entries[i], false);
      ++kept;
    }
    entries = entries.subspan(claimed);
  }
  return kept;
}

}  // namespace pcache
