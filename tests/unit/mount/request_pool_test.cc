#include "mount/request_pool.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace pcache {
namespace {

TEST(RequestPoolTest, DataIsPageAlignedAndFollowsTheFieldsOfAWrite) {
  RequestPool pool({.prefaulted = 1});
  for (int i = 0; i < 3; ++i) {  // made beforehand and made when asked for
    auto request = pool.take().release();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(request->data().data()) % 4096, 0U);
    EXPECT_EQ(request->data().size(), Request::kMaxData);
    EXPECT_EQ(request->space().data() + sizeof(fuse_in_header) + sizeof(fuse_write_in), request->data().data());
    pool.give_back(std::unique_ptr<Request>(request));
  }
}

TEST(RequestPoolTest, NobodyGetsARequestThatIsTaken) {
  RequestPool pool({.prefaulted = 3});
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
  RequestPool pool({.prefaulted = 2});
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

TEST(RequestPoolTest, AnswersThatAreHeldAreSentTogetherAndInOrder) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd kernel(ends[0]);
  const UniqueFd ours(ends[1]);
  RequestPool pool({.prefaulted = 2});
  const auto answer = [&](int error) {
    auto request = pool.take();
    fuse_in_header header{};
    header.len = sizeof header;
    header.unique = static_cast<std::uint64_t>(error);
    std::memcpy(request->space().data(), &header, sizeof header);
    EXPECT_TRUE(request->arrived(ours.get(), sizeof header));
    request->reply(error);
    pool.give_back(std::move(request));
  };
  const auto received = [&] {
    fuse_out_header out{};
    return recv(kernel.get(), &out, sizeof out, MSG_DONTWAIT) == sizeof out ? -out.error : 0;
  };
  RequestPool::hold_answers();
  answer(EIO);
  answer(EINVAL);
  EXPECT_EQ(received(), 0);
  std::thread([&] { answer(ENOSPC); }).join();
  EXPECT_EQ(received(), ENOSPC) << "another thread's answers are not held";
  RequestPool::send_answers();
  EXPECT_EQ(received(), EIO);
  EXPECT_EQ(received(), EINVAL);
  answer(EPERM);
  EXPECT_EQ(received(), EPERM) << "nothing is held any more";
  EXPECT_EQ(received(), 0);
  pool.wait_idle();
}

TEST(RequestPoolTest, IdleOnlyWhenTheLastOneIsBack) {
  RequestPool pool({.prefaulted = 0});
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
  RequestPool pool({.prefaulted = 1});
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
