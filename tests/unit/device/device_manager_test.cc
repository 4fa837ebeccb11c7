#include "pcache/device_manager.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "pcache/backing_dev.h"
#include "pcache/pmem_space.h"
#include "tests/support/child_process.h"
#include "tests/support/logic_io.h"
#include "tests/support/loop_device.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kCacheSize = 16 << 20;
constexpr std::size_t kSize = 4 << 20;

class DeviceManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    format(cache_);
    make_file(backing_, kSize, 'b');
    start();
  }

  static void format(const std::string& path, const std::string& label = "", std::uint64_t size = kCacheSize) {
    FormatOptions options;
    options.size_bytes = size;
    options.segment_size_bytes = 256 << 10;
    options.label = label;
    const Status made = format_cache_dev(path, options);
    ASSERT_TRUE(made.ok()) << made.message();
  }

  // Takes everything down as an unmount does, if it is up, and brings it up again.
  void start() {
    stop();
    manager_ = DeviceManager::create();
    const Status opened = manager_->open_cache_dev(cache_, keep_dirty());
    ASSERT_TRUE(opened.ok()) << opened.message();
  }
  void stop() { manager_.reset(); }

  void add(const std::string& name, const std::string& path) {
    const Status added = manager_->add(name, path, {});
    ASSERT_TRUE(added.ok()) << added.message();
  }
  Errc refusal_of_add(const std::string& name, const std::string& path, const std::string& label = "") {
    AddOptions options;
    options.cache_label = label;
    const Status status = manager_->add(name, path, options);
    message_ = status.message();
    return status.code();
  }

  void write(const std::string& name, std::uint64_t offset, const std::string& data) {
    const auto device = manager_->find(name);
    ASSERT_NE(device, nullptr) << name;
    ASSERT_EQ(write_to(*device, offset, data), 0);
  }
  std::string read(const std::string& name, std::uint64_t offset, std::size_t length) {
    return read_from(*manager_, name, offset, length);
  }

  LogicDevStats stats(const std::string& name) { return stats_of(*manager_, name); }

  void expect_no_backing(const std::string& name) {
    EXPECT_EQ(stats(name).state, "no_backing");
    EXPECT_NE(stats(name).detail, "");
    EXPECT_EQ(manager_->find(name), nullptr);
    for (const auto& device : manager_->list()) EXPECT_NE(device->name(), name);
  }

  TempDir dir_;
  const std::string cache_ = dir_ / "cache";
  const std::string backing_ = dir_ / "backing";
  std::unique_ptr<DeviceManager> manager_;
  std::string message_;
};

// --- Settings

TEST_F(DeviceManagerTest, SettingsAreStoredAndTheMountsOnesComeFirstUntilOneIsSet) {
  const auto in_force = [this](Setting setting) {
    const auto values = manager_->settings("db");
    if (!values) return std::string(values.status().message());
    const SettingValue& value = (*values)[static_cast<std::size_t>(setting)];
    return format_setting(setting, value.value) + " " + to_string(value.origin);
  };
  AddOptions options;
  options.settings.set(Setting::dirty_low, kPercent | 7);
  ASSERT_TRUE(manager_->add("db", backing_, options).ok());
  EXPECT_EQ(in_force(Setting::dirty_low), "7% stored");
  EXPECT_EQ(in_force(Setting::dirty_high), "95% mount");
  EXPECT_EQ(in_force(Setting::full_max_wait), "60000 default");

  Settings changes;
  changes.set(Setting::dirty_high, kPercent | 30);
  changes.set(Setting::full_max_wait, 500);
  ASSERT_TRUE(manager_->set("db", changes).ok());
  EXPECT_EQ(in_force(Setting::dirty_high), "30% stored") << "what was set last counts";
  start();
  EXPECT_EQ(in_force(Setting::dirty_low), "7% stored");
  EXPECT_EQ(in_force(Setting::dirty_high), "95% mount");
  EXPECT_EQ(in_force(Setting::full_max_wait), "500 stored");
  stop();
  manager_ = DeviceManager::create();
  ASSERT_TRUE(manager_->open_cache_dev(cache_, {}).ok());
  EXPECT_EQ(in_force(Setting::dirty_high), "30% stored");
}

