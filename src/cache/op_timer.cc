#include "cache/op_timer.h"

#include <bit>
#include <utility>

namespace pcache {
namespace {

constexpr std::uint32_t kOneIn = 16;
constexpr const char* kOpNames[OpTimer::kOps] = {"read", "write", "flush", "discard"};
constexpr const char* kPhaseNames[OpTimer::kPhases] = {"index",        "pmem",          "space",
                                                       "backing_read", "backing_write", "backing_flush"};

LatencyStats stats_of(const char* name, const LatencyHistogram& histogram) {
  LatencyStats stats;
  stats.name = name;
  stats.sum_ns = histogram.sum();
  stats.max_ns = histogram.max();
  for (std::size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    const std::uint64_t count = histogram.count(bucket);
    if (count == 0) continue;
    stats.count += count;
    stats.buckets.push_back({LatencyHistogram::upper_bound(bucket), count});
  }
  return stats;
}

}  // namespace

constinit thread_local OpTimer::Current OpTimer::current_;
constinit thread_local std::uint32_t OpTimer::tick_ = 0;

OpTimer::Begun::Begun(OpTimer& timer, Op op, Completion& done) {
  if (++tick_ % kOneIn != 0 || current_.watched != nullptr) [[likely]]
    return;
  Watched* const watched = timer.take();
  if (watched == nullptr) return;
  measured_ = true;
  const std::uint64_t began = now();
  *watched = {&timer, op, began, done};
  done = {finished, watched};
  current_ = {watched, began, {}};
}

OpTimer::Watched* OpTimer::take() {
  std::uint64_t free = free_.load(std::memory_order_relaxed);
  while (free != 0) {
    const int place = std::countr_zero(free);
    if (free_.compare_exchange_weak(free, free & (free - 1), std::memory_order_acquire)) {
      return &watched_[static_cast<std::size_t>(place)];
    }
  }
  return nullptr;
}

void OpTimer::finished(void* context, int error) {
  const Watched watched = *static_cast<Watched*>(context);
  OpTimer& timer = *watched.timer;
  timer.ops_[static_cast<std::size_t>(watched.op)].add(now() - watched.began);
  if (current_.watched == context) {
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      if (current_.spent[phase] != 0) timer.phases_[phase].add(current_.spent[phase]);
    }
    current_.watched = nullptr;
  }
  const auto place = static_cast<std::size_t>(static_cast<Watched*>(context) - timer.watched_.data());
  timer.free_.fetch_or(std::uint64_t{1} << place, std::memory_order_release);
  watched.done(error);
}

void OpTimer::note(Phase phase) {
  const std::uint64_t time = now();
  current_.spent[static_cast<std::size_t>(phase)] += time - std::exchange(current_.last, time);
}

std::vector<LatencyStats> OpTimer::list() const {
  std::vector<LatencyStats> all;
  all.reserve(kOps + kPhases);
  for (std::size_t i = 0; i < kOps; ++i) all.push_back(stats_of(kOpNames[i], ops_[i]));
  for (std::size_t i = 0; i < kPhases; ++i) all.push_back(stats_of(kPhaseNames[i], phases_[i]));
  return all;
}

void OpTimer::reset() {
  for (LatencyHistogram& histogram : ops_) histogram.reset();
  for (LatencyHistogram& histogram : phases_) histogram.reset();
}

}  // namespace pcache
