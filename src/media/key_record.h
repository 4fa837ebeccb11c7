// The key record: one entry of a key-log stream, saying what the cell of the same slot holds.
#pragma once

#include <cstdint>

#include "base/crc32c.h"
#include "media/layout.h"

namespace pcache {

enum class RecordType : std::uint8_t {
  none = 0,
  write = 1,   // the cell holds `block`, written by a user in `epoch`
  clean = 2,   // the cell holds `block` as the backing does (read-filled, or relocated)
  zero = 3,    // blocks [block, block + count) of this stream's windows read as zeroes since `epoch`
  lost = 4,    // `block` was dirty and its data is unreadable; reads fail until it is written again
  filler = 5,  // nothing: a slot that a crash left empty
  gone = 6,    // of this stream's blocks in [block, block + count) only the backing knows what they hold
};

struct KeyRecord {
  std::uint32_t crc;  // CRC-32C of the 60 bytes after it; its complement: the record is void, a filler
  std::uint32_t cache_tag;
  std::uint64_t lsn;         // position in the stream: the segment's first LSN + slot
  std::uint64_t generation;  // of the segment
  std::uint64_t block;       // 4 KiB units of the logical device
  std::uint64_t epoch;
  std::uint64_t count;  // blocks; 1 unless type is zero or gone
  std::uint32_t device_id;
  std::uint32_t payload_crc;  // CRC-32C of the cell
  std::uint16_t batch_pos;    // slots since the first record that was made durable together with this one
  RecordType type;
  std::uint8_t stream;
  std::uint32_t reserved;
};
static_assert(sizeof(KeyRecord) == kRecordSize);

inline std::uint32_t record_crc(const KeyRecord& record) {
  return crc32c(reinterpret_cast<const std::byte*>(&record) + sizeof record.crc, sizeof record - sizeof record.crc);
}

// What it says never was.
inline bool is_void(const KeyRecord& record) { return record.crc == ~record_crc(record); }
inline bool is_intact(const KeyRecord& record) { return record.crc == record_crc(record) || is_void(record); }

}  // namespace pcache
