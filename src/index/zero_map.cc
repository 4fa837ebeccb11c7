#include "index/zero_map.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace pcache {

bool ZeroMap::contains(std::uint64_t block) const { return lsn_of(block).has_value(); }

std::optional<std::uint64_t> ZeroMap::lsn_of(std::uint64_t block) const {
  auto it = ranges_.upper_bound(block);
  if (it == ranges_.begin() || block >= std::prev(it)->second.end) return std::nullopt;
  return std::prev(it)->second.lsn;
}

std::uint64_t ZeroMap::end_of(std::uint64_t block) const {
  auto it = ranges_.upper_bound(block);
  return it == ranges_.begin() ? block : std::max(block, std::prev(it)->second.end);
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

// `before`: the newest of those that are not newer; null: there is none.
void ZeroMap::insert(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn, Entry* before) {
  Ranges::iterator it;
  const auto spare = std::find_if(spare_.begin(), spare_.end(), [](const auto& node) { return !node.empty(); });
  if (spare != spare_.end()) {
    spare->key() = begin;
    it = ranges_.insert(std::move(*spare)).position;
  } else {
    it = ranges_.emplace(begin, Range{}).first;
  }
  Entry* const entry = &*it;
  Entry* const after = before != nullptr ? before->second.newer : oldest_;
  entry->second = {end, lsn, before, after};
  (before != nullptr ? before->second.newer : oldest_) = entry;
  (after != nullptr ? after->second.older : newest_) = entry;
}

void ZeroMap::take_out(Ranges::iterator it) {
  const Range& range = it->second;
  (range.older != nullptr ? range.older->second.newer : oldest_) = range.newer;
  (range.newer != nullptr ? range.newer->second.older : newest_) = range.older;
  const auto place = std::find_if(spare_.begin(), spare_.end(), [](const auto& node) { return node.empty(); });
  if (place != spare_.end()) {
    *place = ranges_.extract(it);
  } else {
    ranges_.erase(it);
  }
}

void ZeroMap::add(std::uint64_t begin, std::uint64_t end, std::uint64_t lsn) {
  cut(begin, end);
  Entry* before = newest_;  // LSNs grow: it is this one
  while (before != nullptr && before->second.lsn > lsn) before = before->second.older;
  insert(begin, end, lsn, before);
}

void ZeroMap::cut(std::uint64_t begin, std::uint64_t end) {
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < end) {
    const std::uint64_t first = it->first;
    const Range range = it->second;
    Entry* const before = first < begin ? &*it : range.older;
    const auto next = std::next(it);
    if (range.end > begin) {
      if (first < begin) {
        it->second.end = begin;
      } else {
        take_out(it);
      }
      if (range.end > end) insert(end, range.end, range.lsn, before);
    }
    it = next;
  }
}

void ZeroMap::forget_before(std::uint64_t lsn) {
  while (oldest_ != nullptr && oldest_->second.lsn < lsn) take_out(ranges_.find(oldest_->first));
}

}  // namespace pcache
