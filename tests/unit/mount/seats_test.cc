#include "mount/seats.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace pcache {
namespace {

TEST(SeatsTest, AThreadKeepsItsSeatUntilItStandsUp) {
  Seats seats(1);
  ASSERT_TRUE(seats.sit_down());
  ASSERT_TRUE(seats.sit_down()) << "it has one";
  std::atomic<bool> seated{false};
  std::thread other([&] {
    EXPECT_TRUE(seats.sit_down());
    seated = true;
    seats.stand_up();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(seated);
  seats.stand_up();
  other.join();
  EXPECT_TRUE(seated);
  EXPECT_TRUE(seats.sit_down()) << "the other one gave it back";
  seats.stand_up();
}

TEST(SeatsTest, StandingUpWithoutASeatGivesNoneAway) {
  Seats seats(0);
  seats.stand_up();
  std::atomic<bool> seated{false};
  std::thread other([&] { seated = seats.sit_down(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  seats.close();
  other.join();
  EXPECT_FALSE(seated);
}

TEST(SeatsTest, ClosingEndsThoseWhoSitAndThoseWhoWait) {
  Seats seats(1);
  ASSERT_TRUE(seats.sit_down());
  std::thread waiting([&] { EXPECT_FALSE(seats.sit_down()); });
  seats.close();
  waiting.join();
  EXPECT_FALSE(seats.sit_down());
}

TEST(SeatsTest, NeverMoreThreadsSitThanThereAreSeats) {
  constexpr int kSeats = 2;
  Seats seats(kSeats);
  std::atomic<int> sitting{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 5; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        ASSERT_TRUE(seats.sit_down());
        const int now = ++sitting;
        int before = most;
        while (before < now && !most.compare_exchange_weak(before, now)) {
        }
        --sitting;
        seats.stand_up();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, kSeats);
}

}  // namespace
}  // namespace pcache
