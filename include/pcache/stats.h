// Snapshots for status. Field names are those of `pcachefs status --json`; all sizes in bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pcache/byte_range.h"

namespace pcache {

struct LogicDevStats {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t backing_id = 0;  // among those of its cache device, as long as that holds it
  std::string backing;           // path
  std::string cache_dev;         // label
  std::string mode;              // in force: "writeback", "writethrough", "writearound", "writeonly", "passthrough"
  std::string pending_mode;      // the mode that is being switched to, or empty
  bool detached = false;         // passthrough until it is attached again
  bool backing_fails = false;    // writeback fails and is tried again
  // "running"; "failed" (answers EIO: its log is damaged where dirty data was); "no_backing" (the backing is missing,
  // of another identity or size, or cannot be opened: not exposed); "parked" (removed, with its data kept: not
  // exposed); "missing" (it is configured, and could not be added: only name, backing and cache_dev are known)
  std::string state;
  std::string detail;              // why, when the state is not "running"; else what goes wrong now, or empty
  std::uint64_t dirty_bytes = 0;   // only in the cache so far
  std::uint64_t cached_bytes = 0;  // readable from the cache, dirty ones included
  std::uint64_t used_bytes = 0;    // of the cache device, of which share_min and share_max are a part
  std::uint64_t share_bytes = 0;   // of the cache device, that it may take
  std::uint64_t reads = 0;         // requests
  std::uint64_t read_bytes = 0;
  std::uint64_t read_hits = 0;     // 4 KiB blocks served from the cache
  std::uint64_t read_misses = 0;   // 4 KiB blocks that had to come from the backing
  std::uint64_t read_fills = 0;    // 4 KiB blocks admitted after a miss
  std::uint64_t partial_hits = 0;  // requests of which a part was served from the cache
  // 4 KiB blocks that were not admitted after a miss: with admission=second_touch, where they had not been read before;
  // since they were part of a sequential read; since there was no space that is free without waiting; since the mode
  // keeps no reads, or they were being written at the same time
  std::uint64_t not_admitted_first_touch = 0;
  std::uint64_t not_admitted_sequential = 0;
  std::uint64_t not_admitted_no_space = 0;
  std::uint64_t not_admitted_mode = 0;
  std::uint64_t writes = 0;  // requests
  std::uint64_t write_bytes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;
  std::uint64_t written_back_bytes = 0;
  std::uint64_t writeback_errors = 0;     // failed attempts; each is retried
  std::uint64_t backing_read_errors = 0;  // reads that the backing failed
  std::uint64_t backing_silent_ms = 0;    // since when the backing owes answers and has given none; 0: it owes none
  std::uint64_t waiting_writes = 0;       // that wait for space or for their turn just now
  std::uint64_t longest_wait_ms = 0;      // of these, how long the first has waited
  std::uint64_t space_waits = 0;          // writes that had to wait for space
  std::uint64_t evicted_bytes = 0;
  std::uint64_t relocated_bytes = 0;  // appended again when their segment was freed, since they had been read
  std::uint64_t promoted_bytes = 0;   // from probation to the log, since they had been read again
  std::uint64_t ghost_hits = 0;  // 4 KiB blocks admitted to the log at once, since they had been dropped only lately
  std::uint64_t checksum_errors = 0;   // cached blocks that did not match their checksum
  std::uint64_t lost_bytes = 0;        // dirty data that is unreadable; reads of it give EIO
  std::vector<ByteRange> lost_ranges;  // where, in order; not all of it when there is much (64 blocks a stream)
  std::uint64_t bad_cells = 0;         // places on the cache device that took no data and were left out, since opening
  std::uint64_t bypassed_bytes = 0;    // written to the backing and not kept, because of the mode
  std::uint64_t bypassed_full_bytes = 0;  // the same because space was short (full_policy=bypass)
  std::uint64_t epoch = 0;                // the open epoch
  std::uint64_t clean_epoch = 0;          // the last one that the backing holds completely
  std::uint64_t throttled_ms = 0;         // that writes waited for space or for their turn, summed over all of them
  std::uint64_t oldest_dirty_ms = 0;  // age of the oldest dirty data, since it was written or the cache opened; 0: none
  std::uint64_t clean_in_ms = 0;      // until all dirty data is written back at full speed; 0: none, or not known
};

struct CacheDevStats {
  std::string path;
  std::string uuid;
  std::string label;
  std::uint64_t cache_dev_id = 0;  // counts from 0, as long as it is open; of a missing one it means nothing
  std::uint64_t size_bytes = 0;
  std::uint64_t segment_size_bytes = 0;
  std::uint64_t magic = 0;  // what a cache device begins with, as a number
  std::uint64_t media_version = 0;
  std::uint64_t segments = 0;
  std::uint64_t segments_used = 0;
  std::string granularity;         // "byte", "cache_line", "page"
  std::string ack;                 // "durable", "flush"
  std::uint64_t epoch_max_ms = 0;  // after which an open epoch closes by itself
  std::uint64_t stored_bytes = 0;  // written to the medium since opening
  std::uint64_t index_bytes = 0;   // memory of the index
  std::uint64_t damaged_records = 0;
  std::uint64_t repaired_copies = 0;    // of metadata, found damaged or torn at opening and stored again
  std::uint64_t unrepaired_copies = 0;  // that could not be stored again: one copy is left
  std::uint64_t segments_free = 0;
  std::uint64_t segments_clean = 0;     // in use, and free as soon as somebody needs them
  std::uint64_t segments_dirty = 0;     // in use, and to be written back or filled up first
  std::uint64_t segments_reserved = 0;  // kept from writes, for records that must not fail
  // "running"; "failed" (it is gone, and its logical devices are failed); "missing" (it is configured, and could not be
  // opened: only label and path are known)
  std::string state;
  std::string detail;  // why
};

// How long one kind of operation, or one phase of operations, took. Durations in nanoseconds.
struct LatencyStats {
  struct Bucket {
    std::uint64_t below_ns = 0;  // shorter than this, and not shorter than the bucket before
    std::uint64_t count = 0;
  };
  std::string name;
  std::uint64_t count = 0;
  std::uint64_t sum_ns = 0;
  std::uint64_t max_ns = 0;
  std::vector<Bucket> buckets;  // those that are not empty, by duration

