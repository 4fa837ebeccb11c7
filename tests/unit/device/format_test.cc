#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <optional>

#include "media/layout.h"
#include "pcache/backing_dev.h"
#include "pcache/device_manager.h"
#include "pcache/pmem_space.h"
#include "tests/support/child_process.h"
#include "tests/support/logic_io.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 16 << 20;
constexpr std::size_t kBackingSize = 4 << 20;

FormatOptions of_size(std::uint64_t size) {
  FormatOptions options;
  options.size_bytes = size;
  return options;
}

FormatOptions forced(bool discard_dirty = false) {
  FormatOptions options;
  options.force = true;
  options.discard_dirty = discard_dirty;
  return options;
}

// The superblock of an ext4 filesystem, as far as it is looked at to tell one.
void make_ext4_image(const std::string& path) {
  make_file(path, kSize);
  write_file(path, 1024 + 24, std::string("\x02\0\0\0", 4));  // blocks of 4 KiB
  write_file(path, 1024 + 56, std::string("\x53\xef", 2));    // the magic number
  write_file(path, 1024 + 96, std::string("\x40\0\0\0", 4));  // has extents, as ext4 alone has
}

// An MBR with one partition for Linux.
void make_partitioned_image(const std::string& path) {
  make_file(path, kSize);
  write_file(path, 446, std::string("\0\0\x02\0\x83\0\0\0\x00\x08\0\0\x00\x10\0\0", 16));
  write_file(path, 510, "\x55\xaa");
}

class FormatTest : public testing::Test {
 protected:
  // The refusal must name the path.
  Errc refusal(const std::string& path, const FormatOptions& options) {
    const Status status = format_cache_dev(path, options);
    message_ = status.message();
    EXPECT_TRUE(status.ok() || message_.find(path) != std::string::npos) << message_;
    return status.code();
  }

  // What a mount finds there.
  CacheDevStats stats_of(const std::string& path) {
    const auto manager = DeviceManager::create();
    const Status opened = manager->open_cache_dev(path, {});
    EXPECT_TRUE(opened.ok()) << opened.message();
    const auto report = manager->status();
    return report.cache_devs.empty() ? CacheDevStats() : report.cache_devs.front();
  }

  void make_cache() {
    const Status made = format_cache_dev(path_, of_size(kSize));
    ASSERT_TRUE(made.ok()) << made.message();
  }

  // A cache device with data that is nowhere else.
  void make_dirty_cache() {
    make_cache();
    make_file(dir_ / "backing", kBackingSize);
    const auto manager = DeviceManager::create();
    ASSERT_TRUE(manager->open_cache_dev(path_, keep_dirty()).ok());
    ASSERT_TRUE(manager->add("db", dir_ / "backing", {}).ok());
    ASSERT_EQ(write_to(*manager->find("db"), 0, std::string(8192, 'd')), 0);
  }

  void expect_dirty_data_is_there() {
    const auto manager = DeviceManager::create();
    const Status opened = manager->open_cache_dev(path_, keep_dirty());
    ASSERT_TRUE(opened.ok()) << opened.message();
    const auto device = manager->find("db");
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(read_from(*device, 0, 8192), std::string(8192, 'd'));
    EXPECT_EQ(device->stats().dirty_bytes, 8192U);
  }

  TempDir dir_;
  const std::string path_ = dir_ / "cache";
  std::string message_;
};

TEST_F(FormatTest, MakesAFileThatIsFullyAllocatedAndMounts) {
  make_cache();
  const struct stat st = stat_of(path_);
  EXPECT_EQ(st.st_size, static_cast<off_t>(kSize));
  EXPECT_GE(st.st_blocks, static_cast<blkcnt_t>(kSize / 512));
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  const CacheDevStats stats = stats_of(path_);
  EXPECT_EQ(stats.size_bytes, kSize);
  EXPECT_EQ(stats.segments_used, 0U);
  EXPECT_GE(stats.segments, 8U);
}

