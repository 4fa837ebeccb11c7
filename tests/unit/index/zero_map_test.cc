#include "index/zero_map.h"

#include <gtest/gtest.h>

#include <algorithm>
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
    for (const std::uint64_t step : {1, 7, 64}) {
      const std::uint64_t from = random() % 250;
      const auto wanted = [&](std::uint64_t block) { return block / step % 3 != 1; };
      std::uint64_t first = from;
      while (first < 250 && (model.count(first) == 0 || !wanted(first))) ++first;
      ASSERT_EQ(zeros.first_in(from, 250, step, wanted), first) << "from " << from << " by " << step << " at " << lsn;
      const std::uint64_t stop = zeros.end_of(from);
      ASSERT_EQ(stop > from, model.count(from) != 0) << "from " << from << " at " << lsn;
      for (std::uint64_t b = from; b < stop; ++b) ASSERT_EQ(model.at(b), model.at(from)) << b << " at " << lsn;
    }
    ASSERT_EQ(covered, model.size());
    ASSERT_EQ(zeros.empty(), model.empty());
  }
}

TEST(ZeroMapTest, ForgetsByAgeInWhateverOrderTheRangesCame) {
  ZeroMap zeros;
  for (const std::uint64_t lsn : {5, 1, 9, 3, 7, 3}) zeros.add(lsn * 10, lsn * 10 + 10, lsn);
  zeros.cut(34, 36);
  zeros.cut(50, 52);
  zeros.forget_before(5);
  EXPECT_EQ(zeros.count(), 3U);
  for (const std::uint64_t block : {10, 30, 39, 50}) EXPECT_FALSE(zeros.contains(block)) << block;
  for (const std::uint64_t block : {52, 59, 70, 90}) EXPECT_TRUE(zeros.contains(block)) << block;
  zeros.forget_before(100);
  EXPECT_TRUE(zeros.empty());
}

}  // namespace
}  // namespace pcache
