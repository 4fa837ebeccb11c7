// Reclaim: which segment becomes free, of which logical device.

#include <algorithm>
#include <mutex>
#include <optional>

#include "cache/cache.h"

namespace pcache {
namespace {

// As in S3-FIFO (J. Yang and others, SOSP 2023): most of what is read once is not read again, and a tenth of the cache
// is enough to find out.
constexpr std::uint32_t kProbationShare = 10;

}  // namespace

// A device that has all it may have takes from itself; what others need comes from those that have more than they keep
// to themselves.
bool Cache::reclaim_step() {
  const std::lock_guard step(reclaim_mutex_);
  const bool woke = wake_writers();
  const auto all = devices();
  bool freed = false;
  bool is_short = false;
  for (const auto& device : all) {
    if (device->above_gc_high()) freed |= reclaim_from({device}, device->share().max);
    if (!device->at_share_max()) continue;
    is_short = true;
    freed |= reclaim_from({device}, device->share().max);
    device->kick();  // more may become clean
  }
  if (short_of_space()) {
    is_short = true;
    freed |= reclaim_for_all(all);
    for (const auto& device : all) device->kick();
  }
  freed |= shrink_step();
  if (freed) {
    progressed(now_ms());
    wake_writers();
  } else if (is_short) {
    fail_hopeless_writers();
  }
  return freed || woke;
}

// Where nobody has more than it keeps to itself, those whose writes wait give up some of their own, and at last
// anybody: a write must not wait for ever.
bool Cache::reclaim_for_all(const std::vector<std::shared_ptr<CachedDevice>>& devices) {
  std::vector<std::shared_ptr<CachedDevice>> above = devices;
  std::erase_if(above, [](const auto& device) { return device->segments_used() <= device->share().min; });
  if (reclaim_from(above, pool_.total())) return true;
  if (waiting_.empty()) return false;
  std::vector<std::shared_ptr<CachedDevice>> waiting = devices;
  std::erase_if(waiting, [this](const auto& device) {
    return waiting_.count([&](const WaitingWrites::Entry& w) { return w.device == device.get(); }) == 0;
  });
  return reclaim_from(waiting, pool_.total()) || reclaim_from(devices, pool_.total());
}

// Frees one segment of `devices`, which may have so many: the oldest, but one on probation first while there are many
// of them.
bool Cache::reclaim_from(const std::vector<std::shared_ptr<CachedDevice>>& devices, std::uint32_t segments) {
  struct Candidate {
    bool first = false;
    std::uint64_t age = 0;
    CachedDevice* device = nullptr;
    std::optional<std::uint32_t> stream;  // none: on probation
  };
  std::vector<Candidate> candidates;
  std::uint32_t on_probation = 0;
  for (const auto& device : devices) on_probation += device->probation().segments();
  const bool many = on_probation > std::max(1U, segments / kProbationShare);
  for (const auto& device : devices) {
    for (const CachedDevice::Victim& victim : device->victims()) {
      if (victim.clean) candidates.push_back({false, victim.age, device.get(), victim.stream});
    }
    if (const auto oldest = device->probation().oldest()) {
      candidates.push_back({many && oldest->full, oldest->age, device.get(), std::nullopt});
    }
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.first != b.first ? a.first : a.age < b.age; });
  return std::any_of(candidates.begin(), candidates.end(), [](const Candidate& candidate) {
    CachedDevice& device = *candidate.device;
    return candidate.stream ? device.reclaim_front(*candidate.stream) : device.reclaim_probation();
  });
}

}  // namespace pcache
