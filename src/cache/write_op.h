// A write or discard in progress.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/aligned_buffer.h"
#include "cache/shared_flush.h"
#include "cache/stream.h"
#include "pcache/completion.h"

namespace pcache {

class CachedDevice;

// Lives on its caller's stack as long as nothing has to be waited for, and on the heap from then on.
struct WriteOp {
  const std::byte* data = nullptr;  // what `offset` gets; null: zeroes
  std::uint64_t offset = 0;         // the next byte to write
  std::uint64_t end = 0;
  bool discard = false;  // whole blocks become zero records
  Completion done;
  bool counted = false;                // in the statistics
  std::uint64_t waiting_since_ns = 0;  // for space; 0: it does not
  bool waited = false;                 // its turn came in the queue for space
  bool waited_at_gate = false;         // the same for the blocks that it is for
  std::uint32_t skipped = 0;           // slots whose cells took nothing, since it got on last
  std::uint64_t waits_since_ms = 0;    // when it first had to wait for space or for its turn; 0: it never had to

  // A part of a block whose rest had to be read from the backing.
  struct Part {
    BlockWatch watch;
    bool have_base = false;
    AlignedBuffer base{4096};
  };
  std::unique_ptr<Part> part;

  // What goes to the backing directly (direct_path.cc, full_bypass.cc).
  struct Direct {
    CachedDevice* device = nullptr;
    std::uint64_t first_block = 0;  // all that it touches
    std::uint64_t end_block = 0;
    std::uint32_t next_stream = 0;     // those before have nothing of it any more
    std::uint64_t length = 0;          // of the piece that is under way
    std::uint64_t began_ns = 0;        // when the backing was given that
    AlignedBuffer bounce{0};           // a sector with a part of it changed, or data that is not aligned
    bool entered = false;              // the gate
    bool around = false;               // a log that other writes go to, since that is full (go_around())
    SharedFlush::Waiter flush;         // where the backing has to have it durably
    std::uint64_t failed_flushes = 0;  // of the backing, before it was written to
  };
  std::unique_ptr<Direct> direct;
};

}  // namespace pcache
