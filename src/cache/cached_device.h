// A logical device: the operations that users start, and the writeback and reclaim of what they leave behind.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "base/worker.h"
#include "cache/direct_gate.h"
#include "cache/fetch.h"
#include "cache/live_settings.h"
#include "cache/mode.h"
#include "cache/op_timer.h"
#include "cache/probation.h"
#include "cache/sequential_reads.h"
#include "cache/share.h"
#include "cache/shared_flush.h"
#include "cache/speed_meter.h"
#include "cache/staging.h"
#include "cache/stream.h"
#include "cache/throttle.h"
#include "cache/write_op.h"
#include "cache/writeback_pace.h"
#include "cache/writeback_pass.h"
#include "pcache/backing_dev.h"
#include "pcache/logic_dev.h"
#include "segment/cache_dev.h"

namespace pcache {

class Cache;

class CachedDevice final : public LogicDev {
 public:
  // Made by Cache. `backing` may be null: the device then only keeps what it holds.
  CachedDevice(Cache& cache, const CacheDev::Device& device, std::unique_ptr<BackingDev> backing);
  ~CachedDevice() override;

  // --- LogicDev
  const std::string& name() const override { return name_; }
  std::uint64_t size_bytes() const override { return size_bytes_.load(std::memory_order_relaxed); }
  std::uint64_t inode() const override { return inode_; }
  FileAccess file_access() const override {
    return {settings_.get(Setting::uid), settings_.get(Setting::gid),
            static_cast<std::uint32_t>(settings_.get(Setting::permissions))};
  }
  void expect(Access access, std::span<const std::uint64_t> offsets) const override;
  bool waits_for_medium() const override;
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override;
  void write(std::uint64_t offset, std::span<const std::byte> data, Completion done) override;
  void flush(Completion done) override;
  void discard(std::uint64_t offset, std::uint64_t length, Completion done) override;
  int seek(Seek what, std::uint64_t& offset) override;
  int drain(std::uint64_t timeout_ms) override;
  // The two halves of drain(). Between them it goes on by itself; nothing: it cannot begin (EIO).
  std::optional<std::uint64_t> begin_drain();
  int await_drain(std::uint64_t target, std::uint64_t timeout_ms);
  LogicDevStats stats() const override;
  // What it did since the last reset(). Not on any operation's path.
  LogicDevActivity activity() const;
  void reset_activity();

  // --- Life cycle, called by Cache

  // Rebuilds the index from the log. Damage that may hide dirty data makes the device failed; damage that cannot is
  // repaired and counted. A failed Status means that the medium cannot be read at all.
  Status replay(std::vector<SegmentPool::InUse> segments);
  // Makes what replay found durable, and the device count as open, so that operations may begin.
  Status settle();
  void start();
  // Tells the medium that the device was closed in order, and where its logs begin and end. After stop(), settle()
  // before, and all of the medium durable. A failed device stays as it was found: what is missing shall be missed
  // again.
  Status mark_closed() const;
  // Ends background work and every operation: what waits for space gets EIO. Further operations get EIO.
  void stop();
  // While set, writes and discards get EIO; what was acknowledged before can be drained for good.
  void refuse_writes(bool refuse);
  // Returns when everything that entered an epoch before the call is in the log.
  void await_appends();
  // Whether the streams that the write comes to next have room, or no segment but their head and may therefore take one
  // of the reserve.
  bool may_take_share(const WriteOp& op);
  // Becomes as long as the backing is by now; one call at a time. Writes everything back first where the last block is
  // not a whole one. Errors: failed (the backing became shorter or did not take the data, or there is none), no_space,
  // busy (the last block is written again and again).
  Status grow_to_backing();
  // Answers EIO to everything from now on, and changes nothing any more.
  void fail(const std::string& why);
  // Whether the backing is not what it was opened as: it became shorter, was deleted or went away.
  bool backing_gone();
  // Gives all segments back. After stop().
  Status release_segments();
  // It is stopped and kept on the medium for later.
  void set_parked() { parked_ = true; }
  bool parked() const { return parked_; }
  // Takes its slots out of use and leaves what is on the medium, so that another object may be made of the same log.
  // After stop().
  void forget_slots();