TEST_F(FormatTest, AHoleOfAFileIsAllocated) {
  make_file(path_, kSize);
  ASSERT_LT(stat_of(path_).st_blocks, static_cast<blkcnt_t>(kSize / 512));
  EXPECT_EQ(refusal(path_, {}), Errc::ok) << message_;
  EXPECT_GE(stat_of(path_).st_blocks, static_cast<blkcnt_t>(kSize / 512));
}

TEST_F(FormatTest, AFileGetsTheSizeAskedForOrKeepsItsOwn) {
  make_file(path_, 0);
  EXPECT_EQ(refusal(path_, {}), Errc::invalid);  // empty, and no size
  EXPECT_EQ(refusal(path_, of_size(kSize)), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).size_bytes, kSize);
  FormatOptions larger = forced();
  larger.size_bytes = 2 * kSize;
  EXPECT_EQ(refusal(path_, larger), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).size_bytes, 2 * kSize);
  EXPECT_EQ(refusal(path_, forced()), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).size_bytes, 2 * kSize);
  FormatOptions smaller = forced();
  smaller.size_bytes = kSize;
  EXPECT_EQ(refusal(path_, smaller), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).size_bytes, kSize);
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
}

TEST_F(FormatTest, EachFormattingMakesAnotherCacheDevice) {
  make_cache();
  const std::string first = stats_of(path_).uuid;
  ASSERT_EQ(refusal(path_, forced()), Errc::ok) << message_;
  const std::string second = stats_of(path_).uuid;
  EXPECT_EQ(first.size(), 36U);
  EXPECT_NE(first, second);
}

TEST_F(FormatTest, AFileIsOnlyMadeWhenASizeIsGiven) {
  EXPECT_EQ(refusal(path_, {}), Errc::invalid);
  EXPECT_NE(message_.find("--size"), std::string::npos) << message_;
  EXPECT_EQ(refusal(path_, forced(true)), Errc::invalid);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(FormatTest, NothingHalfMadeIsLeftBehind) {
  FormatOptions large_segments = of_size(kSize);
  large_segments.segment_size_bytes = 64 << 20;
  FormatOptions bad_segments = of_size(kSize);
  bad_segments.segment_size_bytes = 300 << 10;
  FormatOptions bad_label = of_size(kSize);
  bad_label.label = "a b";
  const std::pair<FormatOptions, Errc> bad[] = {
      {of_size(4096), Errc::invalid},       {of_size(kSize + 100), Errc::invalid},
      {large_segments, Errc::invalid},      {bad_segments, Errc::invalid},
      {bad_label, Errc::invalid},           {of_size(1ULL << 60), Errc::no_space},
      {of_size(~0ULL >> 1), Errc::invalid}, {of_size(1ULL << 63), Errc::invalid},
  };
  for (const auto& [options, code] : bad) {
    EXPECT_EQ(format_cache_dev(path_, options).code(), code) << *options.size_bytes;
    EXPECT_TRUE(std::filesystem::is_empty(dir_.path())) << *options.size_bytes;
  }
}

TEST_F(FormatTest, SizesTooSmallForEightSegmentsAreInvalid) {
  FormatOptions options = of_size((2 << 20) + 8 * (256 << 10) - 4096);
  options.segment_size_bytes = 256 << 10;
  EXPECT_EQ(refusal(path_, options), Errc::invalid);
  EXPECT_NE(message_.find("--size"), std::string::npos) << message_;
  options.size_bytes = (2 << 20) + 8 * (256 << 10);
  EXPECT_EQ(refusal(path_, options), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).segments, 8U);
}

TEST_F(FormatTest, SegmentSizesArePowersOfTwoInTheirBounds) {
  for (const std::uint64_t size :
       {1ULL, 4096ULL, 128ULL << 10, (256ULL << 10) + 1, 384ULL << 10, 3ULL << 20, 128ULL << 20, 1ULL << 63, ~0ULL}) {
    FormatOptions options = of_size(kSize);
    options.segment_size_bytes = size;
    EXPECT_EQ(format_cache_dev(path_, options).code(), Errc::invalid) << size;
    EXPECT_FALSE(std::filesystem::exists(path_)) << size;
  }
  for (const std::uint64_t size : {256ULL << 10, 512ULL << 10, 1ULL << 20}) {
    FormatOptions options = of_size(kSize);
    options.segment_size_bytes = size;
    options.force = true;
    EXPECT_EQ(refusal(path_, options), Errc::ok) << message_;
    EXPECT_EQ(stats_of(path_).segment_size_bytes, size);
  }
}

