// Writing: whole blocks are appended to their stream's log and published; parts of blocks are completed first.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "base/check.h"
#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

void CachedDevice::write(std::uint64_t offset, std::span<const std::byte> data, Completion done) {
  const OpTimer::Begun begun(timer_, OpTimer::Op::write, done);
  if (!in_bounds(offset, data.size())) return done(EINVAL);
  if (stopped_ || failed_ || !serves_) return done(EIO);
  WriteOp op;
  op.data = data.data();
  op.offset = offset;
  op.end = offset + data.size();
  op.done = done;
  const bool waits = throttle_.on() && (cache_.turns_awaited() || !may_write(data.size(), cache_.now_ms()));
  switch (const Progress progress = waits ? Progress::no_turn : advance(op)) {
    case Progress::done:
      if (late_acks_.load(std::memory_order_relaxed) && count_in()) [[unlikely]] {
        return acknowledge_late(done);
      }
      return done(0);
    case Progress::failed:
      return done(EIO);
    default:
      PCACHE_PAUSE_POINT("write.waits");
      if (!count_in()) {
        forget_part(op);
        return done(EIO);
      }
      std::unique_ptr<WriteOp> waiting(new (std::nothrow) WriteOp(std::move(op)));
      if (!waiting) {
        forget_part(op);
        count_out();
        return done(EIO);
      }
      suspend(std::move(waiting), progress);
  }
}

void CachedDevice::resume(std::unique_ptr<WriteOp> op) {
  if (op->waiting_since_ns != 0) {
    timer_.add(OpTimer::Phase::space, OpTimer::now() - std::exchange(op->waiting_since_ns, 0));
  }
  if (op->direct) return start_direct(std::move(op));
  const Progress progress = stopped_ || failed_ ? Progress::failed : advance(*op);
  if (progress != Progress::done && progress != Progress::failed) return suspend(std::move(op), progress);
  finish(std::move(op), progress == Progress::done ? 0 : EIO);
}

void CachedDevice::finish(std::unique_ptr<WriteOp> op, int error) {
  forget_part(*op);
  if (op->waits_since_ms != 0) {
    const std::uint64_t now = cache_.now_ms();
    throttled_ms_.fetch_add(now - std::min(now, op->waits_since_ms), std::memory_order_relaxed);
  }
  const Completion done = op->done;
  const bool was_direct = op->direct != nullptr;
  if (error != 0 && was_direct && op->direct->around) {
    doubts_.fetch_add(1);  // before others may read its blocks
    kick();
  }
  if (was_direct && op->direct->entered) gate_.leave(*op);
  op.reset();
  if (was_direct) start_waiting_direct();
  if (error == 0 && !was_direct && late_acks_.load(std::memory_order_relaxed)) return acknowledge_late(done);
  count_out();
  done(error);
}

// Lets those go on that waited for another one on the same blocks.
void CachedDevice::start_waiting_direct() {
  while (std::unique_ptr<WriteOp> next = gate_.next()) {
    if (next->direct->entered) {
      start_direct(std::move(next));
    } else {
      next->direct.reset();
      resume(std::move(next));
    }
  }
}

void CachedDevice::forget_part(const WriteOp& op) {
  if (!op.part) return;
  Stream& stream = stream_of(op.part->watch.block);
  const std::lock_guard lock(stream.lock);
  std::erase(stream.watches, &op.part->watch);
}

void CachedDevice::suspend(std::unique_ptr<WriteOp> op, Progress why) {
  if (why == Progress::elsewhere) return go_direct(std::move(op));
  if (full_policy() == FullPolicy::bypass && go_around(op, why)) return;
  if (why == Progress::no_space || why == Progress::no_share) {
    space_waits_.fetch_add(1, std::memory_order_relaxed);
    op->waiting_since_ns = OpTimer::now();
    const bool first = op->waited;
    return cache_.wait_for_space(*this, std::move(op), first, why == Progress::no_share);
  }
  if (why == Progress::no_turn) return cache_.wait_for_turn(*this, std::move(op));
  // The block is read as any reader would read it, which also keeps it in the cache if there is space.
  const std::span<std::byte> base(op->part->base.data(), bytes_in(op->part->watch.block));
  const std::uint64_t offset = op->part->watch.block * kBlockSize;
  struct Waiting {
    CachedDevice& device;
    std::unique_ptr<WriteOp> op;
  };
  auto* const waiting = new (std::nothrow) Waiting{*this, std::move(op)};
  if (waiting == nullptr) return finish(std::move(op), EIO);
  start_read(offset, base,
             {[](void* context, int error) {
                const std::unique_ptr<Waiting> w(static_cast<Waiting*>(context));
                if (error != 0) return w->device.finish(std::move(w->op), error);
                w->op->part->have_base = true;
                PCACHE_PAUSE_POINT("part.read");
                w->device.resume(std::move(w->op));
              },
              waiting});
}