  // --- Background work, one step at a time (the worker of start() calls these too)

  // Closes the open epoch and writes back a part of what is closed, if it is time for that. Returns how long there is
  // nothing more to do.
  std::chrono::milliseconds background_step();
  // Writes back one epoch if there is one to write, or, where no order is asked for, all that are. Returns whether it
  // did; errors are counted and retried later.
  bool writeback_step();
  struct WriteBack {
    enum class Step { none, part, whole, failed };  // none: nothing is closed and durable
    Step step = Step::none;
    std::uint64_t bytes = 0;  // that went to the backing
  };
  // Goes on writing back for so many bytes, or a little more.
  WriteBack write_back(std::uint64_t bytes);
  // Releases the oldest segment of `stream` if it is clean and not the head; blocks that were read since are appended
  // again. Returns whether a segment became free.
  bool reclaim_front(std::uint32_t stream);
  // Gives the oldest segment on probation back; blocks that were read since go to the log, unless all are to be
  // forgotten. Returns whether there was one.
  bool reclaim_probation(bool keep_read = true);
  // For a cache device that becomes smaller: takes a step to have nothing in segments from `end` on, as reclaim does.
  //   none: it has nothing there; waits: for what is dirty to be written back, or for a free segment.
  enum class MoveOut { none, moved, waits };
  MoveOut move_out_of(SegmentId end);
  // Writes back at full speed while it is set.
  void hurry(bool hurry) {
    hurries_ = hurry;
    kick();
  }
  // For one that becomes larger: makes room for the numbers of so many.
  void reserve_segments(std::uint32_t segments);
  // For reclaim to choose from: the age of the oldest segment of each stream that has more than its head, and whether
  // it is clean.
  struct Victim {
    std::uint32_t stream = 0;
    std::uint64_t age = 0;
    bool clean = false;
  };
  std::vector<Victim> victims();
  const Probation& probation() const { return probation_; }

  // Segments that it has, of its log and on probation.
  std::uint32_t segments_used() const;
  Share share() const;
  // The same in a cache device of so many segments.
  Share share_in(std::uint32_t segments) const;
  // Whether it has so much of the cache device that what is clean of it is not to stay.
  bool above_gc_high() const;
  // Whether it has all that it may have: what it needs more it takes from itself.
  bool at_share_max() const { return segments_used() >= share().max; }
  // And there is nothing clean to take.
  bool short_of_share();

  // Ends the open epoch if anything was written in it. Returns the last closed epoch. Writes that are acknowledged
  // before the call belong to that epoch or an older one.
  std::uint64_t close_epoch();
  // Whether the open epoch is large enough to close by itself.
  bool epoch_is_full() const;
  // Everything up to `epoch` survives power loss and may be written back.
  void set_durable_epoch(std::uint64_t epoch);

  // --- Inspection (survey.cc), of a device that was replayed and does nothing else

  // What replay() found wrong with the log.
  struct LogDamage {
    std::optional<std::uint32_t> stream;  // not known for records at the ends of the logs
    std::uint64_t first_lsn = 0;          // where the stream is known
    std::uint64_t count = 0;              // records
    bool may_be_dirty = false;
  };
  const std::vector<LogDamage>& log_damage() const { return log_damage_; }

  // What a block reads as.
  struct BlockState {
    enum class Kind { absent, cell, zero, lost };
    Kind kind = Kind::absent;  // absent: the backing answers
    bool dirty = false;
    SlotId slot = kNoSlot;
    std::uint32_t crc = 0;  // of the cell
  };
  BlockState block_state(std::uint64_t block);
  // Calls `visit` for each block that is a cell or lost, in the order of the logs.
  void visit_blocks(const std::function<void(std::uint64_t block, const BlockState& state)>& visit);
  // Calls `visit` with the blocks that each damaged record of `damage` seems to be of, where it looks like a record of
  // its place but for the checksum.
  void visit_likely_blocks(const LogDamage& damage,
                           const std::function<void(std::uint64_t block, std::uint64_t count)>& visit);
  // Where the first record of `damage` lies on the cache device; 0 where that is not known.
  std::uint64_t record_offset(const LogDamage& damage) const;
  // Copies a cell out. False when it is not what its checksum says.
  bool read_cell(SlotId slot, std::uint32_t crc, std::byte* out) const;

