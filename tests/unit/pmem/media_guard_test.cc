#include "pmem/media_guard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <csignal>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace pcache {
namespace {

// Pages of a file that was cut off behind the mapping: every access is a SIGBUS.
class BrokenPages {
 public:
  BrokenPages() {
    const UniqueFd fd(memfd_create("broken", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(fd.get(), kBytes), 0);
    address_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    EXPECT_NE(address_, MAP_FAILED);
    EXPECT_EQ(ftruncate(fd.get(), 0), 0);
  }
  ~BrokenPages() { munmap(address_, kBytes); }
  BrokenPages(const BrokenPages&) = delete;
  BrokenPages& operator=(const BrokenPages&) = delete;

  volatile char* data() const { return static_cast<volatile char*>(address_); }

 private:
  static constexpr std::size_t kBytes = 64 << 10;
  void* address_ = nullptr;
};

TEST(MediaGuardTest, AnAccessThatWorksIsSeenThrough) {
  install_media_guard();
  int value = 0;
  EXPECT_TRUE(guarded([&value] { value = 7; }));
  EXPECT_EQ(value, 7);
}

TEST(MediaGuardTest, AFailingLoadOrStoreEndsTheCallAndNotTheProcess) {
  install_media_guard();
  const BrokenPages broken;
  volatile char* const data = broken.data();
  bool went_on = false;
  EXPECT_FALSE(guarded([&] {
    (void)data[5];
    went_on = true;
  }));
  EXPECT_FALSE(went_on);
  EXPECT_FALSE(guarded([data] { data[8192] = 1; }));
}

TEST(MediaGuardTest, WorksAgainAfterEachFailure) {
  install_media_guard();
  const BrokenPages broken;
  volatile char* const data = broken.data();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_FALSE(guarded([data] { (void)data[0]; })) << i;
    ASSERT_TRUE(guarded([] {})) << i;
  }
}

TEST(MediaGuardTest, AFailureEndsTheInnermostCallAlone) {
  install_media_guard();
  const BrokenPages broken;
  volatile char* const data = broken.data();
  bool inner = true;
  bool outer_went_on = false;
  EXPECT_TRUE(guarded([&] {
    inner = guarded([data] { (void)data[0]; });
    outer_went_on = true;
  }));
  EXPECT_FALSE(inner);
  EXPECT_TRUE(outer_went_on);
}

TEST(MediaGuardTest, AnOuterCallStaysGuardedAfterAnInnerOne) {
  install_media_guard();
  const BrokenPages broken;
  volatile char* const data = broken.data();
  bool inner_ok = false;
  bool inner_failed = false;
  EXPECT_FALSE(guarded([&] {
    inner_ok = guarded([] {});
    inner_failed = !guarded([data] { data[0] = 1; });
    (void)data[0];
  }));
  EXPECT_TRUE(inner_ok);
  EXPECT_TRUE(inner_failed);
}

TEST(MediaGuardTest, EachThreadFailsForItself) {
  install_media_guard();
  const BrokenPages broken;
  volatile char* const data = broken.data();
  constexpr int kThreads = 2;
  constexpr int kRounds = 500;
  std::barrier<> start(kThreads + 1);
  std::atomic<int> failed{0};
  std::atomic<int> passed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        start.arrive_and_wait();
        if (!guarded([data, t] { (void)data[t * 4096]; })) ++failed;
      }
    });
  }
  // Another one whose accesses are fine meanwhile.
  for (int i = 0; i < kRounds; ++i) {
    start.arrive_and_wait();
    int value = 0;
    if (guarded([&value] { value = 1; }) && value == 1) ++passed;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed.load(), kThreads * kRounds);
  EXPECT_EQ(passed.load(), kRounds);
}

// What was there before the guard is only the test's own in a process that never installed it: such a one runs this
// test from its beginning.
class MediaGuardDeathTest : public testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
  }

  // A guarded failure first: it must not be the handler's last act.
  static void fail_inside_then_outside() {
    install_media_guard();
    const BrokenPages broken;
    volatile char* const data = broken.data();
    if (guarded([data] { (void)data[0]; })) _exit(100);
    (void)data[0];
    _exit(101);
  }
};

TEST_F(MediaGuardDeathTest, OutsideOfAGuardThePreviousHandlerIsCalled) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, [](int signal) { _exit(signal == SIGBUS ? 42 : 102); });
        fail_inside_then_outside();
      },
      testing::ExitedWithCode(42), "");
}

TEST_F(MediaGuardDeathTest, ThePreviousHandlerGetsWhatTheKernelSaid) {
  EXPECT_EXIT(
      {
        struct sigaction action {};
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
          const bool told = signal == SIGBUS && info->si_code == BUS_ADRERR && info->si_addr != nullptr;
          _exit(told && context != nullptr ? 43 : 103);
        };
        sigaction(SIGBUS, &action, nullptr);
        fail_inside_then_outside();
      },
      testing::ExitedWithCode(43), "");
}

TEST_F(MediaGuardDeathTest, WithoutAPreviousHandlerTheProcessEnds) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, SIG_DFL);
        fail_inside_then_outside();
      },
      testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace pcache
