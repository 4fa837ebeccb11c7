// Writing around the log: in the modes writethrough, writearound and passthrough the backing gets everything at once,
// and the cache only holds what the backing has.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"
#include "cache/io_group.h"

namespace pcache {
namespace {

constexpr std::uint64_t kBounceBytes = kMiB;

}  // namespace

// A write or discard that may not be appended now, counted in.
void CachedDevice::go_direct(std::unique_ptr<WriteOp> op) {
  forget_part(*op);
  op->part.reset();
  DirectGate::Entry entry = DirectGate::Entry::shut;
  try {
    if (!op->direct) op->direct = std::make_unique<WriteOp::Direct>();
    describe_direct(*op);
    entry = gate_.enter(op);
  } catch (const std::bad_alloc&) {
    // It was not taken, and fails.
  }
  switch (entry) {
    case DirectGate::Entry::off:
      op->direct.reset();
      return resume(std::move(op));
    case DirectGate::Entry::waits:
      return;
    case DirectGate::Entry::entered:
      return start_direct(std::move(op));
    case DirectGate::Entry::shut:
      return finish(std::move(op), EIO);
  }
}

void CachedDevice::describe_direct(WriteOp& op) {
  op.direct->device = this;
  op.direct->first_block = op.offset / kBlockSize;
  op.direct->end_block = div_ceil(op.end, kBlockSize);
}

// Continues one that has entered, also after it waited for space.
void CachedDevice::start_direct(std::unique_ptr<WriteOp> op) {
  op->direct->around = false;  // there is no log to go around any more
  const bool refused = stopped_ || failed_ || refusing_writes_;
  switch (const Progress progress = refused ? Progress::failed : invalidate(*op)) {
    case Progress::done:
      PCACHE_PAUSE_POINT("direct.invalidated");
      op->direct->failed_flushes = backing_flush_->failures();
      return issue_direct(std::move(op));
    case Progress::no_space:
    case Progress::no_share:
      return suspend(std::move(op), progress);
    default:
      return finish(std::move(op), EIO);
  }
}

// Persist order: what the cache has of the blocks is void, durably, before the backing is changed (I7). Where the index
// has nothing, nothing has to be stored: what a replay finds of these blocks is followed by a record that voids it.
// Only what left the index without one, while its segment is still there, needs a record again.
CachedDevice::Progress CachedDevice::invalidate(WriteOp& op) {
  const std::uint64_t begin = op.direct->first_block;
  const std::uint64_t end = op.direct->end_block;
  if (begin == end) return Progress::done;
  const std::uint32_t wanted = streams_in(begin, end);
  for (std::uint32_t& i = op.direct->next_stream; i < streams_.size(); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    Stream& stream = *streams_[i];
    const std::lock_guard lock(stream.lock);
    overtake(stream, begin, end);
    if (mode() == Mode::passthrough || !is_replayable(stream, begin, end)) continue;
    if (is_lost_in_part(stream, op)) return Progress::failed;
    if (const Progress progress = make_room(stream, op); progress != Progress::done) return progress;
    LogEntry entry{RecordType::gone, begin, end - begin};
    const Persist persist = cache_.page_media() ? Persist::synced : Persist::fenced;
    const auto lsn = stream.log.append({&entry, 1}, epoch_.load(std::memory_order_acquire), persist);
    if (!lsn) return Progress::failed;
    bump(stream.stored_slots, 1);
    forget_blocks(stream, begin, end);
    note_gone(stream, *lsn, entry);
  }
  return Progress::done;
}

// Whether the index has something of blocks [begin, end), or a replay could find something that counts.
bool CachedDevice::is_replayable(const Stream& stream, std::uint64_t begin, std::uint64_t end) {
  const auto& segments = stream.log.segments();
  if (!segments.empty() && segments.front().first_lsn < stream.bare_end_lsn) return true;
  if (stream.index.count() == 0) return false;
  if (end - begin > 4 * stream.index.count()) return true;
  for (std::uint64_t block = begin; block < end; ++block) {
    if (stream.index.find(block) != kNoSlot) return true;
  }
  return false;
}

// Whether a part of a lost block would be written: the rest of it is nowhere.
bool CachedDevice::is_lost_in_part(const Stream& stream, const WriteOp& op) const {
  const auto is_lost = [&](std::uint64_t block) {
    const SlotId slot = stream.index.find(block);
    return slot != kNoSlot && cache_.slots().key(slot).type == SlotType::lost;
  };
  const std::uint64_t last = op.direct->end_block - 1;
  const bool whole_first = op.offset % kBlockSize == 0 && op.end - op.offset >= bytes_in(op.direct->first_block);
  const bool whole_last = op.end == last * kBlockSize + bytes_in(last) && op.offset <= last * kBlockSize;
  return (!whole_first && is_lost(op.direct->first_block)) || (!whole_last && is_lost(last));
}

void CachedDevice::note_gone(Stream& stream, std::uint64_t lsn, const LogEntry& entry) {
  cache_.slots().set_key(stream.log.slot_of(lsn), {entry.block, SlotType::gone, false, false});
  if (!stream.zeros.empty()) stream.zeros.cut(entry.block, entry.block + entry.count);
}

// Gives the backing the next piece: whole sectors as they are, a part of one together with the rest of it.
void CachedDevice::issue_direct(std::unique_ptr<WriteOp> op) try {
  WriteOp::Direct& direct = *op->direct;
  const std::uint64_t left = op->end - op->offset;
  if (left == 0) return direct.around ? flush_around(std::move(op)) : finish(std::move(op), 0);
  const std::uint64_t skip = op->offset % kSectorSize;
  if (skip != 0 || left < kSectorSize) {
    direct.length = std::min(left, kSectorSize - skip);
    direct.bounce = AlignedBuffer(kSectorSize, kSectorSize);
    const std::span<std::byte> sector = direct.bounce.span();
    const std::uint64_t offset = op->offset - skip;
    direct.began_ns = OpTimer::now();
    backing_->read(offset, sector,
                   {[](void* context, int error) {
                      std::unique_ptr<WriteOp> read(static_cast<WriteOp*>(context));
                      CachedDevice& device = *read->direct->device;
                      device.timer_.add(OpTimer::Phase::backing_read, OpTimer::now() - read->direct->began_ns);
                      if (error != 0) {
                        device.backing_read_errors_.fetch_add(1, std::memory_order_relaxed);
                        return device.finish(std::move(read), EIO);
                      }
                      device.write_sector(std::move(read));
                    },
                    op.release()});
    return;
  }
  direct.length = align_down(left, kSectorSize);
  if (op->discard) {
    const std::uint64_t offset = op->offset;
    const std::uint64_t length = direct.length;
    return backing_->write_zeroes(offset, length, direct_completion(std::move(op)));
  }
  const std::byte* from = op->data;
  if (reinterpret_cast<std::uintptr_t>(from) % kSectorSize != 0) {
    direct.length = std::min(direct.length, kBounceBytes);
    direct.bounce = AlignedBuffer(direct.length, kSectorSize);
    std::memcpy(direct.bounce.data(), from, direct.length);
    from = direct.bounce.data();
  }
  write_direct(std::move(op), from);
} catch (const std::bad_alloc&) {
  finish(std::move(op), EIO);
}

void CachedDevice::write_sector(std::unique_ptr<WriteOp> op) {
  WriteOp::Direct& direct = *op->direct;
  std::byte* const part = direct.bounce.data() + op->offset % kSectorSize;
  if (op->discard) {
    std::memset(part, 0, direct.length);
  } else {
    std::memcpy(part, op->data, direct.length);
  }
  const iovec sector{direct.bounce.data(), kSectorSize};
  const std::uint64_t offset = align_down(op->offset, kSectorSize);
  PCACHE_PAUSE_POINT("direct.sector");
  backing_->write(offset, {&sector, 1}, direct_completion(std::move(op)));
}

void CachedDevice::write_direct(std::unique_ptr<WriteOp> op, const std::byte* from) {
  const iovec piece{const_cast<std::byte*>(from), op->direct->length};
  const std::uint64_t offset = op->offset;
  backing_->write(offset, {&piece, 1}, direct_completion(std::move(op)));
}

Completion CachedDevice::direct_completion(std::unique_ptr<WriteOp> op) {
  op->direct->began_ns = OpTimer::now();
  return {[](void* context, int error) {
            std::unique_ptr<WriteOp> written(static_cast<WriteOp*>(context));
            CachedDevice& device = *written->direct->device;
            device.wrote_direct(std::move(written), error);
          },
          op.release()};
}

// A piece is on the backing, though perhaps not durably; or it failed, and then nothing is known of it.
void CachedDevice::wrote_direct(std::unique_ptr<WriteOp> op, int error) {
  PCACHE_PAUSE_POINT("direct.written");
  timer_.add(OpTimer::Phase::backing_write, OpTimer::now() - op->direct->began_ns);
  const std::uint64_t length = op->direct->length;
  if (error != 0) return finish(std::move(op), EIO);
  if (!op->discard) {
    if (mode() != Mode::writethrough) {
      (op->direct->around ? bypassed_full_bytes_ : bypassed_bytes_).fetch_add(length, std::memory_order_relaxed);
    }
    Stream& stream = stream_of(op->offset / kBlockSize);
    {
      const std::lock_guard lock(stream.lock);
      count_written(stream, *op, length);
    }
    if (mode() == Mode::writethrough && op->direct->bounce.size() != kSectorSize) keep(*op, length);
    op->data += length;
  }
  op->direct->bounce = AlignedBuffer(0);
  op->offset += length;
  issue_direct(std::move(op));
}

// Keeps what was written through, as far as there is space without waiting: the whole blocks of it. Not where a flush
// failed since: the backing may have dropped it.
void CachedDevice::keep(const WriteOp& op, std::uint64_t length) {
  std::uint64_t block = div_ceil(op.offset, kBlockSize);
  const std::uint64_t end = (op.offset + length) / kBlockSize;
  while (block < end) {
    Stream& stream = stream_of(block);
    const std::uint64_t window_end = (block / kWindowBlocks + 1) * kWindowBlocks;
    const std::lock_guard lock(stream.lock);
    if (backing_flush_->failures() != op.direct->failed_flushes) return;
    std::array<LogEntry, kBatchBlocks> entries;
    std::size_t count = 0;
    for (; count < entries.size() && block + count < std::min(end, window_end); ++count) {
      entries[count] = {RecordType::clean, block + count, 1, op.data + ((block + count) * kBlockSize - op.offset)};
    }
    if (fill_log(stream, {entries.data(), count}) == 0) return;
    block += count;
  }
}

// The backing failed a flush and may have dropped what it had taken: copies of it are made fillers, in memory and on
// the medium, before anybody hears of the failure. What cannot be done now is done before the next epoch becomes clean.
bool CachedDevice::void_unflushed() {
  unflushed_is_void_ = true;
  for (const auto& stream : streams_) {
    const std::lock_guard lock(stream->lock);
    overtake(*stream, 0, blocks());  // nor is what is being read of it
    std::vector<std::uint64_t> lsns;
    try {
      lsns.reserve(stream->log.next_lsn() - stream->first_dirty_lsn());
    } catch (const std::bad_alloc&) {
      return false;
    }
    for (std::uint64_t lsn = stream->first_dirty_lsn(); lsn < stream->log.next_lsn(); ++lsn) {
      const SlotId slot = stream->log.slot_of(lsn);
      if (cache_.slots().key(slot).type != SlotType::clean) continue;
      if (cache_.slots().key(slot).linked) drop_bare(*stream, slot);
      lsns.push_back(lsn);
    }
    probation_.for_each_slot([&](SlotId slot) {
      const SlotKey key = cache_.slots().key(slot);
      if (key.linked && &stream_of(key.block) == stream.get()) unlink(*stream, slot);
    });
    if (!stream->log.void_records(lsns).ok()) return false;
  }
  unflushed_is_void_ = false;
  return true;
}

int CachedDevice::await_backing_flush() {
  IoGroup group;
  SharedFlush::Waiter flush{group.start()};
  backing_flush_->add(flush);
  return group.wait();
}

int CachedDevice::flush_direct() {
  const int error = await_backing_flush();
  if (error == 0) return 0;
  backing_flush_->to_be_told();
  if (is_direct(mode())) void_unflushed();
  return error;
}

// The backing's own flush is what a user's flush means where nothing is only in the cache, and a part of it where the
// backing has what it may forget. Whoever's flush failed meanwhile: what was lost may be this user's.
void CachedDevice::flush_backing(Completion done) {
  struct Flush {
    CachedDevice& device;
    Completion done;
    std::uint64_t failed_flushes = 0;
    std::uint64_t doubts = 0;
    SharedFlush::Waiter waiter;
  };
  auto* const flush = new (std::nothrow) Flush{*this, done, backing_flush_->failures(), doubts_.load(), {}};
  if (flush == nullptr) return done(EIO);
  if (!count_in()) {
    delete flush;
    return done(EIO);
  }
  flush->waiter.done = {[](void* context, int error) {
                          const std::unique_ptr<Flush> f(static_cast<Flush*>(context));
                          f->device.flushed_backing(error, f->failed_flushes, f->doubts, f->done);
                        },
                        flush};
  backing_flush_->add(flush->waiter);
}

void CachedDevice::flushed_backing(int error, std::uint64_t failed_flushes, std::uint64_t doubts, Completion done) {
  const bool direct = is_direct(mode());
  if (error != 0 && direct) void_unflushed();
  const bool untold = take_flush_error();
  const bool failed = untold || backing_flush_->failures() != failed_flushes;
  if (failed) {
    backing_flush_->tell();
  } else {
    doubts_settled_ = doubts;
  }
  if (failed || direct) {
    count_out();
    return done(failed ? EIO : 0);
  }
  cache_.flush(*this, done);
  count_out();
}

}  // namespace pcache
