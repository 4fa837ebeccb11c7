// The ranges of a stream that were discarded and read as zeroes although the backing does not say so yet.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace pcache {

// Disjoint ranges of blocks, each with the LSN of the zero record it comes from. Under the stream's lock.
class ZeroMap {
 public:
  ZeroMap() = default;
  ZeroMap(const ZeroMap&) = delete;
  ZeroMap& operator=(const ZeroMap&) = delete;

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

  // Of the range that `block` reads as zeroes by, the end; `block` itself when it is in none.
  std::uint64_t end_of(std::uint64_t block) const;
  // The first block of [begin, end) that reads as zeroes and is `wanted`, looking at no more than one in each `step`
  // blocks from a multiple of `step` on; `end` if there is none.
  template <typename Wanted>
  std::uint64_t first_in(std::uint64_t begin, std::uint64_t end, std::uint64_t step, const Wanted& wanted) const {
    auto it = ranges_.upper_bound(begin);
    if (it != ranges_.begin()) --it;
    for (; it != ranges_.end() && it->first < end; ++it) {
      std::uint64_t block = std::max(begin, it->first);
      for (; block < std::min(end, it->second.end); block = (block / step + 1) * step) {
        if (wanted(block)) return block;
      }
    }
    return end;
  }

  // Takes the memory that the next add(), or the next cuts of neighbouring blocks, may need: they take none then.
  // Throws std::bad_alloc.
  void reserve();

  // Blocks [begin, end) read as zeroes from record `lsn` on; takes the place of what was there.
  void add(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn);

  // Blocks [begin, end) have data again.
  void cut(std::uint64_t begin, std::uint64_t end);

  // Forgets what is left of the ranges of all records older than `lsn`: the backing has them. Takes time for these
  // only.
  void forget_before(std::uint64_t lsn);

 private:
  struct Range;
  using Ranges = std::map<std::uint64_t, Range>;
  using Entry = std::pair<const std::uint64_t, Range>;
  struct Range {
    std::uint64_t end = 0;
    std::uint64_t lsn = 0;
    // In the order of LSNs.
    Entry* older = nullptr;
    Entry* newer = nullptr;
  };
  void insert(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn, Entry* before);
  void take_out(Ranges::iterator it);

  Ranges ranges_;  // by first block
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  std::array<Ranges::node_type, 2> spare_;
};

}  // namespace pcache
