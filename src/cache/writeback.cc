// Writeback: the log is applied to the backing one epoch at a time, each followed by a flush, so that the backing alone
// always holds a state that the users' own flushes allow.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "base/crc32c.h"
#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"
#include "cache/io_group.h"

namespace pcache {
namespace {

constexpr unsigned kZeroesInFlight = 16;
constexpr std::uint64_t kPassShare = 16;  // epochs that are joined take at most this part of the cache device's slots
constexpr std::uint64_t kNoteEveryMs = 10;
constexpr std::uint64_t kSlotsPerLock = 256;  // how long writers of a stream are kept waiting

}  // namespace

// All that is dirty up to the end of `epoch`.
EpochContent CachedDevice::collect(std::uint64_t epoch) {
  struct Write {
    EpochContent::Block block;
    std::uint64_t lsn = 0;
  };
  EpochContent content;
  content.epoch = epoch;
  std::map<std::uint64_t, std::uint32_t> edges;  // where discarded ranges begin and end, and of which streams, as bits
  std::vector<Write> writes;
  for (std::uint32_t number = 0; number < streams_.size(); ++number) {
    Stream& stream = *streams_[number];
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    {
      // A write that entered the epoch before it closed holds this lock until all of it is in the log. What is there
      // then stays as it is until the dirty tail has moved.
      const std::lock_guard lock(stream.lock);
      const auto next = std::find_if(stream.epochs.begin(), stream.epochs.end(),
                                     [epoch](const Stream::EpochStart& start) { return start.epoch > epoch; });
      begin = stream.first_dirty_lsn();
      end = next == stream.epochs.end() ? stream.log.next_lsn() : next->first_lsn;
    }
    content.end_lsns.push_back(end);
    content.slots += end - begin;

    writes.clear();
    ZeroMap zeroes;
    for (std::uint64_t lsn = begin; lsn < end;) {
      const std::lock_guard lock(stream.lock);
      for (const std::uint64_t stop = std::min(end, lsn + kSlotsPerLock); lsn < stop; ++lsn) {
        const SlotId slot = stream.log.slot_of(lsn);
        const SlotKey key = cache_.slots().key(slot);
        if (key.type == SlotType::write) {
          writes.push_back({{key.block, slot, cache_.slots().value(slot)}, lsn});
        } else if (key.type == SlotType::zero && key.dirty) {
          zeroes.add(key.block, key.block + cache_.slots().value(slot), lsn);
        }
      }
    }
    // The log's order is the order of a block's writes: keep each block's last, unless it was discarded after that.
    std::stable_sort(writes.begin(), writes.end(),
                     [](const auto& a, const auto& b) { return a.block.block < b.block.block; });
    for (std::size_t i = 0; i < writes.size(); ++i) {
      const std::uint64_t block = writes[i].block.block;
      if (i + 1 < writes.size() && writes[i + 1].block.block == block) continue;
      if (const auto zeroed = zeroes.lsn_of(block); zeroed && *zeroed > writes[i].lsn) continue;
      content.blocks.push_back(writes[i].block);
    }
    zeroes.for_each([&](std::uint64_t first, std::uint64_t last) {
      edges[first] ^= 1U << number;
      edges[last] ^= 1U << number;
    });
  }
  std::uint32_t streams = 0;
  std::uint64_t from = 0;
  for (const auto& [block, changed] : edges) {
    if (streams != 0 && changed != 0) content.zeroes.push_back({from, block, streams});
    if (changed != 0) from = block;
    streams ^= changed;
  }
  std::sort(content.blocks.begin(), content.blocks.end(),
            [](const auto& a, const auto& b) { return a.block < b.block; });
  return content;
}

bool CachedDevice::writeback_step() { return write_back(WritebackPace::kUnlimited).step == WriteBack::Step::whole; }

// Persist order: the zeroes of an epoch, or of several that are written together, their blocks, the backing's flush,
// the dirty tail. Blocks count as clean last.
CachedDevice::WriteBack CachedDevice::write_back(std::uint64_t bytes) try {
  const std::lock_guard step(writeback_mutex_);
  if (!backing_ || failed_ || stopped_) return {};
  if (!pass_) {
    const std::uint64_t last = last_epoch_to_write_back();
    if (last == 0) return {};
    PCACHE_PAUSE_POINT("writeback.begun");
    if (unflushed_is_void_ && !void_unflushed()) {
      writeback_failed(Status(Errc::failed, "cache device " + cache_label_ + ": a record cannot be voided"));
      return {WriteBack::Step::failed, 0};
    }
    auto pass = std::make_unique<WritebackPass>();
    pass->noted_ms = cache_.now_ms();
    pass->failed_flushes = backing_flush_->failures();
    pass->content = collect(last);
    pass_ = std::move(pass);
    PCACHE_PAUSE_POINT("writeback.collected");
  }
  WritebackPass& pass = *pass_;
  if (bytes != WritebackPace::kUnlimited) pass.at_full_speed = false;
  WriteBack done{WriteBack::Step::part, 0};
  Status status = write_part(pass, bytes, done.bytes);
  if (status.ok()) cache_.progressed(cache_.now_ms());
  if (status.ok() && !pass.written()) return done;
  if (status.ok()) status = flush_written(pass);
  if (status.ok()) status = mark_clean(pass.content);
  if (status.ok()) note_progress(pass, 0);
  const std::uint64_t last = pass.content.epoch;
  forget_pass();
  if (!status.ok()) {
    writeback_failed(status);
    return {WriteBack::Step::failed, done.bytes};
  }
  std::uint64_t clean = 0;
  {
    const std::lock_guard lock(epoch_mutex_);
    while (!closed_.empty() && closed_.front().epoch <= last) closed_.pop_front();
    clean = newest_clean_epoch();
  }
  {
    const std::lock_guard lock(progress_mutex_);
    clean_epoch_ = clean;
    failures_in_a_row_ = 0;
    trouble_.clear();
    progress_.notify_all();
  }
  cache_.kick_reclaim();
  done.step = WriteBack::Step::whole;
  return done;
} catch (const std::bad_alloc&) {
  // Only collecting takes memory: the epoch is as dirty as before.
  writeback_failed(Status(Errc::failed, "out of memory"));
  return {WriteBack::Step::failed, 0};
}

// What is left of it stays dirty, with all that it has written.
void CachedDevice::forget_pass() {
  pass_.reset();
  pass_slots_written_ = 0;
}

// The last of the epochs that are written back together next, 0 if there is none: one, or, where no order is asked for,
// as many as are closed, up to a limit, so that a full cache gets space free piece by piece.
std::uint64_t CachedDevice::last_epoch_to_write_back() {
  const bool ordered = keeps_order();
  const std::uint64_t most = cache_.slots().size() / kPassShare;
  const std::lock_guard lock(epoch_mutex_);
  std::uint64_t last = 0;
  for (const ClosedEpoch& closed : closed_) {
    if (closed.epoch > durable_epoch_) break;
    if (last != 0 && closed.end_slots - closed_.front().end_slots > most) break;
    last = closed.epoch;
    if (ordered) break;
  }
  return last;
}

// Epochs that are neither open nor waiting hold nothing that the backing lacks: some only had clean records.
std::uint64_t CachedDevice::newest_clean_epoch() const {
  return (closed_.empty() ? epoch_.load() : closed_.front().epoch) - 1;
}

void CachedDevice::writeback_failed(const Status& why) {
  writeback_errors_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(progress_mutex_);
    failures_in_a_row_.fetch_add(1, std::memory_order_relaxed);
    ++failures_;
    failed_ms_ = cache_.now_ms();
    trouble_ = why.message();
    progress_.notify_all();
  }
  cache_.kick_reclaim();
}