  // --- Modes (mode_switch.cc, direct_path.cc)

  // In force.
  Mode mode() const { return mode_.load(std::memory_order_relaxed); }
  // As chosen and stored.
  ModeChoice mode_choice() const;
  // Operations begin, after settle().
  void open_gate();
  // Lets the worker switch, in place of whatever it may be switching to. Errors: failed (it does not run), integrity
  // (something is lost, and the mode would bring older data back).
  Status begin_switch(const ModeChoice& to);
  // How the last switch ended; nothing: it is still under way after `timeout_ms`.
  std::optional<Status> await_switch(std::uint64_t timeout_ms);
  // Writes and discards that have begun to go to the backing past the log, and not ended.
  std::size_t direct_operations() const { return gate_.entered(); }
  // What is being switched to.
  std::optional<ModeChoice> pending_mode() const;

  // --- For Cache

  // Whether the backing failed a flush since this was last asked: one flush of a user says so.
  bool take_flush_error() { return backing_flush_ && backing_flush_->take_untold(); }

  // Continues a write that waited for space, or ends it.
  void resume(std::unique_ptr<WriteOp> op);
  void finish(std::unique_ptr<WriteOp> op, int error);
  bool stopped() const { return stopped_; }

  // The value in force of a setting. Cheap enough for every request.
  std::uint64_t setting(Setting setting) const { return settings_.get(setting); }
  // Stores `changes`, durably, then puts them in force; another mode is only begun to be switched to. Errors: invalid
  // (values that do not go together), failed (the medium; nothing changed).
  Status configure(const Settings& changes);
  // Puts them in force until the device is closed. Errors: invalid (also the mode: that is always stored).
  Status configure_for_now(const Settings& changes);
  // As DeviceManager::unset().
  Status unset(const SettingSet& keys);
  // Begins to switch to the mode that is configured, if there is one, it is another, and nobody chose one since.
  void follow_configured_mode();
  // What was chosen for `before`, which this takes the place of, and is not stored.
  void keep_choices_of(const CachedDevice& before);
  std::vector<SettingValue> settings() const;
  // Whether the backing gets one epoch after the other.
  bool keeps_order() const {
    return settings_.choice<WritebackOrder>(Setting::writeback_order) == WritebackOrder::epoch;
  }
  FullPolicy full_policy() const { return settings_.choice<FullPolicy>(Setting::full_policy); }
  // How fast writes may go on, while `left` of `mark` bytes of space are left.
  void set_write_rate(std::uint64_t left, std::uint64_t mark, std::uint64_t now_ms);
  bool throttles() const { return throttle_.on(); }
  bool may_write(std::uint64_t bytes, std::uint64_t now_ms) { return throttle_.take(bytes, now_ms); }

  void kick() { worker_.kick(); }
  std::uint32_t place() const { return place_; }
  // Every segment of its logs, and whether it is clean.
  void for_each_segment(const std::function<void(SegmentId id, bool is_clean)>& visit) const;
  std::uint32_t stream_count() const { return static_cast<std::uint32_t>(streams_.size()); }
  std::uint32_t device_id() const { return device_id_; }
  // Whether it was given a backing: users see it.
  bool serves() const { return serves_ && !parked_; }
  std::string backing_path() const { return backing_path_; }
  const BackingIdentity& recorded_backing() const { return recorded_backing_; }
  std::uint64_t dirty_bytes() const;
  // How long the oldest dirty data has been in the cache, or known to be; 0: there is none.
  std::uint64_t backing_silent_ms() const;
  std::uint64_t oldest_dirty_ms() const;
  // How long writing back all that is dirty would take at full speed; 0: nothing is, or the speed is not known yet.
  std::uint64_t clean_in_ms() const;
  std::uint64_t lost_blocks() const;
  // Some of what is lost, in order, neighbours joined.
  std::vector<ByteRange> lost_ranges() const;
  std::uint64_t index_bytes() const;
  std::uint64_t stored_bytes() const;
  std::uint64_t damaged_records() const { return damaged_records_; }
  bool failed() const { return failed_; }
  // Why the device does not run; set before start().
  void set_detail(std::string detail) { detail_ = std::move(detail); }
  // Writeback failed several times in a row and has not succeeded since.
  bool backing_failing() const { return failures_in_a_row_.load(std::memory_order_relaxed) >= kFailuresToGiveUp; }

