// A cache device and a backing device in memory that can be taken back to what they were, at the cost of the pages that
// were changed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "pcache/backing_dev.h"
#include "pcache/pmem_space.h"

namespace pcache {

// Bytes that remember the pages that were changed.
class UndoBytes {
 public:
  explicit UndoBytes(std::size_t size) : bytes_(size), changed_(div_ceil(size, kBlockSize)) {}

  std::size_t size() const { return bytes_.size(); }
  const std::byte* data() const { return bytes_.data(); }

  // Where to change `length` bytes at `offset`.
  std::byte* change(std::size_t offset, std::size_t length) {
    PCACHE_CHECK(offset <= size() && length <= size() - offset, "nothing is stored beyond the end");
    for (std::size_t page = offset / kBlockSize; page * kBlockSize < offset + length; ++page) {
      if (changed_[page]) continue;
      changed_[page] = true;
      const std::span<const std::byte> content = bytes_of(page);
      saved_pages_.push_back(page);
      saved_.insert(saved_.end(), content.begin(), content.end());
    }
    return bytes_.data() + offset;
  }

  // What is there now is what undo() leads back to.
  void keep() {
    for (const std::size_t page : saved_pages_) changed_[page] = false;
    saved_pages_.clear();
    saved_.clear();
  }
  void undo() {
    const std::byte* saved = saved_.data();
    for (const std::size_t page : saved_pages_) {
      const std::span<std::byte> content = bytes_of(page);
      std::copy_n(saved, content.size(), content.begin());
      saved += content.size();
    }
    keep();
  }

 private:
  // Those of a page; the last one may be shorter.
  std::span<std::byte> bytes_of(std::size_t page) {
    const std::size_t begin = page * kBlockSize;
    return std::span(bytes_).subspan(begin, std::min<std::size_t>(kBlockSize, size() - begin));
  }

  std::vector<std::byte> bytes_;
  std::vector<bool> changed_;
  std::vector<std::size_t> saved_pages_;
  std::vector<std::byte> saved_;  // one page after the other
};

// What reading and storing meets on a medium with errors.
struct MediumFaults {
  struct Range {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  static bool hit(const std::vector<Range>& ranges, std::size_t offset, std::size_t length) {
    for (const Range& range : ranges) {
      if (offset < range.end && range.begin < offset + length) return true;
    }
    return false;
  }
  std::vector<Range> reads;
  std::vector<Range> writes;
};

// One thread at a time. Both arguments outlive it.
class UndoSpace final : public PmemSpace {
 public:
  UndoSpace(UndoBytes& bytes, const MediumFaults& faults, Granularity granularity, std::size_t size)
      : bytes_(bytes), faults_(faults), granularity_(granularity), size_(std::min(size, bytes.size())) {}

  std::size_t size() const override { return size_; }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return bytes_.data(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override {
    check(offset, length);
    if (MediumFaults::hit(faults_.writes, offset, length)) return false;
    if (length != 0) std::memcpy(bytes_.change(offset, length), source, length);
    return true;
  }
  void drain() override {}
  Status persist(std::size_t offset, std::size_t length) override {
    check(offset, length);
    return MediumFaults::hit(faults_.writes, offset, length) ? Status(Errc::failed, "a medium error") : Status();
  }
  void prefault(std::size_t offset, std::size_t length) override { check(offset, length); }
  bool read(std::size_t offset, void* destination, std::size_t length) const override {
    check(offset, length);
    if (MediumFaults::hit(faults_.reads, offset, length)) return false;
    if (length != 0) std::memcpy(destination, bytes_.data() + offset, length);
    return true;
  }

 private:
  void check(std::size_t offset, std::size_t length) const {
    PCACHE_CHECK(offset <= size_ && length <= size_ - offset, "the cache device is used inside its bounds");
  }

  UndoBytes& bytes_;
  const MediumFaults& faults_;
  const Granularity granularity_;
  const std::size_t size_;
  const std::string path_ = "cache";
};

// Completes everything at once. `bytes` outlives it.
class UndoBacking final : public BackingDev {
 public:
  UndoBacking(UndoBytes& bytes, BackingIdentity identity) : bytes_(bytes), identity_(std::move(identity)) {}

  std::uint64_t size_bytes() const override { return bytes_.size(); }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    check(offset, buffer.size());
    std::memcpy(buffer.data(), bytes_.data() + offset, buffer.size());
    done(0);
  }
  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override {
    for (const iovec& part : parts) {
      check(offset, part.iov_len);
      std::memcpy(bytes_.change(offset, part.iov_len), part.iov_base, part.iov_len);
      offset += part.iov_len;
    }
    done(0);
  }
  void flush(Completion done) override { done(0); }
  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override {
    check(offset, length);
    std::memset(bytes_.change(offset, length), 0, length);
    done(0);
  }

 private:
  void check(std::uint64_t offset, std::uint64_t length) const {
    PCACHE_CHECK(offset % kSectorSize == 0 && length % kSectorSize == 0, "a backing is used in sectors");
    PCACHE_CHECK(length != 0 && offset <= bytes_.size() && length <= bytes_.size() - offset,
                 "a backing is used inside its bounds");
  }

  UndoBytes& bytes_;
  const BackingIdentity identity_;
  const std::string path_ = "/backing";
};

}  // namespace pcache