TEST_F(FormatTest, LabelsHaveFewKindsOfCharacters) {
  for (const std::string& label : {std::string(64, 'l'), std::string("a b"), std::string("a/b"), std::string("a\n"),
                                   std::string("\xc3\xb6"), std::string("a:b"), std::string("l\0", 2)}) {
    FormatOptions options = of_size(kSize);
    options.label = label;
    EXPECT_EQ(format_cache_dev(path_, options).code(), Errc::invalid) << label;
    EXPECT_FALSE(std::filesystem::exists(path_)) << label;
  }
  for (const std::string& label : {std::string(63, 'l'), std::string("A_z.0-9"), std::string("-"), std::string("..")}) {
    FormatOptions options = of_size(kSize);
    options.label = label;
    options.force = true;
    EXPECT_EQ(refusal(path_, options), Errc::ok) << message_;
    EXPECT_EQ(stats_of(path_).label, label);
  }
}

TEST_F(FormatTest, WithoutALabelTheFileNamesIt) {
  const std::pair<const char*, const char*> names[] = {
      {"cache", "cache"}, {"fast.img", "fast"}, {"my cache.v2.img", "my-cache.v2"}, {".hidden", ".hidden"}};
  for (const auto& [file, label] : names) {
    EXPECT_EQ(refusal(dir_ / file, of_size(kSize)), Errc::ok) << message_;
    EXPECT_EQ(stats_of(dir_ / file).label, label);
  }
  const std::string longest = dir_ / std::string(200, 'n');
  EXPECT_EQ(refusal(longest, of_size(kSize)), Errc::ok) << message_;
  EXPECT_EQ(stats_of(longest).label, std::string(63, 'n'));
}

TEST_F(FormatTest, WhatTheFileHoldsIsNamedAndKeptWithoutForce) {
  const struct {
    const char* name;
    void (*make)(const std::string& path);
    const char* said;
  } contents[] = {
      {"ext4", make_ext4_image, "ext4 filesystem"},
      {"mbr", make_partitioned_image, "dos partition table"},
      {"data", [](const std::string& path) { make_file(path, kSize, 'x'); }, "data"},
      {"first_byte",
       [](const std::string& path) {
         make_file(path, kSize);
         write_file(path, 0, "x");
       },
       "data"},
      {"last_byte",
       [](const std::string& path) {
         make_file(path, kSize);
         write_file(path, kSize - 1, "x");
       },
       "data"},
  };
  for (const auto& content : contents) {
    const std::string path = dir_ / content.name;
    content.make(path);
    const std::string before = read_file(path, 0, kSize);
    for (const auto& options : {FormatOptions(), of_size(kSize), of_size(2 * kSize)}) {
      EXPECT_EQ(refusal(path, options), Errc::busy) << content.name;
      EXPECT_NE(message_.find(content.said), std::string::npos) << message_;
      EXPECT_NE(message_.find("--force"), std::string::npos) << message_;
      EXPECT_TRUE(read_file(path, 0, 2 * kSize) == before) << content.name;
    }
    EXPECT_EQ(refusal(path, forced()), Errc::ok) << message_;
    EXPECT_EQ(stats_of(path).size_bytes, kSize);
  }
}

TEST_F(FormatTest, ACacheDeviceIsKeptWithoutForce) {
  make_cache();
  const std::string uuid = stats_of(path_).uuid;
  FormatOptions discard;
  discard.discard_dirty = true;  // needs force too
  for (const auto& options : {FormatOptions(), of_size(kSize), of_size(2 * kSize), discard}) {
    EXPECT_EQ(refusal(path_, options), Errc::busy);
    EXPECT_NE(message_.find("--force"), std::string::npos) << message_;
    EXPECT_EQ(stats_of(path_).uuid, uuid);
    EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
  }
  EXPECT_EQ(refusal(path_, forced()), Errc::ok) << message_;
  EXPECT_NE(stats_of(path_).uuid, uuid);
}

