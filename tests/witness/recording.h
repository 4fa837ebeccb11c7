// A recording: everything that reached a backing, in the order in which it was answered. Written by record_fuse, read
// by replay, both of one build: the integers are the machine's own.
#pragma once

#include <cstdint>

namespace witness {

constexpr std::uint64_t kMagic = 0x31474e4944524352;  // "RCRDING1"

struct RecordingHeader {
  std::uint64_t magic = kMagic;
  std::uint64_t size_bytes = 0;  // of the backing
};

enum class EntryKind : std::uint64_t {
  write = 1,  // followed by `length` bytes
  zero = 2,   // a hole was punched or a range zeroed
  flush = 3,  // everything before it is durable
};

struct Entry {
  EntryKind kind = EntryKind::flush;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

}  // namespace witness