// Writes on until so many bytes are written, or a little more; `written` counts them.
Status CachedDevice::write_part(WritebackPass& pass, std::uint64_t bytes, std::uint64_t& written) {
  if (!pass.zeroed) {
    if (const int error = write_zeroes(pass.content); error != 0) return backing_failure(error, "zero a range");
    pass.zeroed = true;
  }
  return write_blocks_back(pass, bytes, written);
}

// For the throttle: what is written of a pass counts as space that comes free, and how long it took as speed. Not more
// often than every so many milliseconds.
void CachedDevice::note_progress(WritebackPass& pass, std::uint64_t every_ms) {
  const std::uint64_t slots = pass.slots_written();
  pass_slots_written_.store(slots, std::memory_order_relaxed);
  const std::uint64_t now = cache_.now_ms();
  if (now - pass.noted_ms < every_ms) return;
  if (slots != pass.noted_slots) cache_.progressed(now);
  if (pass.at_full_speed) writeback_speed_.add((slots - pass.noted_slots) * kBlockSize, now - pass.noted_ms);
  pass.noted_slots = slots;
  pass.noted_ms = now;
}

// Whoever's flush failed since the pass began: what was lost may be of the pass.
Status CachedDevice::flush_written(const WritebackPass& pass) {
  PCACHE_PAUSE_POINT("writeback.written");
  const int error = await_backing_flush();
  if (backing_flush_->failures() == pass.failed_flushes) return Status();
  // What it took and did not make durable may be gone; the epoch stays dirty as a whole and is written again.
  backing_flush_->to_be_told();
  if (is_direct(mode())) void_unflushed();
  return backing_failure(error != 0 ? error : EIO, "flush");
}

