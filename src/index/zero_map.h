// The ranges of a stream that were discarded and read as zeroes although the backing does not say so yet.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

namespace pcache {

// Disjoint ranges of blocks, each with the LSN of the zero record it comes from. Under the stream's lock.
class ZeroMap {
 public:
  bool empty() const { return ranges_.empty(); }
  std::uint64_t count() const { return ranges_.size(); }

  bool contains(std::uint64_t block) const;
  // The LSN of the record by which `block` reads as zeroes, or nothing.
  std::optional<std::uint64_t> lsn_of(std::uint64_t block) const;
  // Calls `visit` with begin and end of each range, in their order.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const auto& [begin, range] : ranges_) visit(begin, range.end);
  }

  // Takes the memory that the next add(), or the next cuts of neighbouring blocks, may need: they take none then.
  // Throws std::bad_alloc.
  void reserve();

  // Blocks [begin, end) read as zeroes from record `lsn` on; takes the place of what was there.
  void add(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn);

  // Blocks [begin, end) have data again.
  void cut(std::uint64_t begin, std::uint64_t end);

  // Forgets what is left of the ranges of all records older than `lsn`: the backing has them.
  void forget_before(std::uint64_t lsn);

 private:
  struct Range {
    std::uint64_t end;
    std::uint64_t lsn;
  };
  using Ranges = std::map<std::uint64_t, Range>;
  void insert(std::uint64_t begin, const Range& range);
  void recycle(Ranges::node_type node);

  Ranges ranges_;  // by first block
  std::array<Ranges::node_type, 2> spare_;
};

}  // namespace pcache
