// Random operations, switches, changes, failures, restarts, kills and power cuts against a plain byte array; see
// engine_model.h. After every step the backing alone has to be the device's state as of some moment at which an epoch
// closed. A failure prints the seed; PCACHE_SEED runs that one alone, PCACHE_MODEL_STEPS sets the length of each run.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/units.h"
#include "tests/model/engine_model.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

class ModelTest : public testing::TestWithParam<RigShape> {};

TEST_P(ModelTest, BehavesLikeAByteArray) {
  const std::uint64_t steps = from_environment("PCACHE_MODEL_STEPS", 1200);
  std::vector<std::uint64_t> seeds = {1, 2, 3};
  if (std::getenv("PCACHE_SEED") != nullptr) seeds = {from_environment("PCACHE_SEED", 0)};
  for (const std::uint64_t seed : seeds) {
    SCOPED_TRACE("PCACHE_SEED=" + std::to_string(seed));
    EngineModel(GetParam(), seed).run(steps);
    if (HasFailure()) return;
  }
}

constexpr std::size_t kOddSize = 5 * kMiB + 7 * 512;

INSTANTIATE_TEST_SUITE_P(Shapes, ModelTest,
                         testing::Values(RigShape{8 * kMiB, 256 * kKiB, 3 * kMiB, Granularity::cache_line, {}},
                                         RigShape{
                                             4 * kMiB + 256 * kKiB, 256 * kKiB, kOddSize, Granularity::cache_line, {}},
                                         RigShape{12 * kMiB, 256 * kKiB, kOddSize, Granularity::byte, {}},
                                         RigShape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}},
                                         RigShape{5 * kMiB, 256 * kKiB, kOddSize, Granularity::page, {}},
                                         RigShape{12 * kMiB, 256 * kKiB, kOddSize, Granularity::page, {}},
                                         RigShape{5 * kMiB, 256 * kKiB, kOddSize, Granularity::page, Ack::durable}),
                         [](const auto& shape) { return shape.param.name(); });

}  // namespace
}  // namespace pcache
