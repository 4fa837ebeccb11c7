#include "io/backing_probe.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/unique_fd.h"
#include "tests/support/loop_device.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 1 << 20;

class BackingProbeTest : public testing::Test {
 protected:
  static BackingIdentity identity(const std::string& path) {
    auto probed = probe_backing(path);
    EXPECT_TRUE(probed.ok()) << probed.status().message();
    return probed.ok() ? *probed : BackingIdentity();
  }

  // The refusal must name the path.
  static Errc refusal(const std::string& path) {
    const auto probed = probe_backing(path);
    if (probed.ok()) return Errc::ok;
    EXPECT_NE(probed.status().message().find(path), std::string::npos) << probed.status().message();
    return probed.status().code();
  }

  TempDir dir_;
  const std::string path_ = dir_ / "backing";
};

TEST_F(BackingProbeTest, AnIdentityIsPrintableAndFitsTheCacheDevice) {
  make_file(path_, kSize);
  const BackingIdentity found = identity(path_);
  EXPECT_EQ(found.size_bytes, kSize);
  EXPECT_FALSE(found.id.empty());
  EXPECT_LE(found.id.size(), 128U);
  EXPECT_TRUE(std::all_of(found.id.begin(), found.id.end(), [](char c) { return c > ' ' && c <= '~'; })) << found.id;
}

TEST_F(BackingProbeTest, ItStaysOverWritesReopeningAndRenames) {
  make_file(path_, kSize);
  const BackingIdentity first = identity(path_);
  EXPECT_EQ(identity(path_), first);
  write_file(path_, 0, std::string(kSize, 'x'));
  EXPECT_EQ(identity(path_), first);
  ASSERT_EQ(chmod(path_.c_str(), 0400), 0);
  EXPECT_EQ(identity(path_), first);
  std::filesystem::create_directory(dir_ / "elsewhere");
  const std::string moved = dir_ / "elsewhere/under another name";
  std::filesystem::rename(path_, moved);
  EXPECT_EQ(identity(moved), first);
}

TEST_F(BackingProbeTest, EveryNameOfAFileHasItsIdentity) {
  make_file(path_, kSize);
  std::filesystem::create_hard_link(path_, dir_ / "hard");
  std::filesystem::create_symlink("backing", dir_ / "soft");
  EXPECT_EQ(identity(dir_ / "hard"), identity(path_));
  EXPECT_EQ(identity(dir_ / "soft"), identity(path_));
}

TEST_F(BackingProbeTest, AnotherSizeIsAnotherIdentity) {
  make_file(path_, kSize);
  const BackingIdentity first = identity(path_);
  std::filesystem::resize_file(path_, kSize + 512);
  const BackingIdentity second = identity(path_);
  EXPECT_EQ(second.id, first.id);
  EXPECT_EQ(second.size_bytes, kSize + 512);
  EXPECT_NE(second, first);
}

TEST_F(BackingProbeTest, AnotherFileIsAnotherThoughItsContentIsTheSame) {
  std::set<std::string> ids;
  for (const char* name : {"a", "b", "c"}) {
    make_file(dir_ / name, kSize, 'x');
    EXPECT_TRUE(ids.insert(identity(dir_ / name).id).second) << name;
  }
  std::filesystem::copy_file(dir_ / "a", dir_ / "copy");
  EXPECT_TRUE(ids.insert(identity(dir_ / "copy").id).second);
}

TEST_F(BackingProbeTest, AFileMadeInThePlaceOfADeletedOneIsAnother) {
  make_file(path_, kSize);
  bool inode_used_again = false;
  for (int i = 0; i < 50; ++i) {
    const BackingIdentity deleted = identity(path_);
    const ino_t inode = stat_of(path_).st_ino;
    std::filesystem::remove(path_);
    make_file(path_, kSize);
    if (stat_of(path_).st_ino == inode) {
      inode_used_again = true;
      const UniqueFd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
      long generation = 0;
      if (ioctl(fd.get(), FS_IOC_GETVERSION, &generation) != 0) {
        GTEST_SKIP() << "the filesystem of " << dir_.path() << " uses inodes again and does not say so";
      }
    }
    ASSERT_NE(identity(path_).id, deleted.id);
  }
  RecordProperty("inode_used_again", inode_used_again ? "yes" : "no");
}

TEST_F(BackingProbeTest, WhatCannotBeABackingIsRefusedAsWhenOpened) {
  EXPECT_EQ(refusal(dir_ / "missing"), Errc::not_found);
  std::filesystem::create_directory(dir_ / "dir");
  EXPECT_EQ(refusal(dir_ / "dir"), Errc::invalid);
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal(dir_ / "pipe"), Errc::invalid);
  EXPECT_EQ(refusal("/dev/null"), Errc::invalid);
  make_file(dir_ / "empty", 0);
  EXPECT_EQ(refusal(dir_ / "empty"), Errc::invalid);
  make_file(dir_ / "odd", kSize + 100);
  EXPECT_EQ(refusal(dir_ / "odd"), Errc::invalid);
}

TEST_F(BackingProbeTest, ALoopDeviceIsNamedAfterTheFileBelowIt) {
  make_file(path_, kSize);
  make_file(dir_ / "other", kSize);
  const BackingIdentity file = identity(path_);
  const LoopDevice first(path_, false);
  if (!first) GTEST_SKIP() << first.missing();
  const BackingIdentity loop = identity(first.path());
  EXPECT_EQ(loop.size_bytes, kSize);
  EXPECT_EQ(loop.id, "loop:" + file.id);
  const LoopDevice of_another(dir_ / "other", false);
  ASSERT_TRUE(of_another) << of_another.missing();
  EXPECT_NE(identity(of_another.path()).id, loop.id);
  // On another loop device it is the same, which the device's number would not say.
  const LoopDevice again(path_, false);
  ASSERT_TRUE(again) << again.missing();
  ASSERT_NE(again.path(), first.path());
  EXPECT_EQ(identity(again.path()), loop);
}

TEST_F(BackingProbeTest, ALoopDeviceOnAnotherPartOfTheFileIsAnother) {
  make_file(path_, kSize);
  const LoopDevice whole(path_, false);
  if (!whole) GTEST_SKIP() << whole.missing();
  const LoopDevice part(path_, false, 64 << 10);
  ASSERT_TRUE(part) << part.missing();
  EXPECT_EQ(identity(part.path()).size_bytes, kSize - (64 << 10));
  EXPECT_NE(identity(part.path()).id, identity(whole.path()).id);
}

}  // namespace
}  // namespace pcache
