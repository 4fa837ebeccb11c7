// Setting up while threads, descriptors or locked memory run out: each operation says so or does without, leaves
// nothing behind, and works when it is tried again.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "control/control_server.h"
#include "mount/fuse_ops.h"
#include "pcache/control_client.h"
#include "pcache/device_manager.h"
#include "pcache/inspect.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/mount/system_resources.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 4 << 20;
// More than any operation takes; one that never succeeds ends there.
constexpr std::size_t kEnough = 100;

class Setup : public testing::Test {
 protected:
  void SetUp() override {
    setenv("PCACHEFS_RUN_DIR", (dir_ / "run").c_str(), 1);
    make_file(backing_, kSize, 'b');
    ASSERT_TRUE(format_cache_dev(cache_, format_options()).ok());
    const auto manager = DeviceManager::create();
    ASSERT_TRUE(manager->open_cache_dev(cache_, {}).ok());
    ASSERT_TRUE(manager->add("db", backing_, {}).ok());
    std::filesystem::create_directory(mount_point_);
  }
  void TearDown() override { unsetenv("PCACHEFS_RUN_DIR"); }

  static FormatOptions format_options() {
    FormatOptions options;
    options.size_bytes = 12 << 20;
    options.segment_size_bytes = 256 << 10;
    return options;
  }

  // An operation: sets something up, takes it down again, and returns what the setting up came to.
  using Operation = std::function<Status()>;

  // `scarce` runs the operation with little of something, `n` of it, and sets whether that was too little.
  static void with_ever_more(const Operation& operation,
                             const std::function<Status(std::size_t n, bool& too_little)>& scarce, bool may_do_without,
                             std::size_t at_least) {
    const std::size_t descriptors = open_descriptors();
    const int threads = live_threads();
    std::size_t failed = 0;
    bool too_little = true;
    for (std::size_t n = 0; too_little; ++n) {
      ASSERT_LT(n, kEnough);
      SCOPED_TRACE("number " + std::to_string(n));
      const Status status = scarce(n, too_little);
      if (too_little) {
        ++failed;
        EXPECT_TRUE(!status.ok() || may_do_without);
        EXPECT_TRUE(status.ok() || !status.message().empty());
      } else {
        EXPECT_TRUE(status.ok()) << status.message();
      }
      EXPECT_EQ(open_descriptors(), descriptors);
      EXPECT_EQ(live_threads(), threads);
      const Status again = operation();
      EXPECT_TRUE(again.ok()) << again.message() << ", after " << status.message();
      EXPECT_EQ(open_descriptors(), descriptors);
      EXPECT_EQ(live_threads(), threads);
      if (HasFailure()) return;
    }
    EXPECT_GE(failed, at_least);
  }

  // The n-th thread fails, for all n.
  static void with_failing_threads(const Operation& operation, std::size_t at_least) {
    with_failing(Resource::thread, operation, false, at_least);
  }
  static void with_failing(Resource resource, const Operation& operation, bool may_do_without, std::size_t at_least) {
    with_ever_more(
        operation,
        [&](std::size_t n, bool& too_little) {
          FailingResource failing(resource, n);
          const Status status = operation();
          too_little = failing.stop();
          return status;
        },
        may_do_without, at_least);
  }
  // Only n descriptors can be had, for all n up to what is enough.
  static void with_few_descriptors(const Operation& operation, std::size_t at_least) {
    with_ever_more(
        operation,
        [&](std::size_t n, bool& too_little) {
          const FewDescriptors few(n);
          Status status = operation();
          too_little = !status.ok();
          return status;
        },
        false, at_least);
  }

