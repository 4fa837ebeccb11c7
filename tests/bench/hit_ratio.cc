// Hit ratios of the engine against strict FIFO and exact LRU, on generated traces.
// usage: hit_ratio [MILLIONS_OF_ACCESSES [PERCENT...]]   6 million; caches of 1, 5 and 20 % of a device of 4 GiB
// One line a trace, cache size and policy; a pass takes about a minute and, at 20 %, 1 GiB of memory. What the policies
// get as their capacity is all of the cache device, without anything for segments, records and free reserve.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/units.h"
#include "tests/support/hit_ratio.h"

namespace pcache {
namespace {

constexpr std::uint32_t kBlocks = 1 << 20;

struct Row {
  Hits fifo, lru, engine;
};

Row run(const Trace& trace, double percent) {
  const auto capacity = static_cast<std::uint32_t>(kBlocks * percent / 100);
  Row row{run_fifo(trace, capacity), run_lru(trace, capacity), run_engine(trace, capacity * kBlockSize)};
  const auto print = [&](const char* policy, const Hits& hits) {
    std::printf("%-16s %4g %% %-7s hit_ratio %.4f stored_per_access %.3f\n", trace.name.c_str(), percent, policy,
                hits.ratio(), static_cast<double>(hits.stored) / static_cast<double>(trace.accesses.size()));
  };
  print("fifo", row.fifo);
  print("lru", row.lru);
  print("engine", row.engine);
  std::fflush(stdout);
  return row;
}

int main_of(int argc, char** argv) {
  const std::size_t length = argc > 1 ? std::strtoull(argv[1], nullptr, 10) * 1'000'000 : 6'000'000;
  std::vector<double> percents;
  for (int i = 2; i < argc; ++i) percents.push_back(std::strtod(argv[i], nullptr));
  if (percents.empty()) percents = {1, 5, 20};
  if (length == 0) return 2;

  const Trace zipf = zipf_trace(kBlocks, length);
  const Trace scanned = scanned_trace(zipf);
  const Trace loop = loop_trace(kBlocks, kBlocks / 10, length / 2);
  const Trace mixed = zipf_trace(kBlocks, length, 30);
  for (const double percent : percents) {
    const Row alone = run(zipf, percent);
    const Row beside = run(scanned, percent);
    const auto added = [](const Hits& with, const Hits& without) {
      return static_cast<double>(with.misses()) - static_cast<double>(without.misses());
    };
    std::printf("%-16s %4g %% engine  misses_added_by_scan_to_those_of_fifo %.2f (lru %.2f)\n", scanned.name.c_str(),
                percent, added(beside.engine, alone.engine) / added(beside.fifo, alone.fifo),
                added(beside.lru, alone.lru) / added(beside.fifo, alone.fifo));
    run(loop, percent);
    run(mixed, percent);
  }
  return 0;
}

}  // namespace
}  // namespace pcache

int main(int argc, char** argv) { return pcache::main_of(argc, argv); }