// Only what is reserved before anything is stored takes memory; without it the rest is not written.
CachedDevice::Progress CachedDevice::advance(WriteOp& op) try {
  while (op.offset < op.end) {
    const std::uint64_t block = op.offset / kBlockSize;
    Progress progress;
    if (op.offset % kBlockSize == 0 && op.end - op.offset >= kBlockSize) {
      if (op.discard) {
        progress = discard_blocks(op);
      } else {
        const std::uint64_t window_end = (block / kWindowBlocks + 1) * kWindowBlocks;
        progress = write_blocks(op, block, std::min(op.end / kBlockSize, window_end) - block);
      }
    } else {
      progress = write_part(op);
    }
    if (progress != Progress::done) return progress;
  }
  return Progress::done;
} catch (const std::bad_alloc&) {
  return Progress::failed;
}

// Appends as many of `count` blocks from `block` on as fit into one batch, and moves `op` on by them.
// Persist order: see StreamLog::append(). The index changes last, so that a write that fails leaves what was there.
CachedDevice::Progress CachedDevice::write_blocks(WriteOp& op, std::uint64_t block, std::uint64_t count) {
  static constexpr std::array<std::byte, kBlockSize> kZeroes{};
  Stream& stream = stream_of(block);
  count = std::min<std::uint64_t>(count, kBatchBlocks);
  for (std::uint64_t i = 0; i < count; ++i) stream.index.prefetch_bucket(block + i);

  const std::lock_guard lock(stream.lock);
  if (const Progress progress = reserve(stream, op); progress != Progress::done) return progress;
  OpTimer::mark(OpTimer::Phase::index);
  count = std::min<std::uint64_t>(count, stream.log.room());
  absl::InlinedVector<LogEntry, kBatchBlocks> entries;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::byte* const payload = op.data != nullptr ? op.data + i * kBlockSize : kZeroes.data();
    entries.push_back({RecordType::write, block + i, 1, payload});
  }
  if (const std::uint32_t staged = stream.log.stage({entries.data(), count}); staged != count) [[unlikely]] {
    if (staged == 0) return skip_for(stream, op);
    count = staged;
    entries.resize(count);
  }
  OpTimer::mark(OpTimer::Phase::pmem);
  for (std::uint64_t i = 0; i < count; ++i) stream.index.prefetch_slot(block + i);
  const std::uint64_t epoch = enter_epoch(stream);
  PCACHE_PAUSE_POINT("write.entered");
  bump(stream.stored_slots, count);
  const auto lsn = stream.log.commit({entries.data(), count}, epoch, cache_.ack_persist());
  if (!lsn) return Progress::failed;
  OpTimer::mark(OpTimer::Phase::pmem);
  PCACHE_PAUSE_POINT("write.stored");
  for (std::uint64_t i = 0; i < count; ++i) publish(stream, *lsn + i, entries[i], true);
  OpTimer::mark(OpTimer::Phase::index);
  count_written(stream, op, count * kBlockSize);
  op.skipped = 0;
  op.offset += count * kBlockSize;
  if (op.data != nullptr) op.data += count * kBlockSize;
  return Progress::done;
}

