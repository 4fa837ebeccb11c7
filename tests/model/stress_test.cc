// Many threads on one logical device, background work running, the device three times the cache's size. Each thread has
// a region of its own, checked against a byte array; all of them share one whose blocks say what they are. Meanwhile
// others switch its mode, change its settings, drain and resize it. A failure prints the seed; PCACHE_SEED and
// PCACHE_STRESS_OPS set seed and length.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/units.h"
#include "tests/support/engine_rig.h"
#include "tests/support/environment.h"
#include "tests/support/random_changes.h"

namespace pcache {
namespace {

constexpr unsigned kThreads = 4;
constexpr std::uint64_t kRegion = 3 * kMiB + 512 * 5;  // of one thread
constexpr std::uint64_t kShared = 2 * kMiB;            // at the device's start
constexpr std::uint64_t kDevice = kShared + kThreads * kRegion;

// Waits for one operation.
class Waiter {
 public:
  Completion completion() {
    return {[](void* context, int error) {
              auto* waiter = static_cast<Waiter*>(context);
              const std::lock_guard lock(waiter->mutex_);
              waiter->error_ = error;
              waiter->done_ = true;
              waiter->changed_.notify_one();
            },
            this};
  }
  int wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  int error_ = 0;
};

// A block of the shared region: its number and a value that fills it.
using SharedBlock = std::array<std::uint64_t, kBlockSize / 8>;

SharedBlock make_shared_block(std::uint64_t block, std::uint64_t value) {
  SharedBlock content;
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = value + i;
  content[0] = block;
  return content;
}

bool is_whole(const SharedBlock& content, std::uint64_t block) {
  const bool zero = std::all_of(content.begin(), content.end(), [](std::uint64_t word) { return word == 0; });
  return zero || content == make_shared_block(block, content[1] - 1);
}

class Client {
 public:
  Client(LogicDev& device, unsigned number, std::uint64_t seed)
      : device_(device), base_(kShared + number * kRegion), random_(seed * 1000 + number), model_(kRegion) {}

  void run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      switch (below(16)) {
        case 0:
          ASSERT_EQ(wait([&](Completion done) { device_.flush(done); }), 0);
          break;
        case 1:
          discard();
          break;
        case 2:
        case 3:
        case 4:
          share();
          break;
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
          write();
          break;
        default:
          check(any_range(256 * kKiB));
      }
    }
  }

  void check_all() { check({0, kRegion}); }
  const std::vector<std::byte>& model() const { return model_; }
  std::uint64_t base() const { return base_; }

 private:
  struct Range {
    std::uint64_t offset;
    std::uint64_t length;
  };

  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  }

  Range any_range(std::uint64_t longest) {
    const std::uint64_t unit = std::array<std::uint64_t, 3>{4096, 512, 1}[below(3)];
    const std::uint64_t offset = below(kRegion) / unit * unit;
    return {offset, std::min((1 + below(std::max<std::uint64_t>(longest / unit, 1))) * unit, kRegion - offset)};
  }

  template <typename Start>
  int wait(Start start) {
    Waiter waiter;
    start(waiter.completion());
    return waiter.wait();
  }

  void write() {
    const Range range = any_range(below(8) == 0 ? kMiB : 32 * kKiB);
    std::vector<std::byte> bytes(range.length, static_cast<std::byte>(random_()));
    for (std::size_t i = 0; i < bytes.size(); i += 61) bytes[i] = static_cast<std::byte>(random_());
    std::copy(bytes.begin(), bytes.end(), model_.begin() + static_cast<std::ptrdiff_t>(range.offset));
    ASSERT_EQ(wait([&](Completion done) { device_.write(base_ + range.offset, bytes, done); }), 0);
  }

  void discard() {
    const Range range = any_range(kMiB);
    std::fill_n(model_.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length, std::byte{0});
    ASSERT_EQ(wait([&](Completion done) { device_.discard(base_ + range.offset, range.length, done); }), 0);
  }

  void check(const Range& range) {
    std::vector<std::byte> bytes(range.length);
    ASSERT_EQ(wait([&](Completion done) { device_.read(base_ + range.offset, bytes, done); }), 0);
    const auto expected = model_.begin() + static_cast<std::ptrdiff_t>(range.offset);
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), expected)) << base_ + range.offset << "+" << range.length;
  }

  // Reads, overwrites or discards a few blocks that the others use too: whatever comes back is whole.
  void share() {
    const std::uint64_t count = 1 + below(4);
    const std::uint64_t first = below(kShared / kBlockSize - count + 1);
    std::vector<SharedBlock> blocks(count);
    const std::uint64_t choice = below(8);
    if (choice == 0) {
      ASSERT_EQ(wait([&](Completion done) { device_.discard(first * kBlockSize, count * kBlockSize, done); }), 0);
    } else if (choice < 4) {
      for (std::uint64_t i = 0; i < count; ++i) blocks[i] = make_shared_block(first + i, random_());
      const auto bytes = std::as_bytes(std::span(blocks));
      ASSERT_EQ(wait([&](Completion done) { device_.write(first * kBlockSize, bytes, done); }), 0);
    } else {
      const auto bytes = std::as_writable_bytes(std::span(blocks));
      ASSERT_EQ(wait([&](Completion done) { device_.read(first * kBlockSize, bytes, done); }), 0);
      for (std::uint64_t i = 0; i < count; ++i) ASSERT_TRUE(is_whole(blocks[i], first + i)) << "block " << first + i;
    }
  }

  LogicDev& device_;
  const std::uint64_t base_;
  std::mt19937_64 random_;
  std::vector<std::byte> model_;
};