Status CachedDevice::backing_failure(int error, const char* what) const {
  const std::string cannot = "backing device " + backing_path_ + ": cannot " + what;
  if (error != ESTALE) return Status::from_errno(error, cannot);
  return Status(Errc::failed, cannot + ": it became shorter, or was deleted, while it was in use");
}

int CachedDevice::write_zeroes(const EpochContent& content) {
  const std::uint32_t all = (1U << streams_.size()) - 1;
  IoGroup group;
  const auto zero = [&](std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t offset = begin * kBlockSize;
    backing_->write_zeroes(offset, std::min(end * kBlockSize, size_bytes()) - offset, group.start());
    return group.wait(kZeroesInFlight - 1);
  };
  for (const EpochContent::Zero& range : content.zeroes) {
    if (range.streams == all || range.streams == streams_in(range.begin, range.end)) {
      if (const int error = zero(range.begin, range.end); error != 0) return error;
      continue;
    }
    // A crash left the discard in some streams only.
    for (std::uint64_t begin = range.begin; begin < range.end;) {
      const std::uint64_t end = std::min(range.end, (begin / kWindowBlocks + 1) * kWindowBlocks);
      if ((range.streams >> stream_number(begin) & 1) != 0) {
        if (const int error = zero(begin, end); error != 0) return error;
      }
      begin = end;
    }
  }
  return group.wait();
}

