#include "index/zero_map.h"

#include <iterator>

namespace pcache {

bool ZeroMap::contains(std::uint64_t block) const {
  auto it = ranges_.upper_bound(block);
  return it != ranges_.begin() && block < std::prev(it)->second.end;
}

void ZeroMap::add(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn) {
  cut(begin, end);
  ranges_[begin] = {end, lsn};
}

void ZeroMap::cut(std::uint64_t begin, std::uint64_t end) {
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < end) {
    const std::uint64_t first = it->first;
    const Range range = it->second;
    if (range.end <= begin) {
      ++it;
      continue;
    }
    it = ranges_.erase(it);
    if (first < begin) ranges_[first] = {begin, range.lsn};
    if (range.end > end) it = ranges_.insert_or_assign(end, Range{range.end, range.lsn}).first;
  }
}

void ZeroMap::forget_before(std::uint64_t lsn) {
  std::erase_if(ranges_, [lsn](const auto& entry) { return entry.second.lsn < lsn; });
}

}  // namespace pcache
