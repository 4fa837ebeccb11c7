// A logical device becomes as long as its backing has become.

#include <algorithm>
#include <mutex>
#include <new>

#include "base/aligned_buffer.h"
#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"
#include "cache/io_group.h"

namespace pcache {
namespace {

constexpr int kAttempts = 16;

}  // namespace

// Persist order: the backing's new length, since one that is shorter than recorded is not attached; then as grow_to()
// or grow_from_part() says.
Status CachedDevice::grow_to_backing() try {
  const auto refused = [this](Errc code, const std::string& why) {
    return Status(code, "logical device " + name_ + " cannot be resized: " + why);
  };
  if (!serves_ || failed_ || stopped_ || !count_in()) return refused(Errc::failed, "it does not run");
  struct CountOut {
    CachedDevice& device;
    ~CountOut() { device.count_out(); }
  } const count{*this};

  const auto backing_bytes = backing_->refresh_size();
  if (!backing_bytes) return backing_bytes.status();
  backing_bytes_ = *backing_bytes;
  if (*backing_bytes > kMaxDeviceBytes) return refused(Errc::invalid, "its backing device has more than 2^60 bytes");
  if (*backing_bytes == size_bytes()) return Status();
  {
    const std::lock_guard step(writeback_mutex_);
    if (const int error = flush_direct(); error != 0) {
      // What it had taken of the blocks that are being written back may be gone: that begins anew.
      forget_pass();
      return backing_failure(error, "flush");
    }
  }
  if (size_bytes() % kBlockSize == 0) return grow_to(*backing_bytes);

  if (mode() != Mode::writeback) {
    return refused(Errc::busy, "it ends inside a block, which is stored anew only in mode writeback; set that first");
  }
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (drain(0) != 0 && lost_blocks() == 0) {
      return refused(Errc::failed, "its backing device did not take all data, which comes first");
    }
    PCACHE_PAUSE_POINT("resize.drained");
    const auto grown = grow_from_part(*backing_bytes);
    if (!grown) return grown.status().with_prefix("logical device " + name_ + " cannot be resized");
    if (*grown == Grown::yes) return Status();
  }
  return refused(Errc::busy, "its last block is written all the time; try again");
} catch (const std::bad_alloc&) {
  return Status(Errc::failed, "out of memory");
}

// Persist order: the device's record; then the new size is in force.
Status CachedDevice::grow_to(std::uint64_t size) {
  if (Status status = cache_.cache_dev().set_device_size(place_, size); !status.ok()) return status;
  PCACHE_PAUSE_POINT("resize.recorded");
  size_bytes_.store(size, std::memory_order_relaxed);
  return Status();
}

// The last block goes on where the device ended, with what the backing has there; what the log has of the block ends at
// the old size.
// Persist order: a record of the whole block as it is on the backing, which is its newest one; the device's record;
// then the new size is in force. Whatever the log has of the block before that was written back, and never is again:
// with the new size it would put zeroes behind the old one.
Result<CachedDevice::Grown> CachedDevice::grow_from_part(std::uint64_t size) {
  const std::uint64_t block = size_bytes() / kBlockSize;
  const std::uint64_t begin = block * kBlockSize;
  Stream& stream = stream_of(block);
  const std::lock_guard step(writeback_mutex_);
  AlignedBuffer content(kBlockSize);
  std::fill_n(content.data(), kBlockSize, std::byte{0});
  IoGroup reading;
  backing_->read(begin, {content.data(), std::min(kBlockSize, size - begin)}, reading.start());
  if (const int error = reading.wait(); error != 0) return backing_failure(error, "read");
  PCACHE_PAUSE_POINT("resize.read");

  const std::lock_guard lock(stream.lock);
  if (!appends_) return Status(Errc::busy, "its mode is being switched");
  const SlotId slot = stream.index.find(block);
  const bool cached = slot != kNoSlot;
  const SlotKey key = cached ? cache_.slots().key(slot) : SlotKey();
  if ((cached && key.dirty) || stream.zeros.contains(block)) return Grown::block_is_dirty;
  if (!cached || key.type != SlotType::lost) {
    if (stream.log.room() == 0) {
      const auto room = take_segment(stream);
      if (!room) return room.status();
      if (*room == 0) return Status(Errc::no_space, "the cache device has no free segment now; try again");
    }
    LogEntry entry{RecordType::write, block, 1, content.data()};
    const std::uint64_t epoch = enter_epoch(stream);
    bump(stream.stored_slots, 1);
    const auto lsn = stream.log.append({&entry, 1}, epoch, Persist::synced);
    if (!lsn) return lsn.status();
    publish(stream, *lsn, entry, true);
  }
  if (Status status = grow_to(size); !status.ok()) return status;
  // What is being read of the block ends at the old size.
  overtake(stream, block, block + 1);
  return Grown::yes;
}

}  // namespace pcache
