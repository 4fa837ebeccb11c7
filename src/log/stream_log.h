// One key-log stream on the medium: a chain of segments filled slot by slot.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "boost/circular_buffer.hpp"
#include "media/key_record.h"
#include "segment/cache_dev.h"
#include "segment/segment_pool.h"

namespace pcache {

// One record to append, with its cell's content.
struct LogEntry {
  RecordType type = RecordType::none;
  std::uint64_t block = 0;
  std::uint64_t count = 1;
  const std::byte* payload = nullptr;  // kCellSize bytes, or null for a record without payload
  std::uint32_t payload_crc = 0;       // CRC-32C of it; filled in by commit()
};

// How far commit() takes the records before it returns.
enum class Persist {
  relaxed,  // as fenced, but a crash in the middle may leave a record without its payload
  fenced,   // durable on byte and cache_line media; stored on page media
  synced,   // durable on any medium
};

// Positions are LSNs: consecutive numbers of slots, over all segments that the stream ever had. Not synchronised; the
// stream's lock is the caller's.
class StreamLog {
 public:
  // What replay could not read between two records that it could.
  struct Hole {
    std::uint64_t first_lsn = 0;
    std::uint64_t count = 0;
    bool torn = false;             // explained by a crash: never acknowledged, or not yet flushed on page media
    std::uint64_t next_epoch = 0;  // no record of the hole is of a later epoch
    bool evident = false;          // no crash explains it: a segment is missing, or a record makes no sense
  };

  struct Segment {
    SegmentId id = 0;
    std::uint64_t generation = 0;
    std::uint64_t chain = 0;
    std::uint64_t first_lsn = 0;
  };

  StreamLog(CacheDev& cache_dev, SegmentPool& pool, std::uint32_t device_id, std::uint32_t stream);

  // --- Appending

  // Makes sure that the head has free slots, taking a segment if need be, and returns how many; 0 when the pool has no
  // free segment.
  Result<std::uint32_t> reserve();

  // Appending `entries`, at most reserve() of them, as one batch takes two steps. What is staged and not committed was
  // never there; the next stage() takes the same slots.
  // Persist order: payloads (stage), fence, records, fence (commit). A record is therefore never durable before its
  // payload, and a batch is durable as a whole before any later one begins.

  // Starts storing the payloads. Whatever is done between this and commit() hides behind the stores that are under way.
  // Returns of how many entries, from the first one on: less than all where a cell takes nothing; 0 when the medium
  // failed altogether, or that cell is the next one, which can be skipped.
  [[nodiscard]] std::uint32_t stage(std::span<const LogEntry> entries);

  // Leaves the next slot out for good, with a filler record of `epoch`: its cell takes nothing. Returns false when the
  // medium does not take that either.
  [[nodiscard]] bool skip(std::uint64_t epoch, Persist persist);

  // Computes the checksums (still while the stores are under way), appends what was staged and returns the first one's
  // LSN. On failure (the medium failed) nothing was appended.
  Result<std::uint64_t> commit(std::span<LogEntry> entries, std::uint64_t epoch, Persist persist);

  // Both steps for all entries; fails where a cell takes nothing.
  Result<std::uint64_t> append(std::span<LogEntry> entries, std::uint64_t epoch, Persist persist);

  // Makes fillers of the records in these slots, which are in their order, durably: what they say never was. A crash
  // leaves each as it was or a filler.
  Status void_records(std::span<const std::uint64_t> lsns);

  std::uint64_t next_lsn() const { return next_lsn_; }
  // Whether nothing may be appended any more, since the medium neither took some records nor lets them be erased.
  bool broken() const { return broken_; }
  // Slots left in the head segment.
  std::uint32_t room() const;

  // --- The chain