// Writes the part of one block that `op` starts with, together with the rest of the block as it is now.
CachedDevice::Progress CachedDevice::write_part(WriteOp& op) {
  const std::uint64_t block = op.offset / kBlockSize;
  const std::uint64_t skip = op.offset % kBlockSize;
  const std::uint64_t length = std::min(op.end - op.offset, kBlockSize - skip);
  Stream& stream = stream_of(block);
  const std::lock_guard lock(stream.lock);
  if (const Progress progress = reserve(stream, op); progress != Progress::done) return progress;

  std::array<std::byte, kBlockSize> whole;
  if (const Progress progress = base_of_part(stream, op, block, whole.data()); progress != Progress::done) {
    return progress;
  }
  if (op.data != nullptr) {
    std::memcpy(whole.data() + skip, op.data, length);
  } else {
    std::memset(whole.data() + skip, 0, length);
  }
  LogEntry entry{RecordType::write, block, 1, whole.data()};
  if (stream.log.stage({&entry, 1}) == 0) [[unlikely]] {
    return skip_for(stream, op);
  }
  const std::uint64_t epoch = enter_epoch(stream);
  PCACHE_PAUSE_POINT("part.entered");
  bump(stream.stored_slots, 1);
  const auto lsn = stream.log.commit({&entry, 1}, epoch, cache_.ack_persist());
  if (!lsn) return Progress::failed;
  publish(stream, *lsn, entry, true);
  count_written(stream, op, length);
  op.skipped = 0;
  op.offset += length;
  if (op.data != nullptr) op.data += length;
  return Progress::done;
}

// What `block` holds before a part of it is written, under the stream's lock: from the cache, or as read from the
// backing while nothing else wrote the block.
CachedDevice::Progress CachedDevice::base_of_part(Stream& stream, WriteOp& op, std::uint64_t block, std::byte* out) {
  std::unique_ptr<WriteOp::Part> part = std::move(op.part);
  if (part) std::erase(stream.watches, &part->watch);

  const SlotId slot = stream.index.find(block);
  if (slot != kNoSlot) {
    const SlotKey key = cache_.slots().key(slot);
    if (key.type != SlotType::lost && read_cell(slot, cache_.slots().value(slot), out)) return Progress::done;
    if (key.type != SlotType::lost) checksum_errors_.fetch_add(1, std::memory_order_relaxed);
    if (key.type == SlotType::lost || key.dirty) return Progress::failed;
    drop_bare(stream, slot);  // clean and damaged: the backing has it
  }
  if (stream.zeros.contains(block)) {
    std::memset(out, 0, kBlockSize);
    return Progress::done;
  }
  if (part && part->have_base && !part->watch.overtaken && part->watch.block == block) {
    std::memcpy(out, part->base.data(), bytes_in(block));
    std::memset(out + bytes_in(block), 0, kBlockSize - bytes_in(block));
    return Progress::done;
  }
  op.part = std::make_unique<WriteOp::Part>();
  op.part->watch.block = block;
  stream.watches.push_back(&op.part->watch);
  return Progress::needs_block;
}

// Counts per stream, under its lock: a locked instruction would wait for what was just stored.
void CachedDevice::count_written(Stream& stream, WriteOp& op, std::uint64_t bytes) {
  if (op.discard) return;
  if (!op.counted) bump(stream.writes, 1);
  op.counted = true;
  bump(stream.write_bytes, bytes);
}

// Sees to it that a write may be appended and that the stream's head has a free slot.
CachedDevice::Progress CachedDevice::reserve(Stream& stream, WriteOp& op) {
  // Asked under the lock: whoever sets these and then takes it knows that nothing is appended any more.
  if (stopped_ || refusing_writes_) return Progress::failed;
  if (!appends_.load(std::memory_order_relaxed)) return Progress::elsewhere;
  if (gate_.is_busy(op.offset / kBlockSize, div_ceil(op.end, kBlockSize))) [[unlikely]] {
    return Progress::elsewhere;
  }
  return make_room(stream, op);
}

CachedDevice::Progress CachedDevice::make_room(Stream& stream, WriteOp& op) {
  if (!stream.zeros.empty()) stream.zeros.reserve();
  if (stream.log.room() != 0) return Progress::done;
  if (!has_share_left(stream)) {
    if (at_share_max()) return Progress::no_share;
    if (!cache_.may_take_segment(op.waited)) return Progress::no_space;
  }
  const auto room = take_segment(stream);
  if (!room) return Progress::failed;
  cache_.segment_taken(*this);
  if (at_share_max()) cache_.kick_reclaim();
  if (*room == 0) return Progress::no_space;
  if (!op.discard) op.waited = false;  // a discard may need a segment in each stream before it gets on
  return Progress::done;
}