 private:
  Status change_settings(const SettingLayers& next);

  friend struct Fetch;
  friend struct ReadOp;

  static constexpr int kFailuresToGiveUp = 3;
  static constexpr std::uint32_t kSkipsToGiveUp = 64;  // one after the other: the medium is gone, not a cell
  static constexpr std::uint32_t kBatchBlocks = 16;    // appended at once: how long a stream's lock may be held

  std::uint32_t stream_number(std::uint64_t block) const {
    return stream_of_block(block, static_cast<std::uint32_t>(streams_.size()));
  }
  Stream& stream_of(std::uint64_t block) { return *streams_[stream_number(block)]; }
  const Stream& stream_of(std::uint64_t block) const { return *streams_[stream_number(block)]; }
  std::uint64_t blocks() const { return div_ceil(size_bytes(), kBlockSize); }
  // Bytes of `block` that the device has: less than a block at the end.
  std::uint64_t bytes_in(std::uint64_t block) const { return std::min(kBlockSize, size_bytes() - block * kBlockSize); }
  bool in_bounds(std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t size = size_bytes();
    return offset <= size && length <= size - offset;
  }

  // read_path.cc
  void start_read(std::uint64_t offset, std::span<std::byte> buffer, Completion done);
  enum class Lookup { hit, miss, error };
  Lookup read_cached(Stream& stream, std::uint64_t block, std::uint64_t skip, std::span<std::byte> out);
  bool drop_damaged(Stream& stream, const StreamIndex::Found& found);
  StreamIndex::Found find_pinned(const Stream& stream, std::uint64_t block);
  bool read_rest(ReadOp& op, std::uint64_t from);
  void start_misses(ReadOp& op, std::uint64_t first, std::uint64_t count);
  void read_block(ReadOp& op, std::uint64_t block);
  void fetched(Fetch& fetch, int error);
  void fill(Fetch& fetch);
  bool may_fill() const;
  bool is_full() const;
  std::size_t fill_log(Stream& stream, std::span<LogEntry> entries);
  std::size_t fill_probation(Stream& stream, std::span<LogEntry> entries);
  bool admits_reads() const { return mode() != Mode::writeonly && mode() != Mode::passthrough; }
  void drop_bare(Stream& stream, SlotId slot);

  // write_path.cc
  // elsewhere: not in the log
  enum class Progress { done, no_space, no_share, no_turn, needs_block, elsewhere, failed };
  Progress advance(WriteOp& op);
  Progress write_blocks(WriteOp& op, std::uint64_t block, std::uint64_t count);
  Progress write_part(WriteOp& op);
  Progress base_of_part(Stream& stream, WriteOp& op, std::uint64_t block, std::byte* out);
  void suspend(std::unique_ptr<WriteOp> op, Progress why);
  void forget_part(const WriteOp& op);
  static void count_written(Stream& stream, WriteOp& op, std::uint64_t bytes);
  Progress reserve(Stream& stream, WriteOp& op);
  Progress make_room(Stream& stream, WriteOp& op);
  Result<std::uint32_t> take_segment(Stream& stream);
  static bool has_share_left(const Stream& stream) { return stream.log.segments().size() < 2; }  // of the reserve
  std::uint64_t enter_epoch(Stream& stream);
  std::uint64_t epoch_for_copies(Stream& stream);
  Progress skip_for(Stream& stream, WriteOp& op);
  bool skip_slot(Stream& stream, Persist persist);
  void publish(Stream& stream, std::uint64_t lsn, const LogEntry& entry, bool dirty) {
    publish_at(stream, stream.log.slot_of(lsn), entry, dirty);
  }
  void publish_at(Stream& stream, SlotId slot, const LogEntry& entry, bool dirty);
  void overtake(Stream& stream, std::uint64_t begin, std::uint64_t end);

