// The seam between the engine and a slow block device.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "pcache/completion.h"
#include "pcache/result.h"

namespace pcache {

// What tells one backing device from another. `id` is stable over reboots where the system offers such a thing (a
// filesystem UUID or device number + inode for a file, a WWN, serial or partition UUID for a block device).
struct BackingIdentity {
  std::string id;                // at most 128 bytes, printable
  std::uint64_t size_bytes = 0;  // a multiple of 512
  bool operator==(const BackingIdentity&) const = default;
};

// What is known of a backing device's content from some offset on.
struct BackingExtent {
  bool data = true;       // false: it reads as zeroes, and takes no space
  std::uint64_t end = 0;  // in bytes; the same is known up to here
};

// What a backing device owes: for whoever watches it, also while it is being closed. Thread-safe.
struct BackingPulse {
  // Nanoseconds of CLOCK_MONOTONIC: when it last answered something, or was asked for the first of what it owes. 0: it
  // owes nothing.
  std::atomic<std::uint64_t> silent_since_ns{0};
};

// A backing device. All operations are asynchronous and may be started from any thread; several may be in flight and
// finish in any order. Offsets and lengths are multiples of 512 bytes inside size_bytes(); buffers are aligned to 512
// bytes and stay valid until the completion is called. Completions come on a thread of the device, or before return.
// Operations fail with ESTALE once the device is known to have become shorter or, being a file, to have been deleted:
// what it was given by then may be gone.
class BackingDev {
 public:
  virtual ~BackingDev() = default;  // waits for operations in flight

  virtual std::uint64_t size_bytes() const = 0;
  virtual const std::string& path() const = 0;
  virtual const BackingIdentity& identity() const = 0;  // its size: as it was when it was opened

  // Looks how long the device is by now. Where it became longer, size_bytes() is the new size (in whole sectors) from
  // then on. May wait. Errors: failed (it became shorter, was deleted, or does not say).
  virtual Result<std::uint64_t> refresh_size() { return size_bytes(); }

  // Fills `buffer` completely from `offset`, or fails. Short transfers are continued inside.
  virtual void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) = 0;

  // Writes all of `parts` (each a multiple of 512 bytes, at most 256 parts) to `offset`. The array itself is copied
  // before return; the memory it points to is not. Not durable before a flush that starts after the completion.
  virtual void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) = 0;

  // Makes every write and write_zeroes completed before this call durable.
  virtual void flush(Completion done) = 0;

  // Makes the range read as zeroes, releasing its space where the device can. Not durable before a flush.
  virtual void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) = 0;

  // Shared with it; null where nobody counts.
  virtual std::shared_ptr<const BackingPulse> pulse() const { return nullptr; }

  // What is known from `offset`, below size_bytes(), on. What is not known to be a hole is data. May wait, though not
  // as long as a read.
  virtual BackingExtent extent_at(std::uint64_t) const { return {true, size_bytes()}; }
};

// Opens the block device or ordinary file at `path` with O_DIRECT for reading and writing, exclusively (a second opener
// gets busy; a block device that is mounted or held gets busy). Completions run on one thread of the device.
// Errors: not_found, permission (also a read-only device), busy, invalid (a directory, an empty file, a size that is
// not a multiple of 512 bytes), failed.
Result<std::unique_ptr<BackingDev>> open_backing_dev(const std::string& path);

// Identity of what is at `path` now, without opening it for I/O. Errors as open_backing_dev, never busy.
Result<BackingIdentity> probe_backing(const std::string& path);

}  // namespace pcache