// As StreamLog::reserve(), and keeps count of what it changes.
Result<std::uint32_t> CachedDevice::take_segment(Stream& stream) {
  auto room = stream.log.reserve();
  count_clean_segments(stream);
  return room;
}

// The epoch for what is appended next. Under the stream's lock until it is published: whoever closes the epoch and then
// takes the lock finds all of it.
std::uint64_t CachedDevice::enter_epoch(Stream& stream) {
  const std::uint64_t epoch = epoch_.load(std::memory_order_acquire);
  if (!epoch_used_.load(std::memory_order_relaxed)) epoch_used_.store(true, std::memory_order_release);
  if (stream.epochs.empty() || stream.epochs.back().epoch != epoch) {
    PCACHE_CHECK(!stream.epochs.full(), "an epoch was closed without making room for the next");
    stream.epochs.push_back({epoch, stream.log.next_lsn()});
  }
  return epoch;
}

// The epoch for a copy of what the backing has. Where the backing is written to directly it may still be in a volatile
// cache there: the epoch says when that was flushed.
std::uint64_t CachedDevice::epoch_for_copies(Stream& stream) {
  return is_direct(mode()) ? enter_epoch(stream) : epoch_.load(std::memory_order_acquire);
}

// The next slot's cell takes nothing: `op` goes on from where it is, with the slot after it.
CachedDevice::Progress CachedDevice::skip_for(Stream& stream, WriteOp& op) {
  if (++op.skipped > kSkipsToGiveUp) return Progress::failed;
  return skip_slot(stream, cache_.ack_persist()) ? Progress::done : Progress::failed;
}

// Leaves the next slot out. Its filler's epoch need not be entered, since it holds nothing that writeback looks for.
bool CachedDevice::skip_slot(Stream& stream, Persist persist) {
  const SlotId slot = stream.log.slot_of(stream.log.next_lsn());
  if (!stream.log.skip(epoch_.load(std::memory_order_acquire), persist)) return false;
  cache_.slots().set_key(slot, {0, SlotType::filler, false, false});
  bad_cells_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void CachedDevice::publish_at(Stream& stream, SlotId slot, const LogEntry& entry, bool dirty) {
  static_assert(static_cast<int>(SlotType::write) == static_cast<int>(RecordType::write) &&
                static_cast<int>(SlotType::filler) == static_cast<int>(RecordType::filler));
  SlotTable& slots = cache_.slots();
  const SlotId old =
      stream.index.insert(slot, entry.block, static_cast<SlotType>(entry.type), dirty, entry.payload_crc);
  if (old != kNoSlot) slots.set_frequency(slot, slots.frequency(old));  // what is read often stays so when it changes
  const bool was_dirty = old != kNoSlot && slots.key(old).dirty;
  if (dirty && !was_dirty) bump(stream.dirty_blocks, 1);
  if (!dirty && was_dirty) bump(stream.dirty_blocks, -std::uint64_t{1});
  if (old == kNoSlot) bump(stream.cached_blocks, 1);
  if (old != kNoSlot && slots.key(old).type == SlotType::lost) stream.no_longer_lost(entry.block);
  if (entry.type == RecordType::lost) stream.is_lost(entry.block);
  if (!stream.zeros.empty()) stream.zeros.cut(entry.block, entry.block + 1);
  // A clean record says what the backing said.
  if (entry.type != RecordType::clean) overtake(stream, entry.block, entry.block + 1);
}

// Whatever is being read from the backing for these blocks is old from now on.
void CachedDevice::overtake(Stream& stream, std::uint64_t begin, std::uint64_t end) {
  if (!stream.fetches.empty()) {
    if (end - begin <= stream.fetches.size()) {
      for (std::uint64_t block = begin; block < end; ++block) stream.fetches.erase(block);
    } else {
      absl::erase_if(stream.fetches, [&](const auto& f) { return f.first >= begin && f.first < end; });
    }
  }
  for (BlockWatch* watch : stream.watches) {
    if (watch->block >= begin && watch->block < end) watch->overtaken = true;
  }
}

}  // namespace pcache
