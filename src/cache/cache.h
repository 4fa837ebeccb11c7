// A cache device in use: its segments, shared by the logical devices that it caches for.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/worker.h"
#include "cache/cached_device.h"
#include "cache/clock.h"
#include "cache/ghost_list.h"
#include "cache/waiting_writes.h"
#include "index/slot_table.h"
#include "pcache/options.h"
#include "pcache/stats.h"
#include "segment/cache_dev.h"
#include "segment/segment_pool.h"

namespace pcache {

// Thread-safe, but for start() and the steps, which tests call instead of start().
class Cache {
 public:
  // Whether `space` can keep the promise that is asked for. Errors: invalid.
  static Status check_ack(const CacheOptions& options, const PmemSpace& space);

  // Takes over an open cache device. Nothing is attached and nothing runs yet.
  // Errors: invalid (options out of range), failed (the medium).
  static Result<std::unique_ptr<Cache>> open(std::unique_ptr<CacheDev> cache_dev, const CacheOptions& options,
                                             Clock clock = steady_ms);
  // Stops everything and closes the cache device in order.
  ~Cache();

  // `tell` is called by attach() for each segment that it has replayed, with how many that are since this call, and how
  // many are in use. Not while operations run.
  void on_replay(std::function<void(std::uint64_t done, std::uint64_t segments)> tell);

  // Brings up a logical device that the cache device holds. With a backing (whose identity the caller has checked) it
  // serves operations as soon as start() was called; without one it only keeps its data.
  Result<std::shared_ptr<CachedDevice>> attach(const CacheDev::Device& device, std::unique_ptr<BackingDev> backing);

  // Makes a new logical device. Persist order: the backing's flush, its record. Errors: no_space (no room for its
  // streams), failed.
  Result<std::shared_ptr<CachedDevice>> add(const std::string& name, std::unique_ptr<BackingDev> backing,
                                            const Settings& settings = {});

  // Forgets a logical device, durably, whatever it holds. The caller has drained it. Persist order: the device's record
  // first; segments of a device that is not recorded are freed when the cache device is opened.
  Status remove(const std::shared_ptr<CachedDevice>& device);

  // Stops a logical device and keeps it for later, with all that was acknowledged. Persist order: everything stored,
  // the record that says so, what was stored since.
  Status park(const std::shared_ptr<CachedDevice>& device);
  // Brings a parked one up again with its backing, whose identity the caller has checked, in place of `parked`.
  Result<std::shared_ptr<CachedDevice>> unpark(const std::shared_ptr<CachedDevice>& parked,
                                               std::unique_ptr<BackingDev> backing);

  // Takes a device out, as if the cache device was closed and did not hold it any more, to be attached anew: its
  // operations end, what it holds stays, durable. Persist order: the whole mapping, then that the device is closed.
  // Errors: failed (the medium; the device is failed then).
  Status take_out(const std::shared_ptr<CachedDevice>& device);

  // Looks whether the medium is still there. If it is gone, all devices are failed from then on: what they hold cannot
  // be read, and the backing may be behind. Runs by itself every second.
  void check_medium();

  // Starts background work for the devices attached so far and later.
  void start();

  // Frees segments until a reserve is free, one at a time, and wakes writes that wait. Returns whether it did
  // something.
  bool reclaim_step();

  // Lets writes through that had to wait for their turn because space runs short, and says how fast others may go
  // on (docs/operations.md, full_policy). Returns how long there is nothing more to do.
  std::chrono::milliseconds throttle_step();

  // Closes the epoch of each device and makes all before it durable. On page media this is one msync; concurrent
  // callers take turns. Errors are sticky: what msync failed on may be lost.
  Status commit(const std::vector<CachedDevice*>& devices);

  // --- Another size (cache_size.cc)

  // How many segments there are, or will be when the cache device has become smaller.
  std::uint32_t segments_to_be() const {
    const std::uint32_t fewer = shrinks_to_.load(std::memory_order_relaxed);
    return fewer != 0 ? fewer : pool_.total();
  }
  bool shrinking() const { return shrinks_to_.load(std::memory_order_relaxed) != 0; }
  // Makes the cache device `size_bytes` large; 0: as large as the medium has become. Errors: invalid (less than now, or
  // too much for its tables or while it is open), no_space (the file cannot be made that long), busy (it is becoming
  // smaller), integrity, failed. It stays as it is then, though its file may be longer.
  Status grow(std::uint64_t size_bytes);
  // Begins to make it `size_bytes` large, by emptying the segments behind that; reclaim does it. Errors: invalid,
  // no_space (its logical devices need more), integrity (a damaged segment lies there), busy.
  Status begin_shrink(std::uint64_t size_bytes);
  // How the last one ended; nothing: it is still under way after `timeout_ms`. Where it failed, because something dirty
  // cannot be written back, all is as before.
  std::optional<Status> await_shrink(std::uint64_t timeout_ms, std::uint64_t& left_bytes);
  void cancel_shrink();