// Changes what a device does while it is in use, until it is told to end. None of it is to disturb anybody.
class Operator {
 public:
  Operator(EngineRig& rig, std::uint64_t seed) : rig_(rig), random_(seed) {}

  void switch_modes() {
    const ModeChoice to = random_mode(below_);
    ASSERT_TRUE(rig_.device().begin_switch(to).ok());
    std::optional<Status> ended;
    while (!(ended = rig_.device().await_switch(1000))) {
    }
    ASSERT_TRUE(ended->ok()) << ended->message();
    ASSERT_TRUE(rig_.device().mode_choice() == to);
    ++done_;
  }

  void change_others() {
    constexpr std::uint64_t kMostBytes = kDevice + kMiB;
    switch (below_(8)) {
      case 0:
        ASSERT_EQ(rig_.device().drain(0), 0);
        break;
      case 1:
        ASSERT_TRUE(rig_.device().begin_drain().has_value());
        break;
      case 2: {
        if (rig_.device().size_bytes() < kMostBytes) rig_.backing().grow_by((1 + below_(16)) * kSectorSize);
        const Status status = rig_.device().grow_to_backing();
        ASSERT_TRUE(status.ok() || status.code() == Errc::busy || status.code() == Errc::no_space) << status.message();
        break;
      }
      default: {
        Settings changes = random_settings(below_, 40);
        // Nothing may fail for lack of space, nor for lack of time.
        if (changes.get(Setting::full_policy) == static_cast<std::uint64_t>(FullPolicy::error)) {
          changes.unset(Setting::full_policy);
        }
        changes.set(Setting::full_max_wait, 86'400'000);
        const Status status = rig_.device().configure(changes);
        ASSERT_TRUE(status.ok() || status.code() == Errc::invalid) << status.message();
      }
    }
    ++done_;
  }

  template <typename Act>
  std::thread start(Act act) {
    return std::thread([this, act] {
      while (!stop_ && !testing::Test::HasFailure()) (this->*act)();
    });
  }
  void stop() { stop_ = true; }
  std::uint64_t done() const { return done_; }

 private:
  EngineRig& rig_;
  std::mt19937_64 random_;
  const std::function<std::uint64_t(std::uint64_t)> below_ = [this](std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  };
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> done_{0};
};

class StressTest : public testing::TestWithParam<RigShape> {};

// The clients work so many operations each, `meanwhile` around them.
class Load {
 public:
  explicit Load(const RigShape& shape) : rig_(shape) {
    rig_.cache().start();
    for (unsigned i = 0; i < kThreads; ++i) clients_.emplace_back(rig_.device(), i, seed());
  }

  static std::uint64_t seed() { return from_environment("PCACHE_SEED", 7); }
  EngineRig& rig() { return rig_; }

  template <typename Meanwhile>
  void run(std::uint64_t operations, Meanwhile meanwhile) {
    // The backing answers from another thread, as a real one does.
    rig_.backing().hold(true);
    std::atomic<bool> stop{false};
    std::thread backing([&] {
      while (!stop) {
        if (!rig_.backing().release_one()) std::this_thread::yield();
      }
      rig_.backing().hold(false);
      rig_.backing().release_all();
    });
    std::vector<std::thread> threads;
    for (Client& client : clients_) threads.emplace_back([&client, operations] { client.run(operations); });
    meanwhile([&threads] {
      for (std::thread& thread : threads) thread.join();
    });
    EXPECT_EQ(rig_.device().drain(0), 0);
    stop = true;
    backing.join();
  }

  void check() {
    for (const Client& client : clients_) {
      const auto begin = rig_.backing_image().durable.begin() + static_cast<std::ptrdiff_t>(client.base());
      EXPECT_TRUE(std::equal(client.model().begin(), client.model().end(), begin)) << "the backing alone after a drain";
    }
    for (Client& client : clients_) client.check_all();
    EXPECT_EQ(rig_.device().stats().checksum_errors, 0U);
  }

 private:
  EngineRig rig_;
  std::vector<Client> clients_;
};

TEST_P(StressTest, EveryThreadSeesItsOwnWritesAndWholeBlocksOfOthers) {
  SCOPED_TRACE("PCACHE_SEED=" + std::to_string(Load::seed()));
  Load load(GetParam());
  load.run(from_environment("PCACHE_STRESS_OPS", 6000), [](const auto& await_clients) { await_clients(); });
  if (HasFailure()) return;
  load.check();
  EXPECT_GT(load.rig().device().stats().evicted_bytes, 0U) << "the cache was never full";
}

TEST_P(StressTest, NobodyNoticesThatModesSettingsAndSizeChange) {
  SCOPED_TRACE("PCACHE_SEED=" + std::to_string(Load::seed()));
  Load load(GetParam());
  Operator switches(load.rig(), Load::seed());
  Operator others(load.rig(), Load::seed() + 1);
  load.run(from_environment("PCACHE_STRESS_OPS", 6000) / 10, [&](const auto& await_clients) {
    std::thread first = switches.start(&Operator::switch_modes);
    std::thread second = others.start(&Operator::change_others);
    await_clients();
    switches.stop();
    others.stop();
    first.join();
    second.join();
  });
  if (HasFailure()) return;
  load.check();
  EXPECT_GT(switches.done(), 0U);
  EXPECT_GT(others.done(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Shapes, StressTest,
                         testing::Values(RigShape{5 * kMiB, 256 * kKiB, kDevice, Granularity::cache_line, {}},
                                         RigShape{18 * kMiB, 256 * kKiB, kDevice, Granularity::cache_line, {}},
                                         RigShape{5 * kMiB, 256 * kKiB, kDevice, Granularity::page, {}}),
                         [](const auto& shape) { return shape.param.name(); });

}  // namespace
}  // namespace pcache
