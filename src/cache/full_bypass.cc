// Writes that go around a log that is full (full_policy=bypass).

#include <cerrno>
#include <mutex>
#include <new>

#include "base/pause_point.h"
#include "cache/cache.h"
#include "cache/cached_device.h"

namespace pcache {

// Whether what a write would wait for is the backing, and not only reclaim.
bool CachedDevice::lacks_space(Progress why) {
  if (why == Progress::no_share) return short_of_share();
  return why == Progress::no_turn || (why == Progress::no_space && cache_.nearly_full());
}

// Persist order: the record says that writes may go around the log, before one does. It goes on to say so until the
// device was closed in order: after a crash they are in doubt, whatever full_policy is by then.
Status CachedDevice::prepare_bypass() {
  if (full_policy() != FullPolicy::bypass || may_bypass_) return Status();
  if (Status status = cache_.cache_dev().set_bypassed(place_, true); !status.ok()) return status;
  may_bypass_ = true;
  return Status();
}

// Instead of waiting for space or its turn, a write goes to the backing if nothing that it would overtake is still to
// be written there. Returns whether `op` was taken.
bool CachedDevice::go_around(std::unique_ptr<WriteOp>& op, Progress why) try {
  if (op->direct || op->discard || stopped_ || failed_ || !may_bypass_ || !lacks_space(why)) return false;
  op->direct = std::make_unique<WriteOp::Direct>();
  describe_direct(*op);
  op->direct->around = true;
  if (may_go_around(*op)) {
    forget_part(*op);
    op->part.reset();
    PCACHE_PAUSE_POINT("around.allowed");
    switch (gate_.enter(op)) {
      case DirectGate::Entry::waits:
        return true;
      case DirectGate::Entry::entered:
        PCACHE_PAUSE_POINT("around.entered");
        // From here on nothing of its blocks is appended or kept. Something may have been just before.
        if (may_go_around(*op)) {
          op->direct->failed_flushes = backing_flush_->failures();
          issue_direct(std::move(op));
          return true;
        }
        gate_.leave(*op);
        start_waiting_direct();
        break;
      case DirectGate::Entry::off:
      case DirectGate::Entry::shut:
        break;
    }
  }
  op->direct.reset();
  return false;
} catch (const std::bad_alloc&) {
  op->direct.reset();
  return false;
}

// The index has nothing of its blocks, nor could a replay find something of them, so that nothing has to be stored
// before the backing changes (I7) and writeback has nothing older of them. With the order of epochs kept nothing else
// may be dirty either. The last block, unless it is a whole one, may be about to grow with the backing, which copies
// it.
bool CachedDevice::may_go_around(const WriteOp& op) {
  const std::uint64_t begin = op.direct->first_block;
  const std::uint64_t end = op.direct->end_block;
  if (refusing_writes_ || is_direct(mode()) || (keeps_order() && !has_nothing_dirty())) return false;
  const std::uint32_t wanted = streams_in(begin, end);
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    Stream& stream = *streams_[i];
    const std::lock_guard lock(stream.lock);
    if (stream.log.broken() || bytes_in(end - 1) != kBlockSize || is_replayable(stream, begin, end)) return false;
    const auto any = [](std::uint64_t) { return true; };
    if (!stream.zeros.empty() && stream.zeros.first_in(begin, end, 1, any) != end) return false;
    if (op.direct->entered) overtake(stream, begin, end);
  }
  return true;
}

bool CachedDevice::has_nothing_dirty() {
  const std::lock_guard lock(epoch_mutex_);
  return !epoch_used_.load(std::memory_order_acquire) && closed_.empty();
}

// All of it is on the backing. It is acknowledged as any other write is, when it is durable; a user's flush does not
// ask the backing in this mode. Whoever's flush failed meanwhile: what was lost may be of it.
void CachedDevice::flush_around(std::unique_ptr<WriteOp> op) {
  PCACHE_PAUSE_POINT("around.written");
  SharedFlush::Waiter& waiter = op->direct->flush;
  waiter.done = {[](void* context, int) {
                   std::unique_ptr<WriteOp> flushed(static_cast<WriteOp*>(context));
                   CachedDevice& device = *flushed->direct->device;
                   const bool lost = device.backing_flush_->failures() != flushed->direct->failed_flushes;
                   device.finish(std::move(flushed), lost ? EIO : 0);
                 },
                 op.release()};
  backing_flush_->add(waiter);
}

// --- What the backing may have taken, and not flushed, of writes around the log that failed, or that a crash ended.
// Whoever reads it may take it for written: it is not kept while a power cut may undo it, and the next flush of a user
// makes it durable.

// At opening, where a crash may have been. Waits for nothing.
void CachedDevice::begin_doubt() {
  if (!count_in()) return;
  doubts_ = 1;
  doubt_flush_.done = {[](void* context, int error) {
                         auto* const device = static_cast<CachedDevice*>(context);
                         if (error == 0) device->doubts_settled_ = 1;
                         device->count_out();
                       },
                       this};
  backing_flush_->add(doubt_flush_);
}

// Returns whether there is no doubt any more.
bool CachedDevice::settle_doubts() {
  const std::uint64_t doubts = doubts_.load();
  if (const int error = await_backing_flush(); error != 0) {
    writeback_failed(backing_failure(error, "flush"));
    return false;
  }
  doubts_settled_ = doubts;
  return true;
}

}  // namespace pcache
