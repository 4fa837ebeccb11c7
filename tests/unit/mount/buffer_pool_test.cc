#include "mount/buffer_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace pcache {
namespace {

constexpr std::size_t kBytes = 64 << 10;

TEST(BufferPoolTest, BuffersHaveTheirSizeAndArePageAligned) {
  BufferPool pool(kBytes, 2);
  std::vector<std::unique_ptr<AlignedBuffer>> taken;
  for (int i = 0; i < 5; ++i) {  // made beforehand and made when asked for
    taken.push_back(pool.take());
    ASSERT_NE(taken.back(), nullptr);
    EXPECT_EQ(taken.back()->size(), kBytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(taken.back()->data()) % 4096, 0U);
    std::memset(taken.back()->data(), i, kBytes);
  }
}

TEST(BufferPoolTest, ABufferThatCameBackIsReused) {
  BufferPool pool(kBytes, 0);
  auto first = pool.take();
  const AlignedBuffer* const buffer = first.get();
  const std::byte* const memory = first->data();
  pool.give_back(std::move(first));
  const auto second = pool.take();
  EXPECT_EQ(second.get(), buffer);
  EXPECT_EQ(second->data(), memory);
}

TEST(BufferPoolTest, NobodyGetsABufferThatIsTaken) {
  BufferPool pool(kBytes, 3);
  std::set<const std::byte*> memories;
  std::vector<std::unique_ptr<AlignedBuffer>> taken;
  for (int i = 0; i < 10; ++i) {
    taken.push_back(pool.take());
    EXPECT_TRUE(memories.insert(taken.back()->data()).second) << i;
  }
  for (auto& buffer : taken) pool.give_back(std::move(buffer));
  // All of them are there again before another is made.
  for (int i = 0; i < 10; ++i) {
    taken[static_cast<std::size_t>(i)] = pool.take();
    EXPECT_EQ(memories.erase(taken[static_cast<std::size_t>(i)]->data()), 1U) << i;
  }
}

TEST(BufferPoolTest, ThreadsNeverShareABuffer) {
  constexpr std::size_t kSmall = 4096;
  BufferPool pool(kSmall, 1);
  std::atomic<int> shared{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        auto a = pool.take();
        auto b = pool.take();
        std::memset(a->data(), t, kSmall);
        std::memset(b->data(), t + 100, kSmall);
        const bool mine = a->data()[0] == static_cast<std::byte>(t) && a->data()[kSmall - 1] == a->data()[0] &&
                          b->data()[0] == static_cast<std::byte>(t + 100) && b->data()[kSmall - 1] == b->data()[0];
        if (!mine) ++shared;
        pool.give_back(std::move(a));
        pool.give_back(std::move(b));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared.load(), 0);
}

}  // namespace
}  // namespace pcache
