// A cache device or a backing that is gone takes down what hangs on it, and nothing else; and what hangs on it comes
// back with it. Two cache devices and several backings in one mount, as files.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pcache/backing_dev.h"
#include "pcache/device_manager.h"
#include "tests/support/logic_io.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kCacheBytes = 16 << 20;
constexpr std::size_t kBytes = 4 << 20;
constexpr std::chrono::seconds kDeadline{120};

class DeadDevice : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* cache : {"one", "two"}) {
      FormatOptions options;
      options.size_bytes = kCacheBytes;
      options.segment_size_bytes = 256 << 10;
      options.label = cache;
      ASSERT_TRUE(format_cache_dev(dir_ / cache, options).ok());
    }
    ASSERT_NO_FATAL_FAILURE(mount());
    for (const char* name : {"a", "b", "c"}) {
      make_file(dir_ / name, kBytes, name[0]);
      AddOptions options;
      options.cache_label = name[0] == 'c' ? "two" : "one";
      ASSERT_TRUE(manager_->add(name, dir_ / name, options).ok());
    }
  }

  void mount() {
    manager_ = DeviceManager::create();
    for (const char* cache : {"one", "two"}) {
      const Status opened = manager_->open_cache_dev(dir_ / cache, keep_dirty());
      ASSERT_TRUE(opened.ok()) << opened.message();
    }
  }
  void umount() { manager_.reset(); }

  int write(const std::string& name, std::uint64_t offset, const std::string& data) {
    const auto device = manager_->find(name);
    return device == nullptr ? ENOENT : write_to(*device, offset, data);
  }
  std::string read(const std::string& name, std::uint64_t offset, std::size_t length) {
    return read_from(*manager_, name, offset, length);
  }
  LogicDevStats stats(const std::string& name) { return stats_of(*manager_, name); }
  CacheDevStats cache_stats(const std::string& label) {
    for (const CacheDevStats& cache : manager_->status().cache_devs) {
      if (cache.label == label) return cache;
    }
    return {};
  }
  bool becomes(const std::string& name, const std::string& state) {
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (stats(name).state != state && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return stats(name).state == state;
  }

  TempDir dir_;
  std::unique_ptr<DeviceManager> manager_;
};

TEST_F(DeadDevice, ACacheDeviceThatIsTruncatedFailsItsOwnLogicalDevicesAndComesBack) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_EQ(write(name, 8192, std::string(4096, 'w')), 0);
    ASSERT_EQ(read(name, 65536, 4096), std::string(4096, name[0]));  // is cached now
    ASSERT_EQ(flush(*manager_->find(name)), 0);
  }
  std::filesystem::copy_file(dir_ / "one", dir_ / "kept");
  std::filesystem::resize_file(dir_ / "one", 4096);
  EXPECT_TRUE(becomes("a", "failed"));
  EXPECT_TRUE(becomes("b", "failed"));
  EXPECT_EQ(cache_stats("one").state, "failed");
  EXPECT_NE(cache_stats("one").detail.find(dir_ / "one"), std::string::npos) << cache_stats("one").detail;
  EXPECT_NE(stats("a").detail.find(dir_ / "one"), std::string::npos) << stats("a").detail;
  for (const char* name : {"a", "b"}) {
    const auto device = manager_->find(name);
    ASSERT_NE(device, nullptr) << "the file is still there";
    for (const std::uint64_t offset : {8192, 65536, 1 << 20}) {
      EXPECT_EQ(read_from(*device, offset, 4096), "(5)") << "dirty, clean and not cached, at " << offset;
      EXPECT_EQ(write_to(*device, offset, std::string(4096, 'x')), EIO) << offset;
    }
    EXPECT_EQ(flush(*device), EIO);
    EXPECT_EQ(finish([&](Completion done) { device->discard(0, 65536, done); }), EIO);
    EXPECT_EQ(device->drain(0), EIO);
    EXPECT_NE(manager_->flush(name).code(), Errc::ok);
  }

  EXPECT_EQ(cache_stats("two").state, "running");
  EXPECT_EQ(stats("c").state, "running");
  EXPECT_EQ(write("c", 0, "goes on"), 0);
  EXPECT_EQ(read("c", 0, 7), "goes on");
  EXPECT_EQ(read("c", 8192, 4096), std::string(4096, 'w'));
  EXPECT_TRUE(manager_->flush("c").ok());
  EXPECT_EQ(read_file(dir_ / "c", 0, 7), "goes on");

  umount();
  EXPECT_EQ(read_file(dir_ / "a", 8192, 4096), std::string(4096, 'a')) << "nothing was written back";
  std::filesystem::copy_file(dir_ / "kept", dir_ / "one", std::filesystem::copy_options::overwrite_existing);
  ASSERT_NO_FATAL_FAILURE(mount());
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(stats(name).state, "running") << stats(name).detail;
    EXPECT_EQ(read(name, 8192, 4096), std::string(4096, 'w')) << name;
    EXPECT_TRUE(manager_->flush(name).ok()) << name;
    EXPECT_EQ(read_file(dir_ / name, 8192, 4096), std::string(4096, 'w')) << name;
  }
}