TEST_F(DeviceManagerTest, WhatIsConfiguredCountsMoreThanWhatIsStoredUntilSomethingIsSet) {
  const auto in_force = [this](Setting setting) {
    const auto values = manager_->settings("db");
    if (!values) return std::string(values.status().message());
    const SettingValue& value = (*values)[static_cast<std::size_t>(setting)];
    return format_setting(setting, value.value) + " " + to_string(value.origin);
  };
  const auto keys = [](std::initializer_list<Setting> settings) {
    SettingSet set;
    for (const Setting setting : settings) set.set(static_cast<std::size_t>(setting));
    return set;
  };
  const auto settings = [](Setting setting, std::uint64_t value) {
    Settings one;
    one.set(setting, value);
    return one;
  };
  CacheOptions options;
  options.configured.all.set(Setting::dirty_high, kPercent | 60);
  options.configured.all.set(Setting::dirty_low, kPercent | 20);
  options.configured.by_name["db"].set(Setting::dirty_low, kPercent | 25);
  options.configured.by_name["db"].set(Setting::mode, static_cast<std::uint64_t>(Mode::writethrough));
  options.configured.by_name["other"].set(Setting::dirty_high, kPercent | 1);
  const auto start_configured = [&] {
    stop();
    manager_ = DeviceManager::create();
    ASSERT_TRUE(manager_->open_cache_dev(cache_, options).ok());
    for (int i = 0; i < 100; ++i) {
      if (manager_->await_switch("db", 100)->done) break;
    }
  };
  start_configured();
  AddOptions added;
  added.settings.set(Setting::dirty_high, kPercent | 40);
  ASSERT_TRUE(manager_->add("db", backing_, added).ok());
  for (int i = 0; i < 100 && !manager_->await_switch("db", 100)->done; ++i) {
  }
  EXPECT_EQ(in_force(Setting::dirty_high), "40% stored") << "who adds something gets what was asked for";
  EXPECT_EQ(in_force(Setting::dirty_low), "25% config");
  EXPECT_EQ(in_force(Setting::mode), "writethrough config");

  start_configured();
  EXPECT_EQ(in_force(Setting::dirty_high), "60% config");
  ASSERT_TRUE(manager_->set("db", settings(Setting::dirty_high, kPercent | 80)).ok());
  EXPECT_EQ(in_force(Setting::dirty_high), "80% stored");
  ASSERT_TRUE(manager_->set("db", settings(Setting::dirty_low, kPercent | 30), DeviceManager::Lasting::temporary).ok());
  EXPECT_EQ(in_force(Setting::dirty_low), "30% temporary");
  EXPECT_EQ(manager_->set("db", settings(Setting::dirty_low, kPercent | 90), DeviceManager::Lasting::temporary).code(),
            Errc::invalid)
      << "above what is stored for the high mark";
  EXPECT_EQ(manager_->set("db", settings(Setting::mode, 0), DeviceManager::Lasting::temporary).code(), Errc::invalid);

  start_configured();
  EXPECT_EQ(in_force(Setting::dirty_high), "60% config");
  EXPECT_EQ(in_force(Setting::dirty_low), "25% config") << "what was set for a while is not stored";
  ASSERT_TRUE(manager_->set("db", settings(Setting::mode, static_cast<std::uint64_t>(Mode::writearound))).ok());
  ASSERT_TRUE(manager_->await_switch("db", 10'000)->done);
  EXPECT_EQ(in_force(Setting::mode), "writearound stored");
  ASSERT_TRUE(manager_->unset("db", keys({Setting::mode, Setting::dirty_high})).ok());
  ASSERT_TRUE(manager_->await_switch("db", 10'000)->done);
  EXPECT_EQ(in_force(Setting::mode), "writethrough config");
  EXPECT_EQ(in_force(Setting::dirty_high), "60% config");

  stop();
  manager_ = DeviceManager::create();
  ASSERT_TRUE(manager_->open_cache_dev(cache_, {}).ok());
  EXPECT_EQ(in_force(Setting::dirty_high), "50% default") << "it was taken back";
  EXPECT_EQ(in_force(Setting::mode), "writethrough stored");
  ASSERT_TRUE(manager_->unset("db", keys({Setting::mode})).ok());
  ASSERT_TRUE(manager_->await_switch("db", 10'000)->done);
  ASSERT_TRUE(manager_->unset("db", keys({Setting::mode})).ok());
  EXPECT_EQ(in_force(Setting::mode), "writeback default");
}

TEST_F(DeviceManagerTest, ACacheDeviceOfAnotherLabelIsNotOpened) {
  stop();
  manager_ = DeviceManager::create();
  CacheOptions options;
  options.label = "fast";
  const Status refused = manager_->open_cache_dev(cache_, options);
  EXPECT_EQ(refused.code(), Errc::invalid);
  EXPECT_NE(refused.message().find("fast"), std::string::npos) << refused.message();
  EXPECT_TRUE(manager_->status().cache_devs.empty());
}

// What is chosen for a while outlives the backing's going away and coming back.
TEST_F(DeviceManagerTest, WhatIsChosenForAWhileStaysOverAttaching) {
  add("db", backing_);
  Settings changes;
  changes.set(Setting::dirty_max_age, 4321);
  ASSERT_TRUE(manager_->set("db", changes, DeviceManager::Lasting::temporary).ok());
  std::filesystem::resize_file(backing_, kSize / 2);
  (void)manager_->attach("db");
  std::filesystem::resize_file(backing_, kSize);
  for (int i = 0; i < 100 && !manager_->attach("db").ok(); ++i) usleep(50'000);
  const auto values = manager_->settings("db");
  ASSERT_TRUE(values.ok());
  const SettingValue& age = (*values)[static_cast<std::size_t>(Setting::dirty_max_age)];
  EXPECT_EQ(age.value, 4321U);
  EXPECT_EQ(age.origin, SettingOrigin::temporary);
}

TEST_F(DeviceManagerTest, WhatAMountSaysOfShareMinIsMeantForEachAndSummedUp) {
  add("db", backing_);
  const std::string second = dir_ / "second";
  make_file(second, kSize, 's');
  add("logs", second);
  stop();
  const auto mount_with = [this](std::uint32_t percent) {
    manager_ = DeviceManager::create();
    CacheOptions options = keep_dirty();
    options.settings.set(Setting::share_min, kPercent | percent);
    return manager_->open_cache_dev(cache_, options);
  };
  const Status refused = mount_with(50);
  EXPECT_EQ(refused.code(), Errc::invalid);
  EXPECT_NE(refused.message().find("share_min"), std::string::npos) << refused.message();
  EXPECT_TRUE(manager_->status().cache_devs.empty());
  const Status opened = mount_with(30);
  ASSERT_TRUE(opened.ok()) << opened.message();
  const std::string third = dir_ / "third";
  make_file(third, kSize, 't');
  EXPECT_EQ(refusal_of_add("more", third), Errc::invalid) << "it would get 30 % too";
  start();
  EXPECT_EQ(read("logs", 0, 3), "sss");
}

TEST_F(DeviceManagerTest, SettingsThatDoNotGoTogetherChangeNothing) {
  add("db", backing_);
  Settings low;
  low.set(Setting::dirty_low, kPercent | 20);
  ASSERT_TRUE(manager_->set("db", low).ok());
  Settings changes;
  changes.set(Setting::full_max_wait, 500);
  changes.set(Setting::dirty_high, kPercent | 10);
  EXPECT_EQ(manager_->set("db", changes).code(), Errc::invalid);
  EXPECT_EQ(manager_->settings("db").value()[static_cast<std::size_t>(Setting::full_max_wait)].value, 60'000U);
  changes = {};
  changes.set(Setting::full_max_wait, 1);
  EXPECT_EQ(manager_->set("db", changes).code(), Errc::invalid);
  EXPECT_EQ(manager_->set("other", low).code(), Errc::not_found);
  EXPECT_EQ(manager_->settings("other").status().code(), Errc::not_found);
  AddOptions options;
  options.settings = changes;
  const std::string path = dir_ / "other";
  make_file(path, kSize, 'o');
  EXPECT_EQ(manager_->add("other", path, options).code(), Errc::invalid);
}

// --- Adding

TEST_F(DeviceManagerTest, WhatIsAddedIsFoundListedAndServed) {
  EXPECT_EQ(manager_->find("db"), nullptr);
  EXPECT_TRUE(manager_->list().empty());
  add("db", backing_);
  const auto device = manager_->find("db");
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->name(), "db");
  EXPECT_EQ(device->size_bytes(), kSize);
  EXPECT_EQ(manager_->find_inode(device->inode()), device);
  EXPECT_EQ(manager_->find_inode(device->inode() + 1), nullptr);
  EXPECT_EQ(manager_->find("d"), nullptr);
  ASSERT_EQ(manager_->list().size(), 1U);
  EXPECT_EQ(manager_->list()[0], device);
  EXPECT_EQ(read("db", 1000, 5000), std::string(5000, 'b'));
  write("db", 4096, std::string(8192, 'w'));
  EXPECT_EQ(read("db", 4000, 200), std::string(96, 'b') + std::string(104, 'w'));
  const LogicDevStats stated = stats("db");
  EXPECT_EQ(stated.state, "running");
  EXPECT_EQ(stated.detail, "");
  EXPECT_EQ(stated.size_bytes, kSize);
  EXPECT_EQ(stated.backing, std::filesystem::canonical(backing_).string());
  EXPECT_EQ(stated.cache_dev, "cache");
  EXPECT_EQ(stated.dirty_bytes, 8192U);
}

TEST_F(DeviceManagerTest, TheListIsInTheOrderOfNames) {
  for (const char* name : {"c", "a", "d", "b"}) {
    make_file(dir_ / name, kSize);
    add(name, dir_ / name);
  }
  std::string listed;
  for (const auto& device : manager_->list()) listed += device->name();
  std::string stated;
  for (const LogicDevStats& device : manager_->status().logic_devs) stated += device.name;
  EXPECT_EQ(listed, "abcd");
  EXPECT_EQ(stated, "abcd");
}

TEST_F(DeviceManagerTest, NamesAreTakenOnce) {
  add("db", backing_);
  make_file(dir_ / "other", kSize);
  EXPECT_EQ(refusal_of_add("db", dir_ / "other"), Errc::busy);
  EXPECT_NE(message_.find("db"), std::string::npos) << message_;
  EXPECT_EQ(refusal_of_add(".pcache", dir_ / "other"), Errc::invalid);
  EXPECT_EQ(refusal_of_add("a/b", dir_ / "other"), Errc::invalid);
  EXPECT_EQ(refusal_of_add("", dir_ / "other"), Errc::invalid);
  EXPECT_EQ(manager_->list().size(), 1U);
  EXPECT_EQ(refusal_of_add("Db", dir_ / "other"), Errc::ok) << message_;
}

TEST_F(DeviceManagerTest, ABackingIsAttachedOnceWhateverItIsCalled) {
  add("db", backing_);
  std::filesystem::create_hard_link(backing_, dir_ / "hard");
  std::filesystem::create_symlink(backing_, dir_ / "soft");
  std::filesystem::create_directory_symlink(dir_.path(), dir_ / "dir");
  for (const char* path : {"backing", "hard", "soft", "dir/backing", "./backing", "dir/dir/backing"}) {
    EXPECT_EQ(refusal_of_add("other", dir_ / path), Errc::busy) << path;
    EXPECT_NE(message_.find("db"), std::string::npos) << message_;
  }
  EXPECT_EQ(manager_->list().size(), 1U);
}

TEST_F(DeviceManagerTest, ACacheDeviceIsNoBackingAndABackingNoCacheDevice) {
  std::filesystem::create_hard_link(cache_, dir_ / "hard");
  std::filesystem::create_symlink(cache_, dir_ / "soft");
  for (const char* path : {"cache", "hard", "soft"}) {
    EXPECT_EQ(refusal_of_add("db", dir_ / path), Errc::busy) << path;
  }
  // Neither is another mount's.
  format(dir_ / "other", "other");
  const auto another = DeviceManager::create();
  ASSERT_TRUE(another->open_cache_dev(dir_ / "other", {}).ok());
  EXPECT_EQ(refusal_of_add("db", dir_ / "other"), Errc::busy);
  add("db", backing_);
  EXPECT_EQ(manager_->open_cache_dev(backing_, {}).code(), Errc::busy);
  EXPECT_EQ(another->add("db", backing_, {}).code(), Errc::busy);
}

TEST_F(DeviceManagerTest, WhatCannotBeABackingIsRefusedAndForgotten) {
  std::filesystem::create_directory(dir_ / "dir");
  make_file(dir_ / "empty", 0);
  make_file(dir_ / "odd", 1000);
  EXPECT_EQ(refusal_of_add("db", dir_ / "missing"), Errc::not_found);
  EXPECT_EQ(refusal_of_add("db", dir_ / "dir"), Errc::invalid);
  EXPECT_EQ(refusal_of_add("db", dir_ / "empty"), Errc::invalid);
  EXPECT_EQ(refusal_of_add("db", dir_ / "odd"), Errc::invalid);
  EXPECT_NE(refusal_of_add("db", ""), Errc::ok);
  EXPECT_TRUE(manager_->status().logic_devs.empty());
  start();
  EXPECT_TRUE(manager_->status().logic_devs.empty());
  add("db", backing_);  // the name is free
}

TEST_F(DeviceManagerTest, TheSizeMustBeTheBackings) {
  AddOptions options;
  for (const std::uint64_t size : {kSize - 512, kSize + 512, std::size_t{0}}) {
    options.size_bytes = size;
    EXPECT_EQ(manager_->add("db", backing_, options).code(), Errc::invalid) << size;
  }
  EXPECT_TRUE(manager_->status().logic_devs.empty());
  options.size_bytes = kSize;
  EXPECT_TRUE(manager_->add("db", backing_, options).ok());
}

TEST_F(DeviceManagerTest, OfManyWhoAddOneBackingOneSucceeds) {
  std::atomic<int> succeeded{0};
  std::atomic<int> busy{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const Status status = manager_->add("db" + std::to_string(t), backing_, {});
      if (status.ok()) ++succeeded;
      if (status.code() == Errc::busy) ++busy;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(succeeded.load(), 1);
  EXPECT_EQ(busy.load(), 3);
  EXPECT_EQ(manager_->list().size(), 1U);
}

TEST_F(DeviceManagerTest, ACacheDeviceThatIsTooSmallForAnotherHasNoSpace) {
  stop();
  const std::string small = dir_ / "small";
  format(small, "", (2 << 20) + 8 * (256 << 10));
  manager_ = DeviceManager::create();
  ASSERT_TRUE(manager_->open_cache_dev(small, keep_dirty()).ok());
  int added = 0;
  for (; added < 8; ++added) {
    const std::string name = "d" + std::to_string(added);
    make_file(dir_ / name, kSize);
    if (refusal_of_add(name, dir_ / name) != Errc::ok) break;
  }
  EXPECT_GE(added, 1);
  ASSERT_LT(added, 8);
  const std::string refused = "d" + std::to_string(added);
  EXPECT_EQ(refusal_of_add(refused, dir_ / refused), Errc::no_space);
  EXPECT_TRUE(open_backing_dev(dir_ / refused).ok());  // let go of
  EXPECT_EQ(manager_->list().size(), static_cast<std::size_t>(added));
  ASSERT_TRUE(manager_->remove("d0").ok());
  EXPECT_EQ(refusal_of_add(refused, dir_ / refused), Errc::ok) << message_;
}

// --- Several cache devices

TEST_F(DeviceManagerTest, WithoutACacheDeviceNothingCanBeAdded) {
  manager_ = DeviceManager::create();
  EXPECT_EQ(refusal_of_add("db", backing_), Errc::not_found);
  EXPECT_NE(message_.find("--cache"), std::string::npos) << message_;
}

TEST_F(DeviceManagerTest, AmongSeveralCacheDevicesOneIsChosen) {
  format(dir_ / "second", "second");
  ASSERT_TRUE(manager_->open_cache_dev(dir_ / "second", keep_dirty()).ok());
  EXPECT_EQ(refusal_of_add("db", backing_), Errc::invalid);
  for (const char* said : {"cache", "second", "--cache"}) {
    EXPECT_NE(message_.find(said), std::string::npos) << message_;
  }
  EXPECT_EQ(refusal_of_add("db", backing_, "third"), Errc::not_found);
  EXPECT_NE(message_.find("third"), std::string::npos) << message_;
  EXPECT_EQ(refusal_of_add("db", backing_, "second"), Errc::ok) << message_;
  EXPECT_EQ(stats("db").cache_dev, "second");
  EXPECT_EQ(manager_->status().cache_devs.size(), 2U);
  // A name is taken for all of them, and so is a backing.
  make_file(dir_ / "other", kSize);
  EXPECT_EQ(refusal_of_add("db", dir_ / "other", "cache"), Errc::busy);
  EXPECT_EQ(refusal_of_add("db2", backing_, "cache"), Errc::busy);
  EXPECT_EQ(refusal_of_add("db2", dir_ / "second", "cache"), Errc::busy);
}

TEST_F(DeviceManagerTest, ALabelIsOpenOnce) {
  std::filesystem::create_directory(dir_ / "dir");
  format(dir_ / "dir/cache");
  add("db", backing_);
  const Status status = manager_->open_cache_dev(dir_ / "dir/cache", {});
  EXPECT_EQ(status.code(), Errc::invalid);
  EXPECT_NE(status.message().find(dir_ / "dir/cache"), std::string::npos) << status.message();
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
  EXPECT_EQ(read("db", 0, 3), "bbb");
  // It was let go of, and is as good as before.
  const auto another = DeviceManager::create();
  EXPECT_TRUE(another->open_cache_dev(dir_ / "dir/cache", {}).ok());
}

TEST_F(DeviceManagerTest, TwoLogicalDevicesOfOneNameDoNotMeet) {
  add("db", backing_);
  write("db", 0, "mine");
  make_file(dir_ / "other", kSize);
  format(dir_ / "second", "second");
  auto another = DeviceManager::create();
  ASSERT_TRUE(another->open_cache_dev(dir_ / "second", keep_dirty()).ok());
  ASSERT_TRUE(another->add("db", dir_ / "other", {}).ok());
  ASSERT_EQ(write_to(*another->find("db"), 0, "theirs"), 0);
  EXPECT_EQ(manager_->open_cache_dev(dir_ / "second", {}).code(), Errc::busy);  // in use by the other
  another.reset();
  const Status status = manager_->open_cache_dev(dir_ / "second", {});
  EXPECT_EQ(status.code(), Errc::invalid);
  EXPECT_NE(status.message().find("db"), std::string::npos) << status.message();
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
  EXPECT_EQ(read("db", 0, 4), "mine");
  another = DeviceManager::create();
  ASSERT_TRUE(another->open_cache_dev(dir_ / "second", keep_dirty()).ok());
  EXPECT_EQ(read_from(*another->find("db"), 0, 6), "theirs");
}

// --- Opening

// --- Cache devices that come and go while others are in use

TEST_F(DeviceManagerTest, ACacheDeviceIsClosedWhenNothingOnItIsInUseAndCanBeOpenedAgain) {
  add("db", backing_);
  write("db", 0, "kept");
  const std::string second = dir_ / "second";
  format(second);
  make_file(dir_ / "other", kSize, 'o');
  ASSERT_TRUE(manager_->open_cache_dev(second, keep_dirty()).ok());
  EXPECT_EQ(manager_->open_cache_dev(second, keep_dirty()).code(), Errc::busy) << "it is open";
  ASSERT_TRUE(manager_->add("other", dir_ / "other", {.cache_label = "second", .size_bytes = {}, .settings = {}}).ok());
  EXPECT_EQ(manager_->status().cache_devs.back().cache_dev_id, 1U);
  write("other", 0, "dirty");

  EXPECT_EQ(manager_->close_cache_dev("second", true).code(), Errc::busy);
  EXPECT_EQ(manager_->close_cache_dev("nosuch", false).code(), Errc::not_found);
  ASSERT_TRUE(manager_->remove("other", DirtyData::keep).ok());
  const Status dirty = manager_->close_cache_dev(second, false);
  EXPECT_EQ(dirty.code(), Errc::dirty) << dirty.message();
  EXPECT_EQ(manager_->status().cache_devs.size(), 2U);
  ASSERT_TRUE(manager_->close_cache_dev(second, true).ok());
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
  EXPECT_EQ(stats("other").name, "") << "what it held is not listed any more";
  EXPECT_EQ(read("db", 0, 4), "kept");

  ASSERT_TRUE(manager_->open_cache_dev(second, keep_dirty()).ok()) << "nobody has it any more";
  EXPECT_EQ(manager_->status().cache_devs.back().cache_dev_id, 1U) << "the lowest number that is free";
  ASSERT_TRUE(manager_->add("other", dir_ / "other", {.cache_label = "second", .size_bytes = {}, .settings = {}}).ok());
  EXPECT_EQ(read("other", 0, 5), "dirty");
  ASSERT_TRUE(manager_->remove("other").ok());
  ASSERT_TRUE(manager_->close_cache_dev("second", false).ok());
  EXPECT_TRUE(format_cache_dev(second, {.size_bytes = {}, .label = "", .force = true}).ok()) << "it is not locked";
}

TEST_F(DeviceManagerTest, ACacheDeviceIsClosedWhenTheLastOneWhoUsesADeviceOfItIsDone) {
  add("db", backing_);
  auto held = manager_->find("db");
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(manager_->remove("db").ok());
  std::atomic<bool> closed{false};
  std::thread closing([&] {
    EXPECT_TRUE(manager_->close_cache_dev(cache_, false).ok());
    closed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(closed);
  EXPECT_EQ(read_from(*held, 0, 1), "(5)") << "it still can be asked";
  held.reset();
  closing.join();
  EXPECT_TRUE(manager_->status().cache_devs.empty());
}

TEST_F(DeviceManagerTest, WhatIsInTheMountItselfIsNoCacheDevice) {
  struct stat st {};
  ASSERT_EQ(stat(dir_.path().c_str(), &st), 0);
  const std::string second = dir_ / "second";
  format(second);
  manager_->exclude_filesystem(st.st_dev);
  EXPECT_EQ(manager_->open_cache_dev(second, {}).code(), Errc::busy);
  FormatOptions force;
  force.force = true;
  EXPECT_EQ(manager_->format_cache_dev(second, force).code(), Errc::busy);
}

TEST_F(DeviceManagerTest, WhatCouldNotBeOpenedHereIsNotFormattedEither) {
  std::filesystem::create_directory(dir_ / "sub");
  const std::string name = std::filesystem::path(cache_).filename();
  format(dir_ / ("sub/" + name), "precious");
  const std::string before = read_file(dir_ / ("sub/" + name), 0, kCacheSize);
  FormatOptions force;
  force.force = true;
  Status refused = manager_->format_cache_dev(dir_ / ("sub/" + name), force);
  EXPECT_EQ(refused.code(), Errc::invalid) << "without a label it is that of the file";
  EXPECT_NE(refused.message().find(cache_), std::string::npos) << refused.message();
  force.label = std::filesystem::path(cache_).stem();
  EXPECT_EQ(manager_->format_cache_dev(dir_ / ("sub/" + name), force).code(), Errc::invalid);
  EXPECT_EQ(read_file(dir_ / ("sub/" + name), 0, kCacheSize), before);
  force.label = "other";
  EXPECT_TRUE(manager_->format_cache_dev(dir_ / ("sub/" + name), force).ok());
}

TEST_F(DeviceManagerTest, WhatIsNoCacheDeviceIsNotOpened) {
  const auto code = [this](const std::string& path, const CacheOptions& options = {}) {
    return manager_->open_cache_dev(path, options).code();
  };
  EXPECT_EQ(code(dir_ / "missing"), Errc::not_found);
  EXPECT_EQ(code(dir_.path()), Errc::invalid);
  EXPECT_EQ(code(backing_), Errc::invalid);
  for (const char* text : {"", "a note", "one more"}) {
    std::ofstream(dir_ / "note") << text;
    EXPECT_EQ(code(dir_ / "note"), Errc::invalid) << "never was a cache device: " << text;
  }
  EXPECT_EQ(read_file(backing_, 0, kSize), std::string(kSize, 'b'));
  EXPECT_EQ(code(cache_), Errc::busy);
  format(dir_ / "cut", "cut");
  std::filesystem::resize_file(dir_ / "cut", kCacheSize - 4096);
  EXPECT_EQ(code(dir_ / "cut"), Errc::integrity);
  std::filesystem::resize_file(dir_ / "cut", 5000);
  EXPECT_EQ(code(dir_ / "cut"), Errc::integrity) << "part of a page";
  std::filesystem::resize_file(dir_ / "cut", 4096);
  EXPECT_EQ(code(dir_ / "cut"), Errc::integrity) << "one copy of the superblock";
  format(dir_ / "second", "second");
  CacheOptions bad;
  bad.settings.set(Setting::dirty_high, kPercent | 96);
  EXPECT_EQ(code(dir_ / "second", bad), Errc::invalid);
  bad = {};
  bad.epoch_max_ms = 9;
  EXPECT_EQ(code(dir_ / "second", bad), Errc::invalid);
  bad = {};
  bad.settings.set(Setting::dirty_max_age, 86'400'001);
  EXPECT_EQ(code(dir_ / "second", bad), Errc::invalid);
  EXPECT_EQ(manager_->status().cache_devs.size(), 1U);
  EXPECT_EQ(code(dir_ / "second"), Errc::ok);
}

TEST_F(DeviceManagerTest, ReopeningBringsBackWhatWasThere) {
  make_file(dir_ / "other", 2 * kSize, 'o');
  add("db", backing_);
  add("home", dir_ / "other");
  const std::uint64_t db = manager_->find("db")->inode();
  const std::uint64_t home = manager_->find("home")->inode();
  EXPECT_NE(db, home);
  EXPECT_GT(std::min(db, home), 1U);
  write("db", 5000, "unaligned");
  write("home", kSize, std::string(65'536, 'h'));
  start();
  ASSERT_EQ(manager_->list().size(), 2U);
  EXPECT_EQ(manager_->find("db")->inode(), db);
  EXPECT_EQ(manager_->find("home")->inode(), home);
  EXPECT_EQ(read("db", 4999, 11), "bunalignedb");
  EXPECT_EQ(read("home", kSize, 65'536), std::string(65'536, 'h'));
  EXPECT_EQ(read("home", 0, 10), "oooooooooo");
  EXPECT_EQ(stats("db").dirty_bytes, 4096U);
  EXPECT_EQ(stats("home").dirty_bytes, 65'536U);
  // All that time the backings have had none of it.
  EXPECT_EQ(read_file(backing_, 0, kSize), std::string(kSize, 'b'));
}

TEST_F(DeviceManagerTest, AnInodeIsNeverUsedAgain) {
  add("db", backing_);
  const std::uint64_t first = manager_->find("db")->inode();
  ASSERT_TRUE(manager_->remove("db").ok());
  start();
  add("db", backing_);
  EXPECT_NE(manager_->find("db")->inode(), first);
  EXPECT_EQ(manager_->find_inode(first), nullptr);
}

// --- Flushing and removing

TEST_F(DeviceManagerTest, FlushWritesEverythingBack) {
  add("db", backing_);
  write("db", 8192, std::string(8192, 'w'));
  ASSERT_EQ(stats("db").dirty_bytes, 8192U);
  const Status flushed = manager_->flush("db");
  ASSERT_TRUE(flushed.ok()) << flushed.message();
  EXPECT_EQ(stats("db").dirty_bytes, 0U);
  EXPECT_EQ(read_file(backing_, 8191, 8194), "b" + std::string(8192, 'w') + "b");
  EXPECT_EQ(read("db", 8192, 8192), std::string(8192, 'w'));
  EXPECT_TRUE(manager_->flush("db").ok());  // nothing to do
}

TEST_F(DeviceManagerTest, RemoveWritesEverythingBackAndForgets) {
  add("db", backing_);
  write("db", 0, std::string(4096, 'w'));
  const auto held = manager_->find("db");
  const Status removed = manager_->remove("db");
  ASSERT_TRUE(removed.ok()) << removed.message();
  EXPECT_EQ(read_file(backing_, 0, 4097), std::string(4096, 'w') + "b");
  EXPECT_EQ(manager_->find("db"), nullptr);
  EXPECT_EQ(manager_->find_inode(held->inode()), nullptr);
  EXPECT_TRUE(manager_->list().empty());
  EXPECT_TRUE(manager_->status().logic_devs.empty());
  EXPECT_EQ(manager_->status().cache_devs.at(0).segments_used, 0U);
  // Who still holds it gets errors and no data.
  EXPECT_EQ(write_to(*held, 0, "late"), EIO);
  EXPECT_EQ(read_from(*held, 0, 4), "(5)");
  EXPECT_EQ(flush(*held), EIO);
  // The name and the backing are free although it is held.
  add("db", backing_);
  EXPECT_EQ(read("db", 0, 4097), std::string(4096, 'w') + "b");
  ASSERT_TRUE(manager_->remove("db").ok());
  start();
  EXPECT_TRUE(manager_->status().logic_devs.empty());
}

TEST_F(DeviceManagerTest, WhatIsNotThereIsNotFound) {
  add("db", backing_);
  for (const char* name : {"", "other", "DB", ".."}) {
    EXPECT_EQ(manager_->remove(name).code(), Errc::not_found) << name;
    EXPECT_EQ(manager_->flush(name).code(), Errc::not_found) << name;
  }
  EXPECT_EQ(manager_->list().size(), 1U);
}

TEST_F(DeviceManagerTest, ARemovedBackingIsAnybodysAgain) {
  add("db", backing_);
  EXPECT_EQ(open_backing_dev(backing_).status().code(), Errc::busy);
  ASSERT_TRUE(manager_->remove("db").ok());
  EXPECT_TRUE(open_backing_dev(backing_).ok());
}

// --- Drain, detach, attach, and removing without writing back

TEST_F(DeviceManagerTest, ADrainIsBegunAndAwaited) {
  add("db", backing_);
  write("db", 8192, std::string(8192, 'w'));
  const auto number = manager_->begin_drain("db");
  ASSERT_TRUE(number.ok()) << number.status().message();
  constexpr std::uint64_t kMinute = 60'000;
  const auto progress = manager_->await_drain("db", *number, kMinute);
  ASSERT_TRUE(progress.ok()) << progress.status().message();
  EXPECT_TRUE(progress->done);
  EXPECT_EQ(progress->left_bytes, 0U);
  EXPECT_EQ(read_file(backing_, 8191, 8194), "b" + std::string(8192, 'w') + "b");
  EXPECT_EQ(manager_->begin_drain("other").status().code(), Errc::not_found);
}

TEST_F(DeviceManagerTest, ADetachedDeviceIsUsableHoldsNothingAndComesBackInItsMode) {
  constexpr std::uint64_t kMinute = 60'000;
  AddOptions options;
  options.settings.set(Setting::mode, static_cast<std::uint64_t>(Mode::writethrough));
  ASSERT_TRUE(manager_->add("db", backing_, options).ok());
  EXPECT_EQ(stats("db").mode, "writethrough");
  write("db", 0, std::string(8192, 'w'));
  EXPECT_EQ(read_file(backing_, 0, 8193), std::string(8192, 'w') + "b");
  ASSERT_TRUE(manager_->detach("db").ok());
  const auto detached = manager_->await_switch("db", kMinute);
  ASSERT_TRUE(detached.ok() && detached->done);
  EXPECT_EQ(stats("db").mode, "passthrough");
  EXPECT_TRUE(stats("db").detached);
  write("db", 4096, std::string(4096, 'x'));
  EXPECT_EQ(read("db", 0, 8193), std::string(4096, 'w') + std::string(4096, 'x') + "b");
  start();
  EXPECT_TRUE(stats("db").detached) << "it is forgotten by a restart";
  EXPECT_EQ(manager_->status().cache_devs.at(0).segments_used, 0U);
  EXPECT_EQ(read("db", 4095, 2), "wx");
  ASSERT_TRUE(manager_->attach("db").ok());
  const auto attached = manager_->await_switch("db", kMinute);
  ASSERT_TRUE(attached.ok() && attached->done);
  EXPECT_EQ(stats("db").mode, "writethrough");
  EXPECT_FALSE(stats("db").detached);
  EXPECT_EQ(read("db", 4095, 2), "wx");
}

TEST_F(DeviceManagerTest, AModeIsSwitchedToWhileInUseAndStored) {
  constexpr std::uint64_t kMinute = 60'000;
  add("db", backing_);
  write("db", 0, std::string(8192, 'w'));
  Settings changes;
  changes.set(Setting::mode, static_cast<std::uint64_t>(Mode::writearound));
  ASSERT_TRUE(manager_->set("db", changes).ok());
  const auto switched = manager_->await_switch("db", kMinute);
  ASSERT_TRUE(switched.ok() && switched->done);
  EXPECT_EQ(read_file(backing_, 0, 8193), std::string(8192, 'w') + "b");
  EXPECT_EQ(stats("db").mode, "writearound");
  EXPECT_EQ(stats("db").pending_mode, "");
  start();
  EXPECT_EQ(stats("db").mode, "writearound");
}

TEST_F(DeviceManagerTest, WhatIsRemovedAndKeptComesBackWithItsBackingAndName) {
  add("db", backing_);
  write("db", 0, std::string(4096, 'w'));
  ASSERT_TRUE(manager_->remove("db", DirtyData::keep).ok());
  EXPECT_EQ(manager_->find("db"), nullptr);
  EXPECT_EQ(read_file(backing_, 0, 1), "b");
  for (const bool restarted : {false, true}) {
    if (restarted) start();
    EXPECT_EQ(stats("db").state, "parked") << restarted;
    EXPECT_EQ(stats("db").dirty_bytes, 4096U);
    EXPECT_EQ(manager_->find("db"), nullptr);
    // Nothing loses the data by mistake.
    EXPECT_EQ(manager_->remove("db").code(), Errc::dirty);
    EXPECT_EQ(manager_->remove("db", DirtyData::keep).code(), Errc::invalid);
    EXPECT_EQ(refusal_of_add("other", backing_), Errc::busy);
    const std::string another = dir_ / "another";
    make_file(another, kSize, 'c');
    EXPECT_EQ(refusal_of_add("db", another), Errc::busy);
  }
  add("db", backing_);
  EXPECT_EQ(stats("db").state, "running");
  EXPECT_EQ(read("db", 0, 4097), std::string(4096, 'w') + "b");
  ASSERT_TRUE(manager_->flush("db").ok());
  EXPECT_EQ(read_file(backing_, 0, 4097), std::string(4096, 'w') + "b");
  // Once more without a restart in between.
  write("db", 4096, std::string(4096, 'x'));
  ASSERT_TRUE(manager_->remove("db", DirtyData::keep).ok());
  add("db", backing_);
  EXPECT_EQ(read("db", 4095, 2), "wx");
  ASSERT_TRUE(manager_->remove("db").ok());
  EXPECT_EQ(manager_->status().cache_devs.at(0).segments_used, 0U);
}

TEST_F(DeviceManagerTest, DirtyDataIsThrownAwayOnlyWhenThatIsAskedFor) {
  add("db", backing_);
  write("db", 0, std::string(4096, 'w'));
  ASSERT_TRUE(manager_->remove("db", DirtyData::keep).ok());
  ASSERT_TRUE(manager_->remove("db", DirtyData::discard).ok());
  EXPECT_TRUE(manager_->status().logic_devs.empty());
  EXPECT_EQ(manager_->status().cache_devs.at(0).segments_used, 0U);
  add("db", backing_);
  EXPECT_EQ(read("db", 0, 1), "b");
  write("db", 0, std::string(4096, 'w'));
  ASSERT_TRUE(manager_->remove("db", DirtyData::discard).ok());
  add("db", backing_);
  EXPECT_EQ(read("db", 0, 1), "b");
}

// --- Backings that are not what they were

TEST_F(DeviceManagerTest, AMissingBackingIsListedAndNotExposed) {
  make_file(dir_ / "other", kSize, 'o');
  add("db", backing_);
  add("home", dir_ / "other");
  const std::uint64_t inode = manager_->find("db")->inode();
  write("db", 0, "only in the cache");
  stop();
  std::filesystem::rename(backing_, dir_ / "away");
  start();
  expect_no_backing("db");
  EXPECT_EQ(manager_->find_inode(inode), nullptr);
  EXPECT_NE(stats("db").detail.find(backing_), std::string::npos) << stats("db").detail;
  EXPECT_EQ(stats("db").dirty_bytes, 4096U);
  EXPECT_EQ(read("home", 0, 3), "ooo");  // the others go on
  EXPECT_FALSE(std::filesystem::exists(backing_));
  // It is there again at the next opening, with all that was written.
  stop();
  std::filesystem::rename(dir_ / "away", backing_);
  start();
  EXPECT_EQ(stats("db").state, "running");
  EXPECT_EQ(stats("db").detail, "");
  EXPECT_EQ(manager_->find("db")->inode(), inode);
  EXPECT_EQ(read("db", 0, 18), "only in the cacheb");
  ASSERT_TRUE(manager_->flush("db").ok());
  EXPECT_EQ(read_file(backing_, 0, 18), "only in the cacheb");
}

// What the file had is gone with its end, or its name with what it would take.
TEST_F(DeviceManagerTest, DataIsKeptDirtyWhenTheBackingFileIsTruncatedOrReplacedWhileInUse) {
  for (const bool replaced : {false, true}) {
    SCOPED_TRACE(replaced ? "replaced" : "truncated");
    const std::string name = replaced ? "db2" : "db1";
    const std::string path = dir_ / name;
    make_file(path, kSize);
    add(name, path);
    write(name, kSize - 8192, std::string(4096, 'd'));
    if (replaced) {
      make_file(path + ".new", kSize);
      std::filesystem::rename(path + ".new", path);
    } else {
      std::filesystem::resize_file(path, kSize - 8192);
    }
    EXPECT_EQ(manager_->flush(name).code(), Errc::failed);
    EXPECT_EQ(stats(name).dirty_bytes, 4096U);
    EXPECT_NE(stats(name).detail.find(path), std::string::npos) << stats(name).detail;
    EXPECT_NE(stats(name).detail.find("became shorter"), std::string::npos) << stats(name).detail;
    EXPECT_EQ(read(name, kSize - 8192, 4096), std::string(4096, 'd'));
    start();
    expect_no_backing(name);
    EXPECT_EQ(stats(name).dirty_bytes, 4096U);
  }
}

TEST_F(DeviceManagerTest, DirtyDataOfAMissingBackingIsNotRemoved) {
  add("db", backing_);
  write("db", 0, "only in the cache");
  stop();
  std::filesystem::rename(backing_, dir_ / "away");
  start();
  for (int i = 0; i < 2; ++i) {  // a refusal changes nothing
    EXPECT_EQ(manager_->remove("db").code(), Errc::dirty);
    EXPECT_EQ(manager_->flush("db").code(), Errc::dirty);
    expect_no_backing("db");
    EXPECT_EQ(stats("db").dirty_bytes, 4096U);
  }
  make_file(dir_ / "other", kSize);
  EXPECT_EQ(refusal_of_add("db", dir_ / "other"), Errc::busy);  // the name is its own still
  stop();
  std::filesystem::rename(dir_ / "away", backing_);
  start();
  EXPECT_EQ(read("db", 0, 17), "only in the cache");
  EXPECT_TRUE(manager_->remove("db").ok());
}

TEST_F(DeviceManagerTest, AMissingBackingWithoutDirtyDataCanBeForgotten) {
  add("db", backing_);
  write("db", 0, "in both");
  ASSERT_TRUE(manager_->flush("db").ok());
  stop();
  std::filesystem::remove(backing_);
  start();
  expect_no_backing("db");
  const Status removed = manager_->remove("db");
  EXPECT_TRUE(removed.ok()) << removed.message();
  start();
  EXPECT_TRUE(manager_->status().logic_devs.empty());
}

// I9
TEST_F(DeviceManagerTest, AnotherBackingInItsPlaceIsNeverWrittenTo) {
  struct Replacement {
    const char* name;
    std::size_t size;
  };
  add("db", backing_);
  write("db", 0, std::string(65'536, 'w'));
  for (const Replacement& replacement :
       {Replacement{"same_size", kSize}, Replacement{"larger", kSize + 512}, Replacement{"smaller", kSize / 2}}) {
    stop();
    std::filesystem::rename(backing_, dir_ / "away");
    make_file(backing_, replacement.size, 'x');
    const struct stat before = stat_of(backing_);
    start();
    expect_no_backing("db");
    EXPECT_EQ(manager_->flush("db").code(), Errc::dirty) << replacement.name;
    EXPECT_EQ(manager_->remove("db").code(), Errc::dirty) << replacement.name;
    EXPECT_EQ(stats("db").dirty_bytes, 65'536U) << replacement.name;
    EXPECT_TRUE(open_backing_dev(backing_).ok()) << replacement.name;  // it is not kept from others
    stop();
    EXPECT_TRUE(read_file(backing_, 0, 2 * kSize) == std::string(replacement.size, 'x')) << replacement.name;
    const struct stat after = stat_of(backing_);
    EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
    EXPECT_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec) << replacement.name;
    std::filesystem::rename(dir_ / "away", backing_);
    start();
    EXPECT_EQ(stats("db").state, "running") << replacement.name;
  }
  EXPECT_EQ(read("db", 0, 65'536), std::string(65'536, 'w'));
}

// I9: its identity is the recorded one, its size is not.
TEST_F(DeviceManagerTest, ABackingThatIsShorterIsNeverWrittenTo) {
  add("db", backing_);
  write("db", 0, "only in the cache");
  stop();
  std::filesystem::resize_file(backing_, kSize - 4096);
  start();
  expect_no_backing("db");
  EXPECT_NE(stats("db").detail.find(std::to_string(kSize - 4096)), std::string::npos) << stats("db").detail;
  EXPECT_NE(stats("db").detail.find(std::to_string(kSize)), std::string::npos) << stats("db").detail;
  EXPECT_EQ(manager_->flush("db").code(), Errc::dirty);
  EXPECT_EQ(manager_->resize("db").code(), Errc::failed);
  EXPECT_EQ(read_file(backing_, 0, 17), std::string(17, 'b'));
  stop();
  std::filesystem::resize_file(backing_, kSize);
  start();
  EXPECT_EQ(read("db", 0, 17), "only in the cache");
}

TEST_F(DeviceManagerTest, TheMapHasEverySegmentWithItsStateAndOwner) {
  add("db", backing_);
  write("db", 0, std::string(kSize / 2, 'x'));
  const auto check_map = [this] {
    const std::vector<SegmentMap> maps = manager_->segment_maps();
    const CacheDevStats cache = manager_->status().cache_devs[0];
    ASSERT_EQ(maps.size(), 1U);
    const auto count = [&](char state) {
      return static_cast<std::uint64_t>(std::count(maps[0].states.begin(), maps[0].states.end(), state));
    };
    EXPECT_EQ(maps[0].cache_dev, cache.label);
    EXPECT_EQ(maps[0].logic_devs, std::vector<std::string>{"db"});
    ASSERT_EQ(maps[0].states.size(), cache.segments);
    ASSERT_EQ(maps[0].owners.size(), cache.segments);
    EXPECT_EQ(count('.'), cache.segments_free);
    EXPECT_EQ(count('c'), cache.segments_clean);
    EXPECT_EQ(count('d'), cache.segments_dirty);
    for (std::size_t i = 0; i < maps[0].states.size(); ++i)
      EXPECT_EQ(maps[0].owners[i], maps[0].states[i] == '.' ? -1 : 0);
  };
  check_map();
  ASSERT_TRUE(manager_->flush("db").ok());
  check_map();
  EXPECT_NE(manager_->segment_maps()[0].states.find('c'), std::string::npos);
}

TEST_F(DeviceManagerTest, HowFarARecoveryIsIsToldSegmentBySegment) {
  add("db", backing_);
  std::string text(kSize / 2, 'x');
  write("db", 0, text);
  stop();
  manager_ = DeviceManager::create();
  std::vector<RecoveryProgress> told;
  manager_->on_recovery([&](const RecoveryProgress& progress) { told.push_back(progress); });
  ASSERT_TRUE(manager_->open_cache_dev(cache_, {}).ok());
  ASSERT_GE(told.size(), 2U);
  std::uint64_t before = 0;
  for (const RecoveryProgress& now : told) {
    EXPECT_EQ(now.cache_dev, manager_->status().cache_devs[0].label);
    EXPECT_EQ(now.segments, manager_->status().cache_devs[0].segments_used);
    EXPECT_GT(now.segments_done, before);
    before = now.segments_done;
  }
  EXPECT_EQ(before, told.back().segments);
}

TEST_F(DeviceManagerTest, ABackingThatIsLongerIsUsedAsFarAsItWentUntilTheDeviceIsResized) {
  std::vector<std::uint64_t> told;
  add("db", backing_);
  write("db", 0, "only in the cache");
  stop();
  std::filesystem::resize_file(backing_, kSize + 8192);
  start();
  manager_->on_file_changed([&](std::uint64_t inode) { told.push_back(inode); });
  EXPECT_EQ(stats("db").state, "running");
  EXPECT_NE(stats("db").detail.find(std::to_string(kSize + 8192)), std::string::npos) << stats("db").detail;
  EXPECT_EQ(stats("db").size_bytes, kSize);
  EXPECT_EQ(read("db", 0, 17), "only in the cache");
  ASSERT_TRUE(manager_->flush("db").ok());
  EXPECT_TRUE(told.empty());

  ASSERT_TRUE(manager_->resize("db").ok());
  EXPECT_EQ(told, std::vector<std::uint64_t>{manager_->find("db")->inode()});
  EXPECT_EQ(manager_->find("db")->size_bytes(), kSize + 8192);
  write("db", kSize, "in the new part");
  std::filesystem::resize_file(backing_, kSize + 16384);  // while it is in use
  ASSERT_TRUE(manager_->resize("db").ok());
  EXPECT_EQ(stats("db").size_bytes, kSize + 16384);
  EXPECT_EQ(manager_->resize("none").code(), Errc::not_found);
  start();
  EXPECT_EQ(stats("db").size_bytes, kSize + 16384);
  EXPECT_EQ(stats("db").detail, "");
  EXPECT_EQ(read("db", kSize, 15), "in the new part");
  // A device never becomes shorter.
  std::filesystem::resize_file(backing_, kSize);
  EXPECT_EQ(manager_->resize("db").code(), Errc::failed);
  EXPECT_EQ(stats("db").size_bytes, kSize + 16384);
}

TEST_F(DeviceManagerTest, ABackingThatAnotherHasIsListedAndLeftAlone) {
  add("db", backing_);
  write("db", 0, "only in the cache");
  stop();
  auto taken = open_backing_dev(backing_);
  ASSERT_TRUE(taken.ok());
  start();
  expect_no_backing("db");
  EXPECT_NE(stats("db").detail.find("in use"), std::string::npos) << stats("db").detail;
  EXPECT_EQ(manager_->remove("db").code(), Errc::dirty);
  EXPECT_EQ(read_file(backing_, 0, 17), std::string(17, 'b'));
  std::move(taken).value().reset();
  start();
  EXPECT_EQ(read("db", 0, 17), "only in the cache");
}

// Its dirty data would later be written over what went to the same backing meanwhile.
TEST_F(DeviceManagerTest, ABackingThatMovedIsNotAddedASecondTime) {
  add("db", backing_);
  write("db", 0, "only in the cache");
  stop();
  std::filesystem::rename(backing_, dir_ / "moved");
  start();
  expect_no_backing("db");
  EXPECT_EQ(refusal_of_add("db2", dir_ / "moved"), Errc::busy);
  EXPECT_NE(message_.find("db"), std::string::npos) << message_;
}

// --- Block devices

TEST_F(DeviceManagerTest, ABlockDeviceIsRememberedByTheNameGiven) {
  const LoopDevice loop(backing_, false);
  if (!loop) GTEST_SKIP() << loop.missing();
  std::filesystem::create_symlink(loop.path(), dir_ / "by-id");
  add("db", dir_ / "by-id");
  EXPECT_EQ(stats("db").backing, dir_ / "by-id");
  EXPECT_EQ(refusal_of_add("db2", loop.path()), Errc::busy);
  write("db", 512, "only in the cache");
  stop();
  // After a reboot the file is on another loop device, and the link leads there.
  const LoopDevice other(backing_, false);
  ASSERT_TRUE(other) << other.missing();
  std::filesystem::remove(dir_ / "by-id");
  std::filesystem::create_symlink(other.path(), dir_ / "by-id");
  start();
  EXPECT_EQ(stats("db").state, "running") << stats("db").detail;
  EXPECT_EQ(read("db", 511, 19), "bonly in the cacheb");
  EXPECT_TRUE(manager_->remove("db").ok());
}

// --- Out of memory

// The address space that this process has mapped, in bytes.
std::uint64_t mapped_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  statm >> pages;
  return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// Runs `body` with room for so many more bytes.
template <typename Body>
auto with_room_for(std::uint64_t bytes, Body body) {
  struct rlimit limit {};
  getrlimit(RLIMIT_AS, &limit);
  const struct rlimit before = limit;
  limit.rlim_cur = mapped_bytes() + bytes;
  setrlimit(RLIMIT_AS, &limit);
  auto result = body();
  setrlimit(RLIMIT_AS, &before);
  return result;
}

// Wherever memory runs out: an error says so, and what was set up is gone, so that the same works later.
TEST_F(DeviceManagerTest, WithoutMemoryOpeningAndAddingFailAndLeaveNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer takes all address space";
#endif
  add("db", backing_);
  make_file(dir_ / "other", kSize, 'o');
  stop();
  bool failed = false;
  bool opened = false;
  constexpr std::uint64_t kStep = 1 << 20;
  for (std::uint64_t room = 0; !opened; room += kStep) {
    const int outcome = result_in_child([&] {
      const auto manager = DeviceManager::create();
      const Status status = with_room_for(room, [&] { return manager->open_cache_dev(cache_, keep_dirty()); });
      if (status.ok()) return 0;
      if (status.code() != Errc::failed || !manager->status().cache_devs.empty()) return 2;
      return manager->open_cache_dev(cache_, keep_dirty()).ok() ? 1 : 3;
    });
    ASSERT_TRUE(outcome == 0 || outcome == 1) << outcome << " with room for " << room << " bytes";
    (outcome == 0 ? opened : failed) = true;
    ASSERT_LT(room, 1ULL << 30) << "it never opens";
  }
  EXPECT_TRUE(failed);

  for (std::uint64_t room = 0; room < 24 * kStep; room += kStep) {
    const int outcome = result_in_child([&] {
      const auto manager = DeviceManager::create();
      if (!manager->open_cache_dev(cache_, keep_dirty()).ok()) return 3;
      const Status status = with_room_for(room, [&] { return manager->add("other", dir_ / "other", {}); });
      if (!status.ok() && manager->status().logic_devs.size() != 1) return 2;
      if (!status.ok() && !manager->add("other", dir_ / "other", {}).ok()) return 4;
      return manager->remove("other").ok() ? 0 : 5;
    });
    ASSERT_EQ(outcome, 0) << "with room for " << room << " bytes";
  }
  start();
  EXPECT_EQ(stats("db").state, "running");
  EXPECT_EQ(manager_->status().logic_devs.size(), 1U);
}

}  // namespace
}  // namespace pcache
