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

// An epoch closes by itself at this many blocks (16 MiB): bounds the memory of writing one back, and lets a full cache
// free space piece by piece.
constexpr std::uint64_t kEpochBlocks = 4096;
constexpr unsigned kZeroesInFlight = 16;
constexpr std::chrono::milliseconds kRetry{1000};
constexpr std::chrono::milliseconds kRetryWhenDraining{100};

}  // namespace

// What one epoch did to the device, overwrites collapsed.
struct CachedDevice::EpochContent {
  struct Block {
    std::uint64_t block = 0;
    SlotId slot = 0;
    std::uint32_t crc = 0;
  };
  struct Zero {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t streams = 0;  // as bits
  };
  std::uint64_t epoch = 0;
  std::vector<Block> blocks;            // by block, each once; every run of neighbours can be written as one
  std::vector<Zero> zeroes;             // to be applied before the blocks; no two overlap
  std::vector<std::uint64_t> end_lsns;  // by stream: everything before is covered
};

CachedDevice::EpochContent CachedDevice::collect(std::uint64_t epoch) {
  EpochContent content;
  content.epoch = epoch;
  std::map<std::uint64_t, std::uint32_t> edges;  // where discarded ranges begin and end, and of which streams, as bits
  for (std::uint32_t number = 0; number < streams_.size(); ++number) {
    Stream& stream = *streams_[number];
    // A write that entered the epoch before it closed holds this lock until all of it is in the log.
    const std::lock_guard lock(stream.lock);
    const auto next = std::find_if(stream.epochs.begin(), stream.epochs.end(),
                                   [epoch](const Stream::EpochStart& start) { return start.epoch > epoch; });
    const std::uint64_t begin = stream.first_dirty_lsn();
    const std::uint64_t end = next == stream.epochs.end() ? stream.log.next_lsn() : next->first_lsn;
    content.end_lsns.push_back(end);

    struct Write {
      EpochContent::Block block;
      std::uint64_t lsn = 0;
    };
    std::vector<Write> writes;
    ZeroMap zeroes;
    for (std::uint64_t lsn = begin; lsn < end; ++lsn) {
      const SlotId slot = stream.log.slot_of(lsn);
      const SlotKey key = cache_.slots().key(slot);
      if (key.type == SlotType::write) {
        writes.push_back({{key.block, slot, cache_.slots().value(slot)}, lsn});
      } else if (key.type == SlotType::zero && key.dirty) {
        zeroes.add(key.block, key.block + cache_.slots().value(slot), lsn);
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

// Persist order: the epoch's zeroes, its blocks, the backing's flush, the dirty tail. Blocks count as clean last.
bool CachedDevice::writeback_step() try {
  const std::lock_guard step(writeback_mutex_);
  if (!backing_ || failed_ || stopped_) return false;
  std::uint64_t epoch = 0;
  {
    const std::lock_guard lock(epoch_mutex_);
    if (closed_.empty() || closed_.front().epoch > durable_epoch_) return false;
    epoch = closed_.front().epoch;
  }
  PCACHE_PAUSE_POINT("writeback.begun");
  if (unflushed_is_void_ && !void_unflushed()) {
    writeback_failed(Status(Errc::failed, "cache device " + cache_label_ + ": a record cannot be voided"));
    return false;
  }
  const EpochContent content = collect(epoch);
  PCACHE_PAUSE_POINT("writeback.collected");
  Status status = write_epoch(content);
  if (status.ok()) status = mark_clean(content, epoch);
  if (!status.ok()) {
    writeback_failed(status);
    return false;
  }
  std::uint64_t clean = 0;
  {
    const std::lock_guard lock(epoch_mutex_);
    closed_.pop_front();
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
  return true;
} catch (const std::bad_alloc&) {
  // Only collecting takes memory, and issuing writes: the epoch is as dirty as before.
  writeback_failed(Status(Errc::failed, "out of memory"));
  return false;
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

Status CachedDevice::write_epoch(const EpochContent& content) {
  if (const int error = write_zeroes(content); error != 0) return backing_failure(error, "zero a range");
  if (Status status = write_blocks_back(content); !status.ok()) return status;
  IoGroup flush;
  PCACHE_PAUSE_POINT("writeback.written");
  const std::uint64_t began = OpTimer::now();
  backing_->flush(flush.start());
  const int error = flush.wait();
  timer_.add(OpTimer::Phase::backing_flush, OpTimer::now() - began);
  if (error == 0) return Status();
  // What it took and did not make durable may be gone; the epoch stays dirty as a whole and is written again.
  flush_error_ = true;
  if (is_direct(mode())) void_unflushed();
  return backing_failure(error, "flush");
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
Status CachedDevice::write_blocks_back(const EpochContent& content) {
  struct Run {
    CachedDevice* device = nullptr;
    std::mutex* mutex = nullptr;
    std::condition_variable* freed = nullptr;
    std::vector<Run*>* idle = nullptr;
    Completion counted;
    AlignedBuffer* buffer = nullptr;
    std::uint64_t began_ns = 0;
  };
  std::mutex mutex;
  std::condition_variable freed;
  std::vector<Run*> idle;
  std::vector<Run> runs(staging_.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    runs[i] = {this, &mutex, &freed, &idle, {}, &staging_[i], 0};
    idle.push_back(&runs[i]);
  }
  IoGroup group;

  const std::size_t max_blocks = staging_.front().size() / kBlockSize;
  for (std::size_t i = 0; i < content.blocks.size();) {
    Run* run = nullptr;
    PCACHE_PAUSE_POINT("writeback.buffer");
    {
      std::unique_lock lock(mutex);
      freed.wait(lock, [&] { return !idle.empty(); });
      run = idle.back();
      idle.pop_back();
    }
    const std::uint64_t first = content.blocks[i].block;
    std::uint64_t length = 0;
    std::size_t count = 0;
    bool unreadable = false;
    for (; count < max_blocks && i < content.blocks.size() && content.blocks[i].block == first + count; ++i) {
      const EpochContent::Block& block = content.blocks[i];
      if (!read_cell(block.slot, block.crc, run->buffer->data() + count * kBlockSize)) {
        unreadable = true;
        break;
      }
      ++count;
      length += bytes_in(block.block);
    }
    if (count == 0) {
      const std::lock_guard lock(mutex);
      idle.push_back(run);
    } else {
      run->counted = group.start();
      run->began_ns = OpTimer::now();
      const iovec part{run->buffer->data(), length};
      written_back_bytes_.fetch_add(length, std::memory_order_relaxed);
      backing_->write(first * kBlockSize, {&part, 1},
                      {[](void* context, int error) {
                         auto* r = static_cast<Run*>(context);
                         const Completion counted = r->counted;
                         r->device->timer_.add(OpTimer::Phase::backing_write, OpTimer::now() - r->began_ns);
                         {
                           const std::lock_guard lock(*r->mutex);
                           r->idle->push_back(r);
                           r->freed->notify_one();
                         }
                         counted(error);
                       },
                       run});
    }
    if (unreadable) {
      checksum_errors_.fetch_add(1, std::memory_order_relaxed);
      if (!mark_lost(content.blocks[i].slot, content.blocks[i].block)) {
        group.wait();
        return Status(Errc::failed,
                      "cache device " + cache_label_ + ": a block that cannot be read cannot be recorded");
      }
      ++i;
    }
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
    const auto room = stream.log.reserve();
    if (!room || *room == 0) return false;
  }
  LogEntry entry{RecordType::lost, block, 1, nullptr, 0};
  const auto lsn = stream.log.append({&entry, 1}, epoch_.load(std::memory_order_acquire), Persist::synced);
  if (!lsn) return false;
  bump(stream.stored_slots, 1);
  publish(stream, *lsn, entry, false);
  return true;
}

Status CachedDevice::mark_clean(const EpochContent& content, std::uint64_t epoch) {
  if (Status status = cache_.cache_dev().set_clean_epoch(place_, epoch); !status.ok()) return status;
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
    while (!stream.epochs.empty() && stream.epochs.front().epoch <= epoch) stream.epochs.pop_front();
    stream.zeros.forget_before(content.end_lsns[i]);
  }
  return Status();
}

// However often it is kicked meanwhile: a backing that fails is not asked again and again.
std::chrono::milliseconds CachedDevice::rest_after_failure(std::chrono::milliseconds rest, std::uint64_t now) const {
  const std::lock_guard lock(progress_mutex_);
  if (failures_in_a_row_ == 0) return std::chrono::milliseconds(0);
  return rest - std::chrono::milliseconds(now - failed_ms_);
}

bool CachedDevice::epoch_due(std::uint64_t now) {
  const std::lock_guard lock(epoch_mutex_);
  if (!epoch_used_.load(std::memory_order_acquire)) return false;
  if (epoch_opened_ms_ == 0) epoch_opened_ms_ = now;
  return now - epoch_opened_ms_ >= cache_.options().epoch_max_ms ||
         stored_bytes() / kBlockSize - epoch_blocks_.load(std::memory_order_relaxed) >= kEpochBlocks;
}

std::chrono::milliseconds CachedDevice::background_step() {
  const std::uint64_t now = cache_.now_ms();
  const std::uint64_t capacity = cache_.slots().size() * kBlockSize;
  std::uint64_t dirty_high = amount_bytes(setting(Setting::dirty_high), capacity);
  // Or a device with a small share would only begin when there is nothing left of it.
  if (const std::uint32_t most = share().max; most < cache_.pool().total()) {
    const std::uint64_t bytes = most * cache_.cache_dev().geometry().slots_per_segment * kBlockSize;
    dirty_high = std::min(dirty_high, bytes / 2);
  }
  const bool draining = drain_epoch_ > clean_epoch_;
  if (const auto rest = rest_after_failure(draining ? kRetryWhenDraining : kRetry, now); rest.count() > 0) return rest;
  if (switch_pending_) return switch_step() ? std::chrono::milliseconds(0) : kRetryWhenDraining;
  if (mode() == Mode::passthrough && holds_segments()) {
    return release_void_step() ? std::chrono::milliseconds(0) : kRetry;
  }
  const bool pressed = draining || cache_.short_of_space() || short_of_share() || dirty_bytes() > dirty_high;
  bool none_closed = false;
  std::uint64_t opened = 0;
  {
    const std::lock_guard lock(epoch_mutex_);
    none_closed = closed_.empty();
    if (!none_closed) opened = closed_.front().opened_ms;
  }
  if (epoch_due(now) || (pressed && none_closed && epoch_used_)) {
    if (Status status = cache_.commit({this}); !status.ok()) {
      writeback_failed(status);
      return kRetry;
    }
    if (none_closed) return std::chrono::milliseconds(0);
  }
  const std::uint64_t delay = setting(Setting::dirty_max_age);
  if (!none_closed && (pressed || now - opened >= delay)) {
    if (writeback_step()) return std::chrono::milliseconds(0);
    return draining ? kRetryWhenDraining : kRetry;
  }
  // Nobody tells of a first write; its epoch's age counts from when it is seen here.
  constexpr std::uint64_t kPoll = 200;
  const std::uint64_t epoch_max = cache_.options().epoch_max_ms;
  const std::uint64_t left = none_closed ? epoch_max : std::min(epoch_max, delay - (now - opened));
  return std::chrono::milliseconds(std::clamp<std::uint64_t>(left, 1, kPoll));
}

}  // namespace pcache
