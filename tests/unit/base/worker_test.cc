#include "base/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

namespace pcache {
namespace {

constexpr std::chrono::milliseconds kForever = std::chrono::hours(24);
constexpr auto kPatience = std::chrono::seconds(60);  // only ever waited for when a test fails

// A number that one thread raises and another waits for.
class Progress {
 public:
  void raise_to(int value) {
    const std::lock_guard lock(mutex_);
    value_ = value;
    changed_.notify_all();
  }
  bool wait_for(int value) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return value_ >= value; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int value_ = 0;
};

TEST(Worker, NoKickIsLost) {
  std::atomic<int> posted{0};
  Progress seen;
  Worker worker("kicked", [&] {
    seen.raise_to(posted.load());
    return kForever;
  });
  worker.start();
  for (int i = 1; i <= 5000; ++i) {
    posted = i;
    worker.kick();
    ASSERT_TRUE(seen.wait_for(i)) << "kick " << i << " was lost";
  }
}

TEST(Worker, NoKickOfManyThreadsIsLost) {
  constexpr int kThreads = 4;
  constexpr int kKicks = 2000;
  std::atomic<int> posted{0};
  Progress seen;
  Worker worker("kicked", [&] {
    seen.raise_to(posted.load());
    return kForever;
  });
  worker.start();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kKicks; ++i) {
        ++posted;
        worker.kick();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(seen.wait_for(kThreads * kKicks));
}

TEST(Worker, KickDuringAStepBringsAnother) {
  std::promise<void> in_first;
  std::promise<void> go_on;
  std::atomic<int> steps{0};
  Progress seen;
  Worker worker("slow", [&] {
    const int step = ++steps;
    if (step == 1) {
      in_first.set_value();
      go_on.get_future().wait();
    }
    seen.raise_to(step);
    return kForever;
  });
  worker.start();
  in_first.get_future().wait();
  worker.kick();
  go_on.set_value();
  EXPECT_TRUE(seen.wait_for(2));
}

TEST(Worker, KickBeforeStartIsHarmless) {
  Progress seen;
  Worker worker("early", [&] {
    seen.raise_to(1);
    return kForever;
  });
  worker.kick();
  worker.start();
  EXPECT_TRUE(seen.wait_for(1));
}

TEST(Worker, GoesOnWhileThereIsWork) {
  int steps = 0;
  Progress seen;
  Worker worker("busy", [&] {
    seen.raise_to(++steps);
    return steps < 100 ? std::chrono::milliseconds(0) : kForever;
  });
  worker.start();
  EXPECT_TRUE(seen.wait_for(100));
  worker.stop();
  EXPECT_EQ(steps, 100);
}

TEST(Worker, StepsAgainAfterTheIdleTime) {
  int steps = 0;
  Progress seen;
  Worker worker("timed", [&] {
    seen.raise_to(++steps);
    return std::chrono::milliseconds(1);
  });
  worker.start();
  EXPECT_TRUE(seen.wait_for(3));
}

TEST(Worker, StopWaitsForTheStepAndIsFinal) {
  std::promise<void> in_step;
  std::atomic<int> steps{0};
  std::atomic<bool> may_end{false};
  std::atomic<bool> ended{false};
  Worker worker("stopped", [&] {
    if (++steps == 1) in_step.set_value();
    while (!may_end) std::this_thread::yield();
    ended = true;
    return std::chrono::milliseconds(0);
  });
  EXPECT_FALSE(worker.running());
  worker.start();
  EXPECT_TRUE(worker.running());
  in_step.get_future().wait();
  std::thread releaser([&] { may_end = true; });
  worker.stop();
  EXPECT_TRUE(ended);
  EXPECT_FALSE(worker.running());
  releaser.join();
  const int after = steps;
  worker.kick();
  worker.stop();
  worker.start();
  EXPECT_FALSE(worker.running());
  EXPECT_EQ(steps, after);
}

TEST(Worker, StopInterruptsIdling) {
  Progress seen;
  Worker worker("a name longer than the kernel takes", [&] {
    seen.raise_to(1);
    return kForever;
  });
  worker.start();
  ASSERT_TRUE(seen.wait_for(1));
  worker.stop();  // the test's time limit is what fails here
  EXPECT_FALSE(worker.running());
}

}  // namespace
}  // namespace pcache
