// What the cache remembers of what it dropped.

#include "cache/ghost_list.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

TEST(GhostListTest, ABlockIsRememberedOnceAndForItsDeviceOnly) {
  GhostList ghosts(1000);
  EXPECT_EQ(ghosts.bytes(), 0U);
  EXPECT_FALSE(ghosts.take(1, 7));
  ghosts.add(1, 7);
  EXPECT_FALSE(ghosts.take(2, 7));
  EXPECT_TRUE(ghosts.take(1, 7));
  EXPECT_FALSE(ghosts.take(1, 7));
}

TEST(GhostListTest, RemembersAboutAsManyBlocksAsItWasMadeForTheYoungestOnes) {
  constexpr std::uint64_t kSize = 100'000;
  GhostList ghosts(kSize);
  for (std::uint64_t block = 0; block < 3 * kSize; ++block) ghosts.add(1, block);
  const auto remembered = [&](std::uint64_t begin, std::uint64_t end) {
    std::uint64_t count = 0;
    for (std::uint64_t block = begin; block < end; ++block) count += ghosts.take(1, block) ? 1 : 0;
    return static_cast<double>(count) / static_cast<double>(end - begin);
  };
  EXPECT_LT(remembered(0, kSize), 0.01) << "twice its size has come after these";
  EXPECT_GT(remembered(3 * kSize - kSize / 2, 3 * kSize), 0.95);
  EXPECT_LT(remembered(10 * kSize, 11 * kSize), 0.01) << "these were never there";
}

TEST(GhostListTest, TakesTwoBytesABlockFromTheFirstOneOn) {
  GhostList ghosts(160'000);
  ghosts.add(1, 0);
  EXPECT_EQ(ghosts.bytes(), 320'000U);
}

TEST(GhostListTest, WorksHoweverSmall) {
  for (const std::size_t size : {0, 1, 17}) {
    GhostList ghosts(size);
    ghosts.add(3, 5);
    EXPECT_TRUE(ghosts.take(3, 5)) << size;
  }
}

}  // namespace
}  // namespace pcache
