// The seam between the engine and byte-addressable persistent memory: one mapping of one cache device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "pcache/result.h"

namespace pcache {

// The unit in which the medium makes stores durable, as libpmem2 reports it.
//   byte:       stores are durable once globally visible (eADR)
//   cache_line: stores are durable once their line is written back and fenced (ADR)
//   page:       stores are durable once msync returned; until then any page may or may not be
enum class Granularity { byte, cache_line, page };

const char* to_string(Granularity granularity);

// A mapped cache device. Every store to the medium goes through write(). Thread-safe: concurrent calls on disjoint
// ranges are allowed; overlapping concurrent writes are the caller's error. Offsets and lengths are in bytes and must
// lie inside size(). A medium error (poison, a truncated file) never kills the process: the call reports it.
class PmemSpace {
 public:
  virtual ~PmemSpace() = default;

  virtual std::size_t size() const = 0;
  virtual Granularity granularity() const = 0;
  // The path this space was opened from; for messages.
  virtual const std::string& path() const = 0;

  // First byte of the mapping. For reading only, and only where a medium error is handled (I/O by the kernel).
  virtual const std::byte* base() const = 0;

  // Copies `length` bytes to `offset`. Visible to other threads at once; durable after the next drain() of the same
  // thread (byte, cache_line) or after persist() of the range (page). 8-byte aligned words are never torn.
  // Returns false when the medium failed; the range is then undefined.
  virtual bool write(std::size_t offset, const void* source, std::size_t length) = 0;

  // Orders this thread's earlier write()s before its later ones and makes them durable. No-op on page media.
  virtual void drain() = 0;

  // Makes a range durable on any medium, whoever wrote it. On page media this is an msync of the pages touched.
  virtual Status persist(std::size_t offset, std::size_t length) = 0;

  // Maps the range's pages now, so that the first access to each does not have to. A hint that changes no content: what
  // cannot be mapped is left to that access. Does nothing on page media, where pages come and go. May take a
  // millisecond for some MiB.
  virtual void prefault(std::size_t offset, std::size_t length) = 0;

  // Whether the medium is still all there. Errors: failed (a file that became shorter).
  virtual Status health() const { return Status(); }

  // Both change the size while others use the medium, and base() stays; one call at a time.
  // After grow(from, to) there are `to` bytes at least, of a file all allocated from `from` on, durably; one that is
  // shorter is made longer. Errors: invalid (not whole pages, more than there may be while it is mapped, or than a
  // device has), no_space, failed; nothing changed then.
  // After shrink(size) nobody uses what lies behind `size`, and a file is truncated. Errors: failed (it could not be,
  // and is longer than size(), which is no harm).
  virtual Status grow(std::size_t, std::size_t) { return Status(Errc::invalid, path() + " cannot become larger"); }
  virtual Status shrink(std::size_t) { return Status(Errc::invalid, path() + " cannot become smaller"); }
  // What there is at path() by now, which may be more than size().
  virtual std::size_t available() const { return size(); }

  // Copies out of the medium. Returns false when the medium failed; the destination is then undefined.
  virtual bool read(std::size_t offset, void* destination, std::size_t length) const = 0;
};

// What a cache device is opened for. To inspect one takes no right to write it, and nothing may be written to it: the
// mapping does not allow it.
enum class PmemAccess { use, inspect };

// Maps the cache device at `path`: a device-DAX node, a file on fsdax, or an ordinary file, whatever libpmem2 makes of
// it. Takes an exclusive lock on it that lasts as long as the space (a second opener gets busy).
// Errors: not_found, permission, busy (locked by another process), invalid (not a file or DAX
// device), integrity (a file that is empty or has a part of a page, as none with a cache device has), failed.
Result<std::unique_ptr<PmemSpace>> open_pmem_space(const std::string& path, PmemAccess access = PmemAccess::use);

}  // namespace pcache