TEST_F(FormatTest, DirtyDataIsKeptEvenWithForce) {
  make_dirty_cache();
  FormatOptions larger = forced();
  larger.size_bytes = 2 * kSize;
  for (const auto& options : {forced(), larger}) {
    EXPECT_EQ(refusal(path_, options), Errc::dirty);
    EXPECT_NE(message_.find("8 KiB"), std::string::npos) << message_;
    EXPECT_NE(message_.find("--discard-dirty"), std::string::npos) << message_;
    expect_dirty_data_is_there();
  }
  EXPECT_EQ(refusal(path_, forced(true)), Errc::ok) << message_;
  const auto manager = DeviceManager::create();
  ASSERT_TRUE(manager->open_cache_dev(path_, {}).ok());
  EXPECT_TRUE(manager->status().logic_devs.empty());
}

TEST_F(FormatTest, DataThatTheBackingHasIsNotDirty) {
  make_dirty_cache();
  {
    const auto manager = DeviceManager::create();
    ASSERT_TRUE(manager->open_cache_dev(path_, keep_dirty()).ok());
    ASSERT_TRUE(manager->flush("db").ok());
  }
  EXPECT_EQ(refusal(path_, forced()), Errc::ok) << message_;
}

// Nobody can tell any more whether there is dirty data.
TEST_F(FormatTest, ADamagedCacheDeviceCountsAsDirty) {
  make_dirty_cache();
  write_file(path_, 200, "damage");
  write_file(path_, 4096 + 200, "damage");
  EXPECT_EQ(refusal(path_, forced()), Errc::dirty);
  EXPECT_EQ(refusal(path_, forced(true)), Errc::ok) << message_;
  EXPECT_EQ(stats_of(path_).size_bytes, kSize);
}

TEST_F(FormatTest, OneOfTheTwoSuperblocksSavesTheCacheDevice) {
  make_dirty_cache();
  write_file(path_, 0, std::string(4096, '\0'));
  EXPECT_EQ(refusal(path_, {}), Errc::busy);
  EXPECT_EQ(refusal(path_, forced()), Errc::dirty);
  expect_dirty_data_is_there();
}

TEST_F(FormatTest, WhatIsInUseIsRefusedWhateverIsForced) {
  make_dirty_cache();
  const auto manager = DeviceManager::create();
  ASSERT_TRUE(manager->open_cache_dev(path_, keep_dirty()).ok());
  FormatOptions larger = forced(true);
  larger.size_bytes = 2 * kSize;
  for (const auto& options : {FormatOptions(), forced(), forced(true), larger}) {
    EXPECT_EQ(refusal(path_, options), Errc::busy);
    EXPECT_EQ(refusal(dir_ / "backing", options), Errc::busy);
  }
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
  EXPECT_EQ(stat_of(dir_ / "backing").st_size, static_cast<off_t>(kBackingSize));
  EXPECT_EQ(read_from(*manager->find("db"), 0, 8192), std::string(8192, 'd'));
}

TEST_F(FormatTest, ARefusedFormatLeavesTheCacheDeviceAsItIs) {
  struct Refusal {
    const char* why;
    std::optional<std::uint64_t> size;
    std::uint64_t segment_size;
    Errc code;
  };
  for (const Refusal& refused :
       {Refusal{"large_segments", std::nullopt, 64 << 20, Errc::invalid},
        Refusal{"too_small", 1 << 20, 0, Errc::invalid}, Refusal{"part_of_a_page", kSize - 2048, 0, Errc::invalid},
        Refusal{"too_large", 1ULL << 42, 0, Errc::no_space}, Refusal{"beyond_any_file", ~0ULL, 0, Errc::invalid}}) {
    const std::string path = dir_ / refused.why;
    ASSERT_TRUE(format_cache_dev(path, of_size(kSize)).ok());
    const std::string before = read_file(path, 0, kSize);
    FormatOptions options = forced();
    options.size_bytes = refused.size;
    options.segment_size_bytes = refused.segment_size;
    EXPECT_EQ(refusal(path, options), refused.code) << refused.why << ": " << message_;
    EXPECT_EQ(stat_of(path).st_size, static_cast<off_t>(kSize)) << refused.why;
    // All of it: the tables too.
    EXPECT_TRUE(read_file(path, 2 * kMediaPage, kSize) == before.substr(2 * kMediaPage)) << refused.why;
    const auto manager = DeviceManager::create();
    EXPECT_TRUE(manager->open_cache_dev(path, {}).ok()) << refused.why;
  }
}