  CacheDevStats stats() const;
  SegmentMap segment_map() const;
  // Segments in use by a logical device of which there is no record, damaged or not.
  std::uint32_t orphaned_segments() const { return orphaned_segments_; }
  // So many more segments were replayed.
  void replayed(std::uint64_t segments);
  CacheDev& cache_dev() { return *cache_dev_; }
  const CacheOptions& options() const { return options_; }

  // Whether what all logical devices keep to themselves is still there to give when `of` has this share_min, or a new
  // one with so many streams. Under shares_mutex() until it is in force. Errors: invalid.
  Status check_share_min(const CachedDevice* of, std::uint64_t share_min, std::uint32_t more_streams = 0) const;
  std::mutex& shares_mutex() { return shares_mutex_; }

  // --- For CachedDevice

  std::uint64_t now_ms() const { return clock_(); }
  SegmentPool& pool() { return pool_; }
  SlotTable& slots() { return slots_; }
  GhostList& ghosts() { return ghosts_; }
  Ack ack() const { return ack_; }
  // How far a record goes before the write is acknowledged.
  Persist ack_persist() const { return ack_persist_; }
  bool page_media() const { return page_media_; }
  // Segments that only records which must not fail for lack of space may take: one for each stream (I2).
  std::uint32_t reserve() const { return reserve_.load(std::memory_order_relaxed); }
  bool short_of_space() const { return pool_.free_count() < reserve() + ahead_of(pool_.total()); }
  // Segments that writes may take without anything being written back: those that are free beyond the reserve, and
  // those that only hold what the backing has too.
  std::uint32_t available_segments() const {
    const std::int64_t all = std::int64_t{pool_.free_count()} + clean_segments() - reserve();
    return static_cast<std::uint32_t>(std::max<std::int64_t>(all, 0));
  }
  // In use, and only holding what the backing has too.
  std::uint32_t clean_segments() const {
    const std::int64_t logged = std::max<std::int64_t>(clean_segments_.load(std::memory_order_relaxed), 0);
    return static_cast<std::uint32_t>(logged) + pool_.borrowed_count();
  }
  // Whether so few are left that writeback has to hurry and writes may have to slow down.
  bool nearly_full() const { return available_segments() < mark(); }
  void count_clean_segments(std::int32_t more) { clean_segments_.fetch_add(more, std::memory_order_relaxed); }
  // Writeback got on, or a segment became free: whoever waits for space waits for something.
  void progressed(std::uint64_t now_ms) { progressed_ms_.store(now_ms, std::memory_order_relaxed); }
  // A write of `device` has taken a segment.
  void segment_taken(CachedDevice& device);
  // Whether a write may take a segment: one is free beyond the reserve, and no write that waited longer comes first.
  bool may_take_segment(bool waited) const { return pool_.free_count() > reserve() && (waited || waiting_.empty()); }
  // The same for what is only copied into the cache, or inside it.
  bool may_fill() const { return pool_.free_count() > reserve() + 1 && waiting_.empty(); }
  // The same for reclaim, which is about to free a segment.
  bool may_relocate() const { return pool_.free_count() > reserve() && waiting_.empty(); }
  // Whether room for something new is made by dropping something: free segments are those that reclaim frees ahead.
  bool full() const { return pool_.free_count() <= reserve() + ahead_of(pool_.total()) + 1; }
  // `for_share`: not for space, but for `device` to have less than its share_max.
  void wait_for_space(CachedDevice& device, std::unique_ptr<WriteOp> op, bool first, bool for_share = false);
  void wait_for_turn(CachedDevice& device, std::unique_ptr<WriteOp> op);
  bool turns_awaited() const { return !throttled_.empty(); }
  struct Waiting {
    std::uint64_t writes = 0;
    std::uint64_t longest_ms = 0;
  };
  // Writes of `device` that wait now, for space or for their turn.
  Waiting waiting(const CachedDevice& device) const;
  // Ends the writes of `device` that wait, with EIO.
  void fail_waiting(const CachedDevice* device);
  // Lets those of `device` go on that wait for space, whether there is some or not.
  void resume_waiting(const CachedDevice& device);
  // While it is held no segment is reclaimed.
  std::unique_lock<std::mutex> pause_reclaim() { return std::unique_lock(reclaim_mutex_); }
  void kick_reclaim() { reclaim_.kick(); }
  // Completes when `device`'s acknowledged writes survive power loss.
  void flush(CachedDevice& device, Completion done);