// Runs of neighbouring blocks are copied to a staging buffer, verified there, and written from there: what reaches the
// backing is what was verified.
Status CachedDevice::write_blocks_back(WritebackPass& pass, std::uint64_t bytes, std::uint64_t& written) {
  const std::vector<EpochContent::Block>& blocks = pass.content.blocks;
  IoGroup group;
  while (pass.next < blocks.size() && written < bytes) {
    const std::uint64_t first = blocks[pass.next].block;
    std::size_t run = 1;
    while (pass.next + run < blocks.size() && blocks[pass.next + run].block == first + run) ++run;
    PCACHE_PAUSE_POINT("writeback.buffer");
    Staging::Buffer& buffer = staging_->take(run);
    std::uint64_t length = 0;
    std::size_t count = 0;
    bool unreadable = false;
    for (; count < std::min(run, buffer.blocks); ++count) {
      const EpochContent::Block& block = blocks[pass.next + count];
      unreadable = !read_cell(block.slot, block.crc, buffer.data + count * kBlockSize);
      if (unreadable) break;
      length += bytes_in(block.block);
    }
    pass.next += count;
    if (count == 0) {
      staging_->give_back(buffer);
    } else {
      buffer.counted = group.start();
      buffer.user = this;
      buffer.began_ns = OpTimer::now();
      const iovec part{buffer.data, length};
      written += length;
      written_back_bytes_.fetch_add(length, std::memory_order_relaxed);
      backing_->write(first * kBlockSize, {&part, 1},
                      {[](void* context, int error) {
                         auto* b = static_cast<Staging::Buffer*>(context);
                         const Completion counted = b->counted;
                         static_cast<CachedDevice*>(b->user)->timer_.add(OpTimer::Phase::backing_write,
                                                                         OpTimer::now() - b->began_ns);
                         b->home->give_back(*b);
                         counted(error);
                       },
                       &buffer});
    }
    if (unreadable) {
      checksum_errors_.fetch_add(1, std::memory_order_relaxed);
      if (!mark_lost(blocks[pass.next].slot, blocks[pass.next].block)) {
        group.wait();
        return Status(Errc::failed,
                      "cache device " + cache_label_ + ": a block that cannot be read cannot be recorded");
      }
      ++pass.next;
    }
    note_progress(pass, kNoteEveryMs);
  }
  const int error = group.wait();
  return error == 0 ? Status() : backing_failure(error, "write");
}

// A dirty block cannot be read: unless it was overwritten since, reads of it fail from now on, also after a restart.
// Returns false when there is no room to record that.
bool CachedDevice::mark_lost(SlotId slot, std::uint64_t block) {
  Stream& stream = stream_of(block);
  const std::lock_guard lock(stream.lock);
  const SlotKey key = cache_.slots().key(slot);
  if (!key.linked || key.block != block) return true;
  if (stream.log.room() == 0) {
    const auto room = take_segment(stream);
    if (!room || *room == 0) return false;
  }
  LogEntry entry{RecordType::lost, block, 1, nullptr, 0};
  const auto lsn = stream.log.append({&entry, 1}, epoch_.load(std::memory_order_acquire), Persist::synced);
  if (!lsn) return false;
  bump(stream.stored_slots, 1);
  publish(stream, *lsn, entry, false);
  return true;
}

Status CachedDevice::mark_clean(const EpochContent& content) {
  if (Status status = cache_.cache_dev().set_clean_epoch(place_, content.epoch); !status.ok()) return status;
  PCACHE_PAUSE_POINT("writeback.tail");
  SlotTable& slots = cache_.slots();
  constexpr std::size_t kBlocksPerLock = 256;
  // Blocks of one window are together, so that few locks are taken.
  for (std::size_t i = 0; i < content.blocks.size();) {
    Stream& stream = stream_of(content.blocks[i].block);
    const std::lock_guard lock(stream.lock);
    for (std::size_t n = 0; n < kBlocksPerLock && i < content.blocks.size(); ++n, ++i) {
      if (&stream_of(content.blocks[i].block) != &stream) break;
      SlotKey key = slots.key(content.blocks[i].slot);
      if (!key.dirty || key.block != content.blocks[i].block) continue;
      key.dirty = false;
      if (key.linked) {
        stream.index.update(content.blocks[i].slot, key);
        bump(stream.dirty_blocks, -std::uint64_t{1});
      } else {
        slots.set_key(content.blocks[i].slot, key);
      }
    }
  }
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = *streams_[i];
    const std::lock_guard lock(stream.lock);
    while (!stream.epochs.empty() && stream.epochs.front().epoch <= content.epoch) stream.epochs.pop_front();
    stream.zeros.forget_before(content.end_lsns[i]);
    count_clean_segments(stream);
  }
  return Status();
}

}  // namespace pcache
