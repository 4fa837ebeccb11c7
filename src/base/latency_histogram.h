// How long things took: counts by duration, without locks.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace pcache {

// Durations in nanoseconds. Four buckets for each power of two, so that a bound is at most a quarter above what it
// stands for. Thread-safe; a copy taken while others add is one that existed for some of its buckets.
class LatencyHistogram {
 public:
  // The last bucket has everything from 2^36 ns (69 s) on.
  static constexpr std::size_t kBuckets = 4 * 37;

  void add(std::uint64_t nanoseconds) {
    counts_[bucket_of(nanoseconds)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(nanoseconds, std::memory_order_relaxed);
    std::uint64_t most = max_.load(std::memory_order_relaxed);
    while (nanoseconds > most && !max_.compare_exchange_weak(most, nanoseconds, std::memory_order_relaxed)) {
    }
  }
  void reset() {
    for (auto& count : counts_) count.store(0, std::memory_order_relaxed);
    sum_.store(0, std::memory_order_relaxed);
    max_.store(0, std::memory_order_relaxed);
  }

  std::uint64_t count(std::size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  std::uint64_t sum() const { return sum_.load(std::memory_order_relaxed); }
  std::uint64_t max() const { return max_.load(std::memory_order_relaxed); }

  static std::size_t bucket_of(std::uint64_t nanoseconds) {
    if (nanoseconds < 4) return static_cast<std::size_t>(nanoseconds);
    const auto power = static_cast<std::size_t>(std::bit_width(nanoseconds)) - 1;  // at least 2
    const std::size_t bucket = 4 * (power - 1) + (nanoseconds >> (power - 2) & 3);
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }
  // The least duration that does not belong into the bucket any more.
  static std::uint64_t upper_bound(std::size_t bucket) {
    if (bucket < 4) return bucket + 1;
    const std::size_t power = bucket / 4 + 1;
    return (std::uint64_t{1} << power) + (std::uint64_t{bucket % 4 + 1} << (power - 2));
  }

 private:
  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_{0};
  std::atomic<std::uint64_t> max_{0};
};

}  // namespace pcache
