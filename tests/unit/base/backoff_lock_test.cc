#include "base/backoff_lock.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

namespace pcache {
namespace {

TEST(BackoffLock, KeepsThreadsApart) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 20000;
  BackoffLock lock;
  long first = 0;
  long second = 0;
  int mismatches = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        const std::lock_guard guard(lock);
        if (first != second) ++mismatches;
        ++first;
        if (i % 1000 == 0) std::this_thread::yield();
        ++second;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, long{kThreads} * kRounds);
  EXPECT_EQ(second, first);
  EXPECT_EQ(mismatches, 0);
}

TEST(BackoffLock, TryLock) {
  BackoffLock lock;
  ASSERT_TRUE(lock.try_lock());
  bool taken = true;
  std::thread([&] { taken = lock.try_lock(); }).join();
  EXPECT_FALSE(taken);
  lock.unlock();
  std::thread([&] {
    taken = lock.try_lock();
    if (taken) lock.unlock();
  }).join();
  EXPECT_TRUE(taken);
  EXPECT_TRUE(lock.try_lock());
}

}  // namespace
}  // namespace pcache
