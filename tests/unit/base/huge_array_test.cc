#include "base/huge_array.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

#include "base/aligned_buffer.h"

namespace pcache {
namespace {

// Pages of this process that are in memory.
long resident_pages() {
  std::ifstream file("/proc/self/statm");
  long total = 0;
  long resident = 0;
  file >> total >> resident;
  return resident;
}

TEST(HugeArray, IsZeroAndKeepsValues) {
  HugeArray<std::uint64_t> array(100'000);
  ASSERT_EQ(array.size(), 100'000U);
  for (std::size_t i = 0; i < array.size(); ++i) ASSERT_EQ(array[i], 0U) << i;
  for (std::size_t i = 0; i < array.size(); ++i) array[i] = i * i;
  for (std::size_t i = 0; i < array.size(); ++i) ASSERT_EQ(array[i], i * i) << i;
}

TEST(HugeArray, TakesMemoryOnlyWhereTouched) {
  constexpr std::size_t kBytes = std::size_t{8} << 30;
  const long before = resident_pages();
  HugeArray<std::uint8_t> array(kBytes);
  array[0] = 1;
  array[kBytes - 1] = 2;
  EXPECT_EQ(array[kBytes / 2], 0);
  EXPECT_EQ(array[kBytes - 1], 2);
  const long grown = resident_pages() - before;
  EXPECT_LT(grown * sysconf(_SC_PAGESIZE), 256L << 20);
}

TEST(HugeArray, MayBeEmpty) {
  const HugeArray<int> array(0);
  EXPECT_EQ(array.size(), 0U);
}

TEST(AlignedBuffer, IsAligned) {
  for (const std::size_t alignment : {512U, 4096U, 65536U}) {
    AlignedBuffer buffer(12345, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0U);
    EXPECT_EQ(buffer.span().size(), 12345U);
    buffer.span().back() = std::byte{1};
  }
  EXPECT_EQ(AlignedBuffer(0).data(), nullptr);
}

}  // namespace
}  // namespace pcache
