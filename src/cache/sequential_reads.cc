#include "cache/sequential_reads.h"

#include <algorithm>

namespace pcache {

std::uint64_t SequentialReads::note(std::uint64_t first, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  auto run = std::find_if(runs_.begin(), runs_.end(), [&](const Run& r) {
    return r.last_use != 0 && first >= r.begin && first + kSlackBlocks >= r.end && first <= r.end + kSlackBlocks;
  });
  if (run == runs_.end()) {
    run = std::min_element(runs_.begin(), runs_.end(),
                           [](const Run& a, const Run& b) { return a.last_use < b.last_use; });
    *run = {first, first, 0};
  }
  run->end = std::max(run->end, first + count);
  run->last_use = ++uses_;
  return run->end - run->begin;
}

}  // namespace pcache