// On a filesystem of its own, in a mount namespace of its own, with room for one cache device and not for two.
TEST_F(FormatTest, WhatACacheDeviceHasAlreadyNeedNotBeFree) {
  enum Result { fine, cannot_mount, cannot_make, makes_two, leaves_half, cannot_make_again };
  const int result = result_in_child([this]() -> int {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("test", dir_.path().c_str(), "tmpfs", 0, "size=24M") != 0) {
      return cannot_mount;
    }
    if (!format_cache_dev(path_, of_size(kSize)).ok()) return cannot_make;
    if (format_cache_dev(dir_ / "second", of_size(kSize)).code() != Errc::no_space) return makes_two;
    if (std::filesystem::exists(dir_ / "second")) return leaves_half;
    return format_cache_dev(path_, forced()).ok() ? fine : cannot_make_again;
  });
  if (result == cannot_mount) GTEST_SKIP() << "only root can mount a filesystem";
  EXPECT_EQ(result, fine);
}

TEST_F(FormatTest, AFileWithPartOfAPageCanBeMadeFit) {
  make_file(path_, 5000, 'x');
  EXPECT_EQ(refusal(path_, of_size(kSize)), Errc::busy);
  EXPECT_EQ(stat_of(path_).st_size, 5000);
  FormatOptions options = forced();
  options.size_bytes = kSize;
  EXPECT_EQ(refusal(path_, options), Errc::ok) << message_;
}

TEST_F(FormatTest, DirectoriesAndTheirContentAreLeftAlone) {
  const std::string dir = dir_ / "dir";
  std::filesystem::create_directory(dir);
  for (const auto& options : {of_size(kSize), FormatOptions(), forced(true)}) {
    EXPECT_EQ(refusal(dir, options), Errc::invalid);
    EXPECT_EQ(refusal(dir + "/", options), Errc::invalid);
    EXPECT_TRUE(std::filesystem::is_empty(dir));
  }
  EXPECT_EQ(refusal(dir_ / "missing/cache", of_size(kSize)), Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "missing"));
}

TEST_F(FormatTest, WhatIsNoFileIsRefused) {
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);  // opening it would block
  for (const std::string& path : {dir_ / "pipe", std::string("/dev/null")}) {
    EXPECT_EQ(refusal(path, forced(true)), Errc::invalid);
    EXPECT_EQ(refusal(path, of_size(kSize)), Errc::invalid);
  }
}

// A file is made where the caller says, and not where a link that leads to nothing may point to.
TEST_F(FormatTest, ADanglingLinkIsNotFollowed) {
  std::filesystem::create_symlink(dir_ / "target", path_);
  EXPECT_NE(refusal(path_, of_size(kSize)), Errc::ok);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "target"));
  EXPECT_TRUE(std::filesystem::is_symlink(path_));
}

TEST_F(FormatTest, WithoutTheRightToItNothingIsMadeOrOverwritten) {
  make_cache();
  const std::string uuid = stats_of(path_).uuid;
  ASSERT_EQ(chmod(dir_.path().c_str(), 0555), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0444), 0);
  const auto format = [&](const std::string& path, const FormatOptions& options) {
    return result_without_rights([&] { return static_cast<int>(format_cache_dev(path, options).code()); });
  };
  EXPECT_EQ(format(path_, forced(true)), static_cast<int>(Errc::permission));
  EXPECT_EQ(format(dir_ / "new", of_size(kSize)), static_cast<int>(Errc::permission));
  ASSERT_EQ(chmod(dir_.path().c_str(), 0700), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "new"));
  EXPECT_EQ(stats_of(path_).uuid, uuid);
}

}  // namespace
}  // namespace pcache
