#include "tests/support/traces.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pcache {
namespace {

constexpr double kSkew = 0.99;

// SplitMix64 (S. Vigna): the standard library's distributions differ from one to another.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

std::size_t warm_up_of(std::size_t length) { return length / 3; }

}  // namespace

Trace zipf_trace(std::uint32_t blocks, std::size_t length, std::uint32_t write_percent) {
  std::vector<double> sums(blocks);
  double sum = 0;
  for (std::uint32_t rank = 0; rank < blocks; ++rank) sums[rank] = sum += std::pow(rank + 1.0, -kSkew);
  Random random(1);
  std::vector<std::uint32_t> places(blocks);
  std::iota(places.begin(), places.end(), 0U);
  for (std::uint32_t i = blocks - 1; i > 0; --i) std::swap(places[i], places[random.below(i + std::uint64_t{1})]);

  Trace trace{"zipf", blocks, warm_up_of(length), {}};
  if (write_percent != 0) trace.name += "_writes_" + std::to_string(write_percent);
  trace.accesses.reserve(length);
  for (std::size_t i = 0; i < length; ++i) {
    const auto found = std::upper_bound(sums.begin(), sums.end(), random.unit() * sum);
    const auto rank = std::min<std::size_t>(static_cast<std::size_t>(found - sums.begin()), blocks - 1);
    trace.accesses.push_back({places[rank], random.below(100) < write_percent, false});
  }
  return trace;
}

Trace scanned_trace(const Trace& trace) {
  Trace scanned{trace.name + "_scanned", trace.blocks, 0, {}};
  const std::size_t run = trace.blocks;
  scanned.accesses.reserve(trace.accesses.size() * 3 / 2);
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < trace.accesses.size(); ++i) {
    if (i == trace.warm_up) scanned.warm_up = scanned.accesses.size();
    scanned.accesses.push_back(trace.accesses[i]);
    if ((i + 1) % run != 0) continue;
    for (std::size_t read = 0; read < run / 2; ++read) {
      scanned.accesses.push_back({next, false, true});
      next = (next + 1) % trace.blocks;
    }
  }
  return scanned;
}

Trace loop_trace(std::uint32_t blocks, std::uint32_t loop, std::size_t length) {
  Trace trace{"loop", blocks, warm_up_of(length), {}};
  trace.accesses.reserve(length);
  for (std::size_t i = 0; i < length; ++i)
    trace.accesses.push_back({static_cast<std::uint32_t>(i % loop), false, false});
  return trace;
}

}  // namespace pcache