  Operation format() {
    return [this] {
      const std::string path = dir_ / "new";
      const Status status = format_cache_dev(path, format_options());
      EXPECT_EQ(std::filesystem::exists(path), status.ok());
      std::filesystem::remove(path);
      return status;
    };
  }
  // A backing for which there is no descriptor counts as one that is missing: the others are served, and status says
  // why this one is not.
  Operation open_cache() {
    return [this] {
      const auto manager = DeviceManager::create();
      const Status status = manager->open_cache_dev(cache_, {});
      const StatusReport report = manager->status();
      EXPECT_EQ(report.cache_devs.size(), status.ok() ? 1U : 0U);
      if (!status.ok() || manager->find("db") != nullptr) return status;
      EXPECT_EQ(report.logic_devs.size(), 1U);
      EXPECT_EQ(report.logic_devs.front().state, "no_backing");
      return Status(Errc::failed, report.logic_devs.front().detail);
    };
  }
  // With a cache device that stays open.
  Operation add() {
    return [this] {
      const Status status = manager_->add("other", other_, {});
      EXPECT_EQ(manager_->find("other") != nullptr, status.ok());
      if (status.ok()) {
        const Status removed = manager_->remove("other");
        EXPECT_TRUE(removed.ok()) << removed.message();
      }
      return status;
    };
  }
  void open_for_add() {
    make_file(other_, kSize, 'o');
    manager_ = DeviceManager::create();
    ASSERT_TRUE(manager_->open_cache_dev(cache_, {}).ok());
  }
  Operation check() {
    return [this] {
      const auto report = check_cache_dev(cache_, [](const Damage& damage) { ADD_FAILURE() << damage.detail; });
      return report.status();
    };
  }
  Operation dump() {
    return [this] {
      DumpVisitor visitor{[](const auto&) {}, [](const auto&) {}, [](const auto&) {}, [](const auto&) {}};
      return dump_cache_dev(cache_, visitor);
    };
  }
  Operation salvage() {
    return [this] {
      const std::string image = dir_ / "image";
      SalvageOptions options;
      options.image = image;
      const auto report = salvage_logic_dev(cache_, "db", options, [](const Damage&) {});
      EXPECT_EQ(std::filesystem::exists(image), report.ok());
      Status status = report.status();
      if (report.ok() && report->backing.empty()) status = Status(Errc::failed, report->backing_detail);
      if (status.ok()) {
        EXPECT_TRUE(read_file(image, 0, kSize) == read_file(backing_, 0, kSize));
      }
      std::filesystem::remove(image);
      return status;
    };
  }
  Operation serve_control() {
    return [this] {
      const auto manager = DeviceManager::create();
      const auto server = ControlServer::start(mount_point_, *manager, [] {});
      EXPECT_EQ(std::filesystem::exists(control_socket_path(mount_point_)), server.ok());
      return server.status();
    };
  }
  Operation mount_without_kernel() {
    return [] {
      const auto manager = DeviceManager::create();
      return FuseMount::without_kernel(*manager).status();
    };
  }
  bool is_mounted() {
    struct stat inside {};
    struct stat outside {};
    return stat(mount_point_.c_str(), &inside) == 0 && stat(dir_.path().c_str(), &outside) == 0 &&
           inside.st_dev != outside.st_dev;
  }
  Operation mount() {
    return [this] {
      const auto manager = DeviceManager::create();
      Status status;
      {
        auto mount = FuseMount::mount(mount_point_, {}, *manager);
        status = mount.status();
        if (mount.ok()) status = (*mount)->start();
        if (status.ok()) {
          EXPECT_TRUE(is_mounted());
          (*mount)->stop();
          (*mount)->unmount();
        }
      }
      EXPECT_FALSE(is_mounted());
      return status;
    };
  }
  static bool can_mount() { return geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0; }

  TempDir dir_;
  const std::string cache_ = dir_ / "cache";
  const std::string backing_ = dir_ / "backing";
  const std::string other_ = dir_ / "other";
  const std::string mount_point_ = dir_ / "mnt";
  std::unique_ptr<DeviceManager> manager_;
};

TEST_F(Setup, WhicheverThreadCannotBeMadeNothingIsLeftBehind) {
  {
    SCOPED_TRACE("opening a cache device");
    with_failing_threads(open_cache(), 2);
  }
  {
    SCOPED_TRACE("adding a logical device");
    ASSERT_NO_FATAL_FAILURE(open_for_add());
    with_failing_threads(add(), 1);
    manager_.reset();
  }
  {
    SCOPED_TRACE("starting the control server");
    with_failing_threads(serve_control(), 5);
  }
  // These make none.
  for (const Operation& operation : {format(), check(), dump(), salvage(), mount_without_kernel()}) {
    with_failing_threads(operation, 0);
  }
}

TEST_F(Setup, HoweverFewDescriptorsThereAreNothingIsLeftBehind) {
  {
    SCOPED_TRACE("formatting");
    with_few_descriptors(format(), 1);
  }
  {
    SCOPED_TRACE("opening a cache device");
    with_few_descriptors(open_cache(), 3);
  }
  {
    SCOPED_TRACE("adding a logical device");
    ASSERT_NO_FATAL_FAILURE(open_for_add());
    with_few_descriptors(add(), 2);
    manager_.reset();
  }
  {
    SCOPED_TRACE("checking");
    with_few_descriptors(check(), 1);
  }
  {
    SCOPED_TRACE("dumping");
    with_few_descriptors(dump(), 1);
  }
  {
    SCOPED_TRACE("salvaging");
    with_few_descriptors(salvage(), 3);
  }
  {
    SCOPED_TRACE("starting the control server");
    with_few_descriptors(serve_control(), 3);
  }
  {
    SCOPED_TRACE("a mount without a kernel");
    with_few_descriptors(mount_without_kernel(), 1);
  }
}

TEST_F(Setup, AMountNeedsItsThreadsAndDescriptorsAndIsGoneWithoutThem) {
  if (!can_mount()) GTEST_SKIP() << "needs root and /dev/fuse";
  {
    SCOPED_TRACE("threads");
    with_failing_threads(mount(), 1);
  }
  {
    SCOPED_TRACE("descriptors");
    with_few_descriptors(mount(), 4);
  }
}

TEST_F(Setup, AMountDoesWithoutLockedMemory) {
  if (!can_mount()) GTEST_SKIP() << "needs root and /dev/fuse";
  with_failing(Resource::locked_memory, mount(), true, 1);
  std::size_t locked = 0;
  for (bool refused = true; refused; ++locked) {
    FailingResource failing(Resource::locked_memory, locked);
    const Status status = mount()();
    refused = failing.stop();
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

}  // namespace
}  // namespace pcache
