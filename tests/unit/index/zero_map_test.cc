#include "index/zero_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace pcache {
namespace {

TEST(ZeroMapTest, AgreesWithAMapOfSingleBlocks) {
  const unsigned seed = 20;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  ZeroMap zeros;
  std::map<std::uint64_t, std::uint64_t> model;  // block -> LSN
  for (std::uint64_t lsn = 1; lsn < 3000; ++lsn) {
    const std::uint64_t begin = random() % 200;
    const std::uint64_t end = begin + 1 + random() % 40;
    const unsigned kind = random() % 10;
    if (kind < 5) {
      zeros.add(begin, end, lsn);
      for (std::uint64_t b = begin; b < end; ++b) model[b] = lsn;
    } else if (kind < 9) {
      zeros.cut(begin, end);
      for (std::uint64_t b = begin; b < end; ++b) model.erase(b);
    } else {
      const std::uint64_t before = lsn - random() % 30;
      zeros.forget_before(before);
      std::erase_if(model, [&](const auto& entry) { return entry.second < before; });
    }
    for (std::uint64_t b = 0; b < 250; ++b) {
      ASSERT_EQ(zeros.contains(b), model.count(b) != 0) << "block " << b << " at " << lsn;
      ASSERT_TRUE(model.count(b) == 0 || zeros.lsn_of(b) == model[b]) << "block " << b << " at " << lsn;
    }
    std::uint64_t covered = 0;
    zeros.for_each([&](std::uint64_t first, std::uint64_t last) { covered += last - first; });
    ASSERT_EQ(covered, model.size());
    ASSERT_EQ(zeros.empty(), model.empty());
  }
}

}  // namespace
}  // namespace pcache