  // direct_path.cc
  void go_direct(std::unique_ptr<WriteOp> op);
  void describe_direct(WriteOp& op);
  void start_direct(std::unique_ptr<WriteOp> op);
  void start_waiting_direct();
  Progress invalidate(WriteOp& op);
  static bool is_replayable(const Stream& stream, std::uint64_t begin, std::uint64_t end);
  bool is_lost_in_part(const Stream& stream, const WriteOp& op) const;
  void note_gone(Stream& stream, std::uint64_t lsn, const LogEntry& entry);
  void issue_direct(std::unique_ptr<WriteOp> op);
  void write_sector(std::unique_ptr<WriteOp> op);
  void write_direct(std::unique_ptr<WriteOp> op, const std::byte* from);
  static Completion direct_completion(std::unique_ptr<WriteOp> op);
  void wrote_direct(std::unique_ptr<WriteOp> op, int error);
  void keep(const WriteOp& op, std::uint64_t length);
  void flush_backing(Completion done);
  void flushed_backing(int error, std::uint64_t failed_flushes, std::uint64_t doubts, Completion done);
  // Both wait for the backing's flush, and return its error. Where it fails, the second one sees to it, in the modes
  // that write to the backing, that nothing counts that the backing may have dropped.
  int await_backing_flush();
  int flush_direct();
  bool void_unflushed();

  // full_bypass.cc
  bool lacks_space(Progress why);
  bool go_around(std::unique_ptr<WriteOp>& op, Progress why);
  bool may_go_around(const WriteOp& op);
  bool has_nothing_dirty();
  Status prepare_bypass();
  void flush_around(std::unique_ptr<WriteOp> op);
  void begin_doubt();
  bool in_doubt() const { return doubts_.load() != doubts_settled_.load(); }
  bool settle_doubts();

  // move_out.cc
  bool leave_head(Stream& stream);

  // mode_switch.cc
  bool switch_step();
  Status store_mode(const ModeChoice& to);
  Status complete_switch(Mode from, const ModeChoice& to);
  void hold_operations();
  // Closes the open epoch and writes back the next one, or says why none could be.
  Status clean_an_epoch();
  void release_operations();
  Status write_all_back();
  Status not_written_back() const;
  void end_switch(const ModeChoice& to, const Status& status);
  void acknowledge_late(Completion done);
  void release_acks(std::uint64_t clean_epoch);
  bool holds_segments();
  bool release_void_step();

  // reclaim.cc
  void count_clean_segments(Stream& stream);
  bool relocate(Stream& stream, SlotId slot, const SlotKey& key, std::uint8_t frequency);
  void evict(Stream& stream, SlotId slot, const SlotKey& key, bool remember);
  void empty_slots(SegmentId segment);
  void forget_log_slots(Stream& stream);  // under its lock
  void await_unpinned(const Stream& stream);

  // discard.cc
  Progress discard_blocks(WriteOp& op);
  void forget_blocks(Stream& stream, std::uint64_t begin, std::uint64_t end);
  void publish_zero(Stream& stream, std::uint64_t lsn, const LogEntry& entry);
  void note_zero(Stream& stream, std::uint64_t lsn, const LogEntry& entry, bool dirty);
  std::uint32_t streams_in(std::uint64_t begin, std::uint64_t end) const;
  void unlink(Stream& stream, SlotId slot);

  // seek.cc
  struct Extent {
    bool data = true;
    std::uint64_t end = 0;  // block
  };
  Extent extent_of(std::uint64_t block, Extent& backing);
  Extent backing_extent(std::uint64_t block) const;
  std::uint64_t first_zero(std::uint64_t begin, std::uint64_t end);
  std::uint64_t first_cached(std::uint64_t begin, std::uint64_t end);
  std::uint64_t first_cached_by_log(std::uint64_t begin, std::uint64_t end);

  // resize.cc
  Status grow_to(std::uint64_t size);
  enum class Grown { yes, block_is_dirty };
  Result<Grown> grow_from_part(std::uint64_t size);