  const boost::circular_buffer<Segment>& segments() const { return segments_; }
  // How many; may be asked without the lock.
  std::uint32_t segment_count() const { return segment_count_.load(std::memory_order_relaxed); }
  // The slot of `lsn`, which lies in one of the segments.
  std::uint32_t slot_of(std::uint64_t lsn) const;
  // Makes room for as many as the pool is going to have.
  void reserve_segments(std::uint32_t segments) {
    if (segments_.capacity() < segments) segments_.set_capacity(segments);
  }
  std::uint64_t end_lsn(const Segment& segment) const { return segment.first_lsn + slots_; }
  // Gives the oldest segment back to the pool, durably. The chain has at least two.
  Status release_front();
  // Gives all segments back.
  Status release_all();

  // --- Recovery

  // Takes over the segments that the table lists for this stream, in any order. Returns false, and takes none, when
  // they are no chain.
  [[nodiscard]] bool adopt(std::vector<SegmentPool::InUse> segments);

  // Epoch of the last readable record, 0 when there is none.
  std::uint64_t last_epoch() const;

  // What is known of the logical device when its log is replayed.
  struct Replay {
    std::uint64_t device_blocks = 0;
    // Of all its streams, by last_epoch(). On page media records of this epoch and the one before count only if their
    // payload is intact, and holes before them are torn: a flush that closes an epoch completes before the next but one
    // begins.
    std::uint64_t newest_epoch = 0;
    // What the backing has was durable before, so that nothing of these epochs can be torn.
    std::uint64_t clean_epoch = 0;
    // It was closed in order, so that everything counts as flushed.
    bool was_closed = false;
    // Whether a block belongs to this stream; none: all do.
    std::function<bool(std::uint64_t block)> is_ours = {};
  };

  // Calls `visit` for every readable record in log order, and returns what was unreadable in between. A record that is
  // in its place, has the right checksum and makes no sense is an evident hole, whatever follows: no crash leaves one.
  std::vector<Hole> replay(const Replay& device,
                           const std::function<void(std::uint64_t lsn, const KeyRecord& record)>& visit);

  // Writes filler records into the torn ones of `holes`, which are in the order of the log, erases what lies behind the
  // end, and makes all of the log durable: what was read once will be read after the next crash too, and what was not
  // will never be.
  Status settle(std::span<const Hole> holes);

 private:
  void count_segments() {
    segment_count_.store(static_cast<std::uint32_t>(segments_.size()), std::memory_order_relaxed);
  }
  // Whether there is a record of this place, with the right checksum.
  bool read_record(const Segment& segment, std::uint32_t slot, KeyRecord& record) const;
  bool makes_sense(const Replay& device, const KeyRecord& record, std::uint32_t slot, std::uint64_t epoch_before) const;
  bool payload_intact(const Segment& segment, std::uint32_t slot, const KeyRecord& record) const;
  Status store_failed() const;
  Status erase(const Segment& segment, std::uint32_t slot);
  Status fill(const Segment& segment, std::uint64_t lsn, std::uint64_t epoch);
  // `stored`: how many records were written, also when a later one was not.
  Status disarm_torn(const Segment& segment, std::uint64_t first_lsn, std::uint64_t end_lsn);
  Status store_records(std::span<const LogEntry> entries, std::uint64_t epoch, Persist persist, std::uint32_t& stored);
  KeyRecord make_record(const Segment& segment, std::uint64_t lsn, std::uint64_t epoch, const LogEntry& entry,
                        std::uint16_t batch_pos) const;

  CacheDev& cache_dev_;
  SegmentPool& pool_;
  const std::uint32_t device_id_;
  const std::uint8_t stream_;
  const std::uint32_t slots_;
  // Oldest first; the last one is the head. Has room for all that the pool has, since appending allocates nothing.
  boost::circular_buffer<Segment> segments_;
  std::atomic<std::uint32_t> segment_count_{0};
  std::uint64_t next_lsn_ = 0;
  std::uint64_t next_chain_ = 0;
  bool broken_ = false;  // records that were never committed could not be erased: nothing may be appended
};

}  // namespace pcache