 private:
  struct Flushing {
    CachedDevice* device = nullptr;
    Completion done;
  };

  // Where less than this many segments are available, an eighth of all, space is running short.
  std::uint32_t mark() const { return std::max(2U, pool_.total() / 8); }
  // Of so many segments, how many reclaim keeps free beyond the reserve.
  static std::uint32_t ahead_of(std::uint32_t segments) { return std::max(2U, segments / 32); }

  Cache(std::unique_ptr<CacheDev> cache_dev, const CacheOptions& options, Clock clock);
  std::uint32_t streams_for_new_device() const;
  std::vector<std::shared_ptr<CachedDevice>> devices() const;
  void drop(const std::shared_ptr<CachedDevice>& device);
  Status persist_all();  // under commit_mutex_
  Status check_fits(std::uint32_t segments) const;
  bool shrink_step();
  void end_shrink(const Status& status);
  Status give_up_segments();
  bool wake_writers();
  bool reclaim_from(const std::vector<std::shared_ptr<CachedDevice>>& devices, std::uint32_t segments);
  bool reclaim_for_all(const std::vector<std::shared_ptr<CachedDevice>>& devices);
  template <typename Wanted>
  bool wake_writer(WaitingWrites& queue, Wanted wanted);
  void await(WaitingWrites& queue, CachedDevice& device, std::unique_ptr<WriteOp> op, bool first);
  void fail_all(WaitingWrites& queue, const CachedDevice* device, int error);
  template <typename Use>
  void for_each_waiting(WaitingWrites& queue, const CachedDevice& device, Use use);
  void fail_hopeless_writers();
  std::chrono::milliseconds let_through(CachedDevice& device);
  void close_full_epochs();
  bool sync_step();
  bool prefault_step();

  std::unique_ptr<CacheDev> cache_dev_;
  const CacheOptions options_;
  const Clock clock_;
  SegmentPool pool_;
  std::uint32_t orphaned_segments_ = 0;
  std::function<void(std::uint64_t done, std::uint64_t segments)> tell_replay_;
  std::uint64_t to_replay_ = 0;
  std::uint64_t replayed_ = 0;
  SlotTable slots_;
  GhostList ghosts_;
  const bool page_media_;
  const Ack ack_;
  const Persist ack_persist_;
  std::atomic<std::uint32_t> reserve_{0};
  std::atomic<std::int64_t> clean_segments_{0};
  std::atomic<std::uint64_t> progressed_ms_{0};

  mutable std::mutex devices_mutex_;
  std::vector<std::shared_ptr<CachedDevice>> devices_;
  bool started_ = false;

  std::mutex shares_mutex_;  // while a share_min changes; comes before other locks

  std::mutex reclaim_mutex_;        // one reclaim step at a time, and none while a device's segments are given back
  std::optional<Geometry> shrink_;  // what it is becoming; under reclaim_mutex_
  std::atomic<std::uint32_t> shrinks_to_{0};  // how many segments that has; 0: it is not becoming smaller
  mutable std::mutex shrunk_mutex_;
  std::condition_variable shrunk_changed_;
  std::optional<Status> shrunk_;  // how that ended
  std::uint32_t left_segments_ = 0;

  WaitingWrites waiting_;         // for space
  WaitingWrites awaiting_share_;  // for their device to have less than its share_max
  WaitingWrites throttled_;       // for their turn

  std::uint64_t checked_ms_ = 0;  // when reclaim's thread last looked at the medium
  std::mutex check_mutex_;
  mutable std::mutex lost_mutex_;
  Status lost_;  // why the medium is gone

  std::mutex commit_mutex_;
  Status commit_error_;
  std::mutex flushing_mutex_;
  std::vector<Flushing> flushing_;

  Worker reclaim_;
  Worker sync_;
  std::mutex prefault_mutex_;        // while a segment is mapped
  std::uint32_t next_prefault_ = 0;  // the segment that the worker comes to next
  Worker prefault_;
  Worker throttle_;
};

// Bytes that exist only in the cache device, over all its logical devices; devices whose log is damaged count as dirty
// with at least one byte. Nothing is changed but what opening changes. For deciding whether it may be overwritten.
Result<std::uint64_t> count_dirty_bytes(std::unique_ptr<CacheDev> cache_dev);

}  // namespace pcache
