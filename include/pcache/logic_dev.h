// A logical device: a backing device accelerated by a cache device; what users see as one file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "pcache/completion.h"
#include "pcache/settings.h"
#include "pcache/stats.h"

namespace pcache {

// Behaves like a block device of size_bytes() bytes. Every operation may be started from any thread, takes any byte
// offset and length inside the device (the caller checks bounds; outside gives EINVAL), and calls its completion
// exactly once. Buffers stay valid until then. Overlapping operations that are in flight together take effect in some
// order; an operation started after another's completion sees its effect.
class LogicDev {
 public:
  virtual ~LogicDev() = default;

  virtual const std::string& name() const = 0;
  virtual std::uint64_t size_bytes() const = 0;
  // Fixed for the life of the logical device, over restarts; never 0 or 1.
  virtual std::uint64_t inode() const = 0;

  // Whose the file is that users see, and what it lets them do. Changes with the settings.
  struct FileAccess {
    std::uint64_t uid = kDaemonsId;
    std::uint64_t gid = kDaemonsId;
    std::uint32_t permissions = 0600;
  };
  virtual FileAccess file_access() const { return {}; }

  // Reads or writes at these byte offsets (any values; at most a few of them) come next, from the calling thread: what
  // they need may be loaded already. A hint that changes nothing.
  enum class Access { read, write };
  virtual void expect(Access access, std::span<const std::uint64_t> offsets) const = 0;

  // Whether even a read or write that finds everything in the cache may wait for a slow medium.
  virtual bool waits_for_medium() const = 0;

  // Served on the calling thread when all of it is cached; otherwise from the backing, the completion coming from its
  // thread. Errors: EIO (the backing failed, or dirty data is damaged).
  virtual void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) = 0;

  // On completion the write has reached what Ack promises. May wait for space. Errors: EIO; ENOSPC (the cache is full,
  // and the settings full_policy and full_max_wait say that it is not to wait, or waited long enough).
  virtual void write(std::uint64_t offset, std::span<const std::byte> data, Completion done) = 0;

  // On completion every write completed before this call survives power loss. Closes the epoch.
  virtual void flush(Completion done) = 0;

  // The range reads as zeroes from completion on, with a write's durability; the backing's space is released later.
  virtual void discard(std::uint64_t offset, std::uint64_t length, Completion done) = 0;

  // Moves `offset` to the next byte at or after it that is (or may be) data, or to the next one of a hole, which reads
  // as zeroes; the end of the device counts as a hole. What is written or discarded meanwhile may be seen as before or
  // after. May wait for the backing. Returns 0, ENXIO (there is none, or `offset` is not inside the device), or EIO.
  enum class Seek { data, hole };
  virtual int seek(Seek what, std::uint64_t& offset) = 0;

  // Writes everything back that was acknowledged before the call: on return 0 the backing alone holds it, durably.
  // Blocks the calling thread. `timeout_ms` 0: no limit. Returns 0, EIO (the backing failed, or
  // dirty data is lost), or ETIMEDOUT.
  virtual int drain(std::uint64_t timeout_ms) = 0;

  virtual LogicDevStats stats() const = 0;
};

}  // namespace pcache