TEST_F(DeadDevice, AWriteThatWaitsForSpaceEndsWhenTheCacheDeviceIsGone) {
  const std::string block(1 << 20, 'w');
  // The backing of `a` takes nothing, so that the cache fills up.
  std::filesystem::resize_file(dir_ / "a", kBytes - 4096);
  std::atomic<bool> waiting{false};
  std::atomic<int> ended{-1};
  std::thread writer([&] {
    for (int i = 0; ended < 0; ++i) {
      waiting = stats("a").space_waits != 0;
      const int error = write("a", static_cast<std::uint64_t>(i % 3) << 20, block);
      if (error != 0) ended = error;
    }
  });
  std::this_thread::yield();
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (stats("a").space_waits == 0 && ended < 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(stats("a").space_waits != 0 || ended >= 0);
  std::filesystem::resize_file(dir_ / "one", 4096);
  writer.join();
  EXPECT_EQ(ended, EIO);
  EXPECT_EQ(read("c", 0, 4), "cccc");
}

TEST_F(DeadDevice, ABackingThatIsMissingComesBackByTheCommandOrByItself) {
  for (const bool by_command : {true, false}) {
    SCOPED_TRACE(by_command ? "by the command" : "by itself");
    const std::string data = by_command ? "only in the cache" : "and again in the cache";
    ASSERT_EQ(write("a", 12288, data), 0);
    const std::uint64_t dirty = stats("a").dirty_bytes;
    umount();
    std::filesystem::rename(dir_ / "a", dir_ / "away");
    ASSERT_NO_FATAL_FAILURE(mount());
    EXPECT_EQ(stats("a").state, "no_backing");
    EXPECT_EQ(manager_->find("a"), nullptr);
    EXPECT_EQ(read("b", 8192, 4), "bbbb");
    EXPECT_EQ(write("b", 0, "b goes on"), 0);
    EXPECT_NE(manager_->attach("a").code(), Errc::ok);
    // Another file in its place is none of its business.
    make_file(dir_ / "a", kBytes, 'z');
    const Status other = manager_->attach("a");
    EXPECT_EQ(other.code(), Errc::failed);
    EXPECT_NE(other.message().find("another device"), std::string::npos) << other.message();
    EXPECT_EQ(stats("a").dirty_bytes, dirty);
    EXPECT_EQ(read_file(dir_ / "a", 12288, 4), "zzzz");

    std::filesystem::rename(dir_ / "away", dir_ / "a");
    if (by_command) {
      const Status attached = manager_->attach("a");
      EXPECT_TRUE(attached.ok()) << attached.message();
      EXPECT_EQ(stats("a").state, "running");
    } else {
      EXPECT_TRUE(becomes("a", "running"));
    }
    EXPECT_EQ(stats("a").detail, "");
    EXPECT_EQ(read("a", 12288, data.size()), data);
    EXPECT_EQ(read("a", 0, 4), "aaaa");
    EXPECT_EQ(write("a", 0, "in use"), 0);
    EXPECT_TRUE(manager_->flush("a").ok());
    EXPECT_EQ(read_file(dir_ / "a", 12288, data.size()), data);
    EXPECT_EQ(read_file(dir_ / "a", 0, 6), "in use");
    ASSERT_EQ(write("a", 0, "aaaaaa"), 0);
    EXPECT_TRUE(manager_->attach("a").ok()) << "one that runs has nothing to attach";
    EXPECT_EQ(stats("a").dirty_bytes, 4096U);
  }
  EXPECT_EQ(manager_->attach("none").code(), Errc::not_found);
}

// What was truncated and restored in use is not trusted before somebody says so.
TEST_F(DeadDevice, ABackingThatWasTruncatedInUseComesBackWithAllThatIsDirty) {
  const auto held = manager_->find("a");
  const std::uint64_t inode = held->inode();
  ASSERT_EQ(write("a", 8192, std::string(4096, 'w')), 0);
  ASSERT_EQ(read("a", 65536, 4), "aaaa");
  std::filesystem::resize_file(dir_ / "a", 4096);
  EXPECT_NE(manager_->flush("a").code(), Errc::ok);
  EXPECT_NE(manager_->attach("a").code(), Errc::ok) << "it is still short";
  EXPECT_EQ(read("a", 8192, 4), "wwww") << "a device whose backing did not come back is as it was";
  std::filesystem::resize_file(dir_ / "a", kBytes);
  EXPECT_NE(manager_->flush("a").code(), Errc::ok);
  const Status attached = manager_->attach("a");
  EXPECT_TRUE(attached.ok()) << attached.message();
  EXPECT_EQ(manager_->find("a")->inode(), inode);
  EXPECT_EQ(read("a", 8192, 4), "wwww");
  EXPECT_EQ(read("a", 65536, 4), "aaaa") << "still cached";
  EXPECT_EQ(read_from(*held, 8192, 4), "(5)") << "who holds the old one has to look again";
  EXPECT_EQ(write_to(*held, 8192, "old"), EIO);
  EXPECT_TRUE(manager_->flush("a").ok());
  EXPECT_EQ(read_file(dir_ / "a", 8192, 4), "wwww");
  umount();
  ASSERT_NO_FATAL_FAILURE(mount());
  EXPECT_EQ(read("a", 8192, 4), "wwww");
}

// Acknowledged writes stay, whatever is attached meanwhile, and no read finds anything else.
TEST_F(DeadDevice, UsersGoOnWhileABackingIsAttachedAgain) {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> users;
  for (int user = 0; user < 2; ++user) {
    users.emplace_back([&, user] {
      const std::uint64_t offset = static_cast<std::uint64_t>(user) << 20;
      std::string allowed = "a";  // what a block may hold: a write that failed may be there in part
      for (char next = 'b'; !stop; next = next == 'z' ? 'b' : static_cast<char>(next + 1)) {
        if (write("a", offset, std::string(16384, next)) == 0) allowed.clear();
        allowed += next;
        const std::string found = read("a", offset, 16384);
        if (found != "(5)" && found.find_first_not_of(allowed) != std::string::npos) ++wrong;
      }
    });
  }
  for (int turn = 0; turn < 5; ++turn) {
    std::filesystem::resize_file(dir_ / "a", kBytes - 4096);
    EXPECT_NE(manager_->attach("a").code(), Errc::ok);
    std::filesystem::resize_file(dir_ / "a", kBytes);
    const Status attached = manager_->attach("a");
    EXPECT_TRUE(attached.ok()) << attached.message();
  }
  stop = true;
  for (std::thread& user : users) user.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(stats("a").state, "running") << stats("a").detail;
  EXPECT_TRUE(manager_->flush("a").ok());
  EXPECT_EQ(read_file(dir_ / "a", 0, 16384), read("a", 0, 16384));
}

TEST_F(DeadDevice, WhatHasDiedCanBeRemovedAndTheOthersGoOn) {
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(write(name, 8192, std::string(4096, 'w')), 0);
  std::filesystem::resize_file(dir_ / "b", 4096);  // a backing in use
  EXPECT_EQ(manager_->remove("b").code(), Errc::failed) << "its data is nowhere else";
  EXPECT_EQ(read("b", 8192, 4), "wwww") << "a refusal changes nothing";
  EXPECT_TRUE(manager_->remove("b", DirtyData::discard).ok());
  EXPECT_EQ(stats("b").name, "");
  EXPECT_EQ(read("a", 8192, 4), "wwww");

  std::filesystem::resize_file(dir_ / "one", 4096);
  EXPECT_TRUE(becomes("a", "failed"));
  EXPECT_EQ(manager_->remove("a").code(), Errc::dirty);
  EXPECT_EQ(stats("a").state, "failed") << "a refusal changes nothing";
  const Status forgotten = manager_->remove("a", DirtyData::discard);
  EXPECT_EQ(forgotten.code(), Errc::failed) << "the cache device, when it comes back, still has it";
  EXPECT_EQ(stats("a").name, "");
  EXPECT_EQ(manager_->find("a"), nullptr);
  EXPECT_EQ(read("c", 8192, 4), "wwww");
  EXPECT_TRUE(manager_->flush("c").ok());
  EXPECT_TRUE(manager_->remove("c").ok());
}

// `attach` is one word for both: what was detached, and what lost its backing.
TEST_F(DeadDevice, ABackingThatComesBackByItselfLeavesADetachedDeviceDetachedAndTheCommandDoesNot) {
  const auto switched = [&] {
    const auto progress = manager_->await_switch("a", 120'000);
    return progress.ok() && progress->done;
  };
  ASSERT_TRUE(manager_->detach("a").ok());
  ASSERT_TRUE(switched());
  umount();
  std::filesystem::rename(dir_ / "a", dir_ / "away");
  ASSERT_NO_FATAL_FAILURE(mount());
  EXPECT_EQ(stats("a").state, "no_backing");
  std::filesystem::rename(dir_ / "away", dir_ / "a");
  EXPECT_TRUE(becomes("a", "running"));
  EXPECT_TRUE(stats("a").detached);
  EXPECT_EQ(stats("a").mode, "passthrough");
  // Gone again, in use; one command does both.
  std::filesystem::resize_file(dir_ / "a", 4096);
  EXPECT_NE(manager_->attach("a").code(), Errc::ok);
  std::filesystem::resize_file(dir_ / "a", kBytes);
  const Status attached = manager_->attach("a");
  EXPECT_TRUE(attached.ok()) << attached.message();
  EXPECT_TRUE(switched());
  EXPECT_FALSE(stats("a").detached);
  EXPECT_EQ(stats("a").mode, "writeback");
  ASSERT_EQ(write("a", 0, "in the cache"), 0);
  EXPECT_EQ(stats("a").dirty_bytes, 4096U);

  // What was removed and kept has its backing, and is not taken up by either.
  ASSERT_TRUE(manager_->remove("b", DirtyData::keep).ok());
  EXPECT_EQ(manager_->attach("b").code(), Errc::failed);
  EXPECT_EQ(stats("b").state, "parked");
}

// The switch cannot end before the backing is back: what was truncated takes nothing.
TEST_F(DeadDevice, ASwitchOfTheModeThatWaitsForABackingGoesOnOnceThatIsAttached) {
  Settings changes;
  changes.set(Setting::mode, static_cast<std::uint64_t>(Mode::writearound));
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  // It gives up when the backing fails several times before the backing is attached: once more then.
  while (stats("a").mode != "writearound" && std::chrono::steady_clock::now() < deadline) {
    ASSERT_EQ(write("a", 8192, std::string(4096, 'w')), 0);
    std::filesystem::resize_file(dir_ / "a", 4096);
    EXPECT_NE(manager_->attach("a").code(), Errc::ok);
    std::filesystem::resize_file(dir_ / "a", kBytes);
    ASSERT_TRUE(manager_->set("a", changes).ok());
    const Status attached = manager_->attach("a");
    ASSERT_TRUE(attached.ok()) << attached.message();
    const auto progress = manager_->await_switch("a", 60'000);
    ASSERT_TRUE(progress.ok() && progress->done);
  }
  EXPECT_EQ(stats("a").mode, "writearound");
  EXPECT_EQ(read_file(dir_ / "a", 8192, 4), "wwww");
}

}  // namespace
}  // namespace pcache
