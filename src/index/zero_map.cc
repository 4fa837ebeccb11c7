#include "index/zero_map.h"

#include <iterator>
#include <utility>

namespace pcache {

bool ZeroMap::contains(std::uint64_t block) const { return lsn_of(block).has_value(); }

std::optional<std::uint64_t> ZeroMap::lsn_of(std::uint64_t block) const {
  auto it = ranges_.upper_bound(block);
  if (it == ranges_.begin() || block >= std::prev(it)->second.end) return std::nullopt;
  return std::prev(it)->second.lsn;
}

// A cut in the middle of a range makes two of it, and add() puts one more there.
void ZeroMap::reserve() {
  for (auto& node : spare_) {
    if (!node.empty()) continue;
    Ranges one;
    one.emplace(0, Range{});
    node = one.extract(one.begin());
  }
}

void ZeroMap::insert(std::uint64_t begin, const Range& range) {
  for (auto& node : spare_) {
    if (node.empty()) continue;
    node.key() = begin;
    node.mapped() = range;
    ranges_.insert(std::move(node));
    return;
  }
  ranges_.emplace(begin, range);
}

void ZeroMap::recycle(Ranges::node_type node) {
  for (auto& place : spare_) {
    if (place.empty()) return void(place = std::move(node));
  }
}

void ZeroMap::add(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn) {
  cut(begin, end);
  insert(begin, {end, lsn});
}

void ZeroMap::cut(std::uint64_t begin, std::uint64_t end) {
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < end) {
    const std::uint64_t first = it->first;
    const Range range = it->second;
    const auto next = std::next(it);
    if (range.end > begin) {
      if (first < begin) {
        it->second.end = begin;
      } else {
        recycle(ranges_.extract(it));
      }
      if (range.end > end) insert(end, range);
    }
    it = next;
  }
}

void ZeroMap::forget_before(std::uint64_t lsn) {
  std::erase_if(ranges_, [lsn](const auto& entry) { return entry.second.lsn < lsn; });
}

}  // namespace pcache