  // What `part` (0 to 1) of all took at most, at most a quarter too high; 0 where there is nothing.
  std::uint64_t percentile_ns(double part) const;
};

// What a logical device did since it was brought up, or since the last reset.
struct LogicDevActivity {
  std::uint64_t since_ms = 0;  // how long that is
  LogicDevStats stats;         // counters from then on; all other fields as they are now
  std::vector<LatencyStats> latencies;
};

// What a number is called among the metrics; nullptr: it is none. Several numbers may be one metric, with a label to
// tell them apart.
struct MetricName {
  const char* name;  // without prefix, and without the _total of counters; ends with the unit
  const char* help;
  const char* label = nullptr;
  const char* value = "";
};

// The numbers of T by name, in the order of its fields: what status, stats and metrics print. In metrics milliseconds
// (a name that ends with _ms) become seconds.
template <typename T>
struct NumberField {
  const char* name;
  std::uint64_t T::*member;
  bool counter;  // only grows, from opening or the last reset on
  MetricName metric;
};
std::span<const NumberField<LogicDevStats>> logic_dev_numbers();
std::span<const NumberField<CacheDevStats>> cache_dev_numbers();

// Which segments of a cache device are used for what, in their order.
struct SegmentMap {
  std::string cache_dev;  // its label
  // One character a segment: '.' free, 'c' in use and clean (free as soon as somebody needs it), 'd' to be written back
  // or filled up first, 'x' damaged, or of a logical device that is not known.
  std::string states;
  std::vector<std::string> logic_devs;
  std::vector<std::int32_t> owners;  // of each segment, a place in logic_devs; -1: none
};

struct StatusReport {
  std::vector<CacheDevStats> cache_devs;
  std::vector<LogicDevStats> logic_devs;
};

}  // namespace pcache