  // writeback.cc
  std::uint64_t last_epoch_to_write_back();
  void forget_pass();  // under writeback_mutex_
  EpochContent collect(std::uint64_t epoch);
  Status write_part(WritebackPass& pass, std::uint64_t bytes, std::uint64_t& written);
  int write_zeroes(const EpochContent& content);
  Status write_blocks_back(WritebackPass& pass, std::uint64_t bytes, std::uint64_t& written);
  void note_progress(WritebackPass& pass, std::uint64_t every_ms);
  Status flush_written(const WritebackPass& pass);
  Status backing_failure(int error, const char* what) const;
  Status mark_clean(const EpochContent& content);
  bool mark_lost(SlotId slot, std::uint64_t block);
  void writeback_failed(const Status& why);
  void make_room_for_epochs();               // under epoch_mutex_
  std::uint64_t newest_clean_epoch() const;  // under epoch_mutex_

  // background.cc
  struct DirtyAge {
    bool closed = false;          // there are closed epochs
    std::uint64_t open_ms = 0;    // since when the open epoch holds something; 0: it does not
    std::uint64_t oldest_ms = 0;  // the same for all that is dirty
  };
  DirtyAge look_at_epochs(std::uint64_t now);
  WritebackPace::Limits pace_limits() const;
  std::chrono::milliseconds rest_after_failure(std::chrono::milliseconds rest, std::uint64_t now) const;

  // replay.cc
  std::vector<StreamLog::Hole> replay_stream(std::uint32_t number, const StreamLog::Replay& device);
  Status forget_log();
  CacheDev::Closed log_ends() const;
  // Whether the backing may lack what was written in `epoch`: with everything up to `clean` it has, in a mode that
  // writes to it at once it has all.
  bool is_dirty_epoch(std::uint64_t epoch, std::uint64_t clean) const { return keeps_dirty(mode()) && epoch > clean; }

  // Counts an operation that goes on beyond its caller's frame; false: the device is stopped, and it is not counted.
  bool count_in();
  void count_out();

  Cache& cache_;
  const std::uint32_t place_;
  const std::uint32_t device_id_;
  const std::string name_;
  const std::string cache_label_;
  std::atomic<std::uint64_t> size_bytes_;     // only grows
  std::atomic<std::uint64_t> backing_bytes_;  // as long as the backing was when it was looked at last
  const std::uint64_t inode_;
  const std::string backing_path_;
  const BackingIdentity recorded_backing_;
  mutable std::mutex settings_mutex_;  // one change at a time
  LiveSettings settings_;
  const bool serves_;                                // has a backing
  std::unique_ptr<BackingDev> backing_;              // until stop()
  const std::shared_ptr<const BackingPulse> pulse_;  // of the backing; may be null
  std::optional<SharedFlush> backing_flush_;         // where there is a backing
  // In a mode that keeps dirty data the backing may hold, without having flushed it, what nobody was told to be there:
  // so often that began, and up to here the backing has flushed since.
  std::atomic<std::uint64_t> doubts_{0}, doubts_settled_{0};
  std::atomic<bool> may_bypass_{false};  // the cache device knows that writes may go around the log
  SharedFlush::Waiter doubt_flush_;      // of what there was at opening
  std::vector<std::unique_ptr<Stream>> streams_;
  Probation probation_;
  SequentialReads sequential_reads_;
  std::unique_ptr<Staging> staging_;                 // where it serves
  std::vector<std::vector<StreamLog::Hole>> holes_;  // by stream, from replay() to settle()
  std::vector<std::vector<std::uint64_t>> voids_;    // the same; LSNs of records that are not to count any more
  std::string detail_;
  std::atomic<bool> failed_{false};
  std::uint64_t damaged_records_ = 0;
  std::vector<LogDamage> log_damage_;

