#include "mount/request_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace pcache {
namespace {

TEST(RequestPoolTest, DataIsPageAlignedAndFollowsTheFieldsOfAWrite) {
  RequestPool pool(1);
  for (int i = 0; i < 3; ++i) {  // made beforehand and made when asked for
    auto request = pool.take().release();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(request->data().data()) % 4096, 0U);
    EXPECT_EQ(request->data().size(), Request::kMaxData);
    EXPECT_EQ(request->space().data() + sizeof(fuse_in_header) + sizeof(fuse_write_in), request->data().data());
    pool.give_back(std::unique_ptr<Request>(request));
  }
}

TEST(RequestPoolTest, NobodyGetsARequestThatIsTaken) {
  RequestPool pool(3);
  std::set<const Request*> known;
  std::vector<std::unique_ptr<Request>> taken;
  for (int i = 0; i < 10; ++i) {
    taken.push_back(pool.take());
    EXPECT_TRUE(known.insert(taken.back().get()).second) << i;
  }
  for (auto& request : taken) pool.give_back(std::move(request));
  // All of them are there again before another is made.
  for (auto& request : taken) {
    request = pool.take();
    EXPECT_EQ(known.erase(request.get()), 1U);
  }
  for (auto& request : taken) pool.give_back(std::move(request));
  pool.wait_idle();
}

TEST(RequestPoolTest, AServingThreadGetsItsOwnRequestAgain) {
  RequestPool pool(2);
  pool.join();
  auto first = pool.take();
  const Request* const own = first.get();
  pool.give_back(std::move(first));
  std::thread([&] {
    auto other = pool.take();
    EXPECT_NE(other.get(), own) << "what a thread keeps is nobody else's";
    pool.give_back(std::move(other));
  }).join();
  auto again = pool.take();
  EXPECT_EQ(again.get(), own);
  pool.give_back(std::move(again));
  pool.leave();
  pool.wait_idle();
}

TEST(RequestPoolTest, IdleOnlyWhenTheLastOneIsBack) {
  RequestPool pool(0);
  auto request = pool.take();
  std::atomic<bool> idle{false};
  std::thread waiter([&] {
    pool.wait_idle();
    idle = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(idle);
  pool.give_back(std::move(request));
  waiter.join();
  EXPECT_TRUE(idle);
}

TEST(RequestPoolTest, ThreadsNeverShareARequest) {
  constexpr std::size_t kBytes = 4096;
  RequestPool pool(1);
  std::atomic<int> shared{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        auto a = pool.take();
        auto b = pool.take();
        std::memset(a->data().data(), t, kBytes);
        std::memset(b->data().data(), t + 100, kBytes);
        const bool mine = a->data()[0] == static_cast<std::byte>(t) && a->data()[kBytes - 1] == a->data()[0] &&
                          b->data()[0] == static_cast<std::byte>(t + 100) && b->data()[kBytes - 1] == b->data()[0];
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