  // The open epoch. Read under a stream's lock by writers; changed under epoch_mutex_.
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<bool> epoch_used_{false};
  std::atomic<std::uint64_t> durable_epoch_{0};
  std::atomic<std::uint64_t> clean_epoch_{0};
  mutable std::mutex epoch_mutex_;
  struct ClosedEpoch {
    std::uint64_t epoch = 0;
    std::uint64_t opened_ms = 0;
    std::uint64_t end_slots = 0;  // stored since opening, when it closed
  };
  std::deque<ClosedEpoch> closed_;                   // not yet written back; under epoch_mutex_
  std::size_t epoch_room_ = Stream::kEpochsAtFirst;  // of each Stream::epochs, at least; under epoch_mutex_
  std::uint64_t epoch_opened_ms_ = 0;           // when the worker first saw the open epoch used; under epoch_mutex_
  std::atomic<std::uint64_t> epoch_blocks_{0};  // stored when the open epoch began, to limit its size

  std::mutex writeback_mutex_;           // one writeback step at a time
  std::unique_ptr<WritebackPass> pass_;  // what is being written back, over several steps; under writeback_mutex_
  std::atomic<std::uint64_t> pass_slots_written_{0};
  WritebackPace pace_;  // of the worker
  SpeedMeter writeback_speed_;
  Throttle throttle_;
  mutable std::mutex progress_mutex_;
  std::condition_variable progress_;           // clean_epoch_ or failures changed
  std::atomic<std::uint64_t> drain_epoch_{0};  // write back up to here without delay
  std::atomic<int> failures_in_a_row_{0};
  std::uint64_t failures_ = 0;   // under progress_mutex_
  std::uint64_t failed_ms_ = 0;  // when the last attempt failed; under progress_mutex_
  std::string trouble_;          // why it did, until one succeeds; under progress_mutex_

  std::atomic<Mode> mode_;           // in force
  std::atomic<bool> appends_{true};  // writes go to the log, and not to the gate; asked under a stream's lock
  DirectGate gate_;
  ModeChoice mode_choice_;                      // under progress_mutex_, as the next three
  std::optional<ModeChoice> pending_mode_;      // being switched to
  std::optional<std::uint64_t> switch_epoch_;   // to be clean before writes are held
  Status switch_error_;                         // why the last switch failed
  std::atomic<bool> switch_pending_{false};     // there is a pending_mode_
  std::atomic<bool> unflushed_is_void_{false};  // copies of what the backing may have dropped are still to be voided
  bool closes_{true};                           // at stop() the backing was flushed, if anything was in need of that
  std::atomic<bool> late_acks_{false};          // writes in the log are acknowledged when the backing has them
  struct LateAck {
    std::uint64_t epoch = 0;
    Completion done;
  };
  std::mutex acks_mutex_;
  std::deque<LateAck> acks_;  // under acks_mutex_

  std::atomic<bool> stopped_{false};
  std::atomic<bool> refusing_writes_{false};
  std::atomic<bool> hurries_{false};  // to write back
  std::atomic<bool> parked_{false};
  std::atomic<std::uint64_t> operations_{0};  // that hold the device beyond the caller's frame
  std::mutex idle_mutex_;
  std::condition_variable idle_;

  std::atomic<std::uint64_t> reads_{0}, read_bytes_{0}, read_hits_{0}, read_misses_{0}, read_fills_{0};
  std::atomic<std::uint64_t> flushes_{0}, discards_{0}, backing_read_errors_{0};
  std::atomic<std::uint64_t> written_back_bytes_{0}, writeback_errors_{0}, space_waits_{0}, throttled_ms_{0};
  std::atomic<std::uint64_t> bad_cells_{0}, bypassed_bytes_{0}, bypassed_full_bytes_{0}, refused_mode_{0};
  std::atomic<std::uint64_t> evicted_blocks_{0}, relocated_blocks_{0}, promoted_blocks_{0}, ghost_hits_{0};
  std::atomic<std::uint64_t> partial_hits_{0}, refused_first_touch_{0}, refused_sequential_{0}, refused_no_space_{0};
  std::atomic<std::uint64_t> checksum_errors_{0};

  OpTimer timer_;
  mutable std::mutex activity_mutex_;
  LogicDevStats counted_before_;     // when the activity was reset; under activity_mutex_
  std::uint64_t activity_since_ms_;  // the same

  Worker worker_;  // last: it runs on all of the above
};

}  // namespace pcache
