#include "cli/mount_helper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pcache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

std::optional<Result<Words>> words_of(const Words& argv) {
  std::vector<const char*> pointers;
  for (const std::string& word : argv) pointers.push_back(word.c_str());
  return words_of_mount_helper(static_cast<int>(pointers.size()), pointers.data());
}

Words made(const Words& argv) {
  const auto words = words_of(argv);
  EXPECT_TRUE(words && words->ok()) << (words ? words->status().message() : "not a helper");
  return words && words->ok() ? **words : Words();
}

std::string refused(const Words& argv) {
  const auto words = words_of(argv);
  EXPECT_TRUE(words && !words->ok());
  if (!words || words->ok()) return "";
  EXPECT_EQ(words->status().code(), Errc::invalid);
  return words->status().message();
}

TEST(MountHelper, IsOnlyMeantByItsNames) {
  EXPECT_FALSE(words_of({"pcachefs", "mount", "/mnt"}));
  EXPECT_FALSE(words_of({"/usr/sbin/pcachefs", "x", "/mnt"}));
  EXPECT_FALSE(words_of({"mount.pcachefs.old", "x", "/mnt"}));
  EXPECT_FALSE(words_of({}));
  EXPECT_TRUE(words_of({"/sbin/mount.pcachefs", "x", "/mnt"}));
  EXPECT_TRUE(words_of({"mount.fuse.pcachefs", "x", "/mnt"}));
  EXPECT_TRUE(words_of({"/sbin/umount.fuse.pcachefs", "/mnt"}));
}

// As util-linux calls it.
TEST(MountHelper, MakesALineOfFstabACommand) {
  EXPECT_THAT(made({"/sbin/mount.pcachefs", "/dev/dax0.0", "/mnt/pcache", "-o", "rw,nofail,_netdev"}),
              ElementsAre("mount", "--source", "/dev/dax0.0", "--cache", "/dev/dax0.0", "--", "/mnt/pcache"));
  EXPECT_THAT(made({"/sbin/mount.fuse.pcachefs", "/c", "/m", "-n", "-v", "-o",
                    "rw,noatime,x-systemd.requires=a,dirty_high=40%,comment=x,allow_other", "-t", "fuse.pcachefs"}),
              ElementsAre("mount", "--source", "/c", "--cache", "/c", "-o", "dirty_high=40%,allow_other", "--", "/m"));
}

TEST(MountHelper, TakesWhatIsForAnyFilesystem) {
  EXPECT_THAT(
      made({"mount.pcachefs", "/c", "/m", "-o",
            "dirsync,lazytime,nolazytime,iversion,nosymfollow,context=\"a:b:c:s0:c1,c2\",helper=x,allow_other"}),
      ElementsAre("mount", "--source", "/c", "--cache", "/c", "-o", "allow_other", "--", "/m"));
  EXPECT_THAT(made({"mount.pcachefs", "/c", "/m", "-o", "allow_other,sync"}),
              ElementsAre("mount", "--source", "/c", "--cache", "/c", "-o", "ack=durable,allow_other", "--", "/m"));
  EXPECT_THAT(refused({"mount.pcachefs", "/c", "/m", "-o", "remount,allow_other"}), HasSubstr("cannot be remounted"));
}

TEST(MountHelper, TakesSeveralCacheDevicesOrNone) {
  EXPECT_THAT(made({"mount.pcachefs", "/a", "/m", "-o", "cache=/b,rw,cache=/c"}),
              ElementsAre("mount", "--source", "/a", "--cache", "/a", "--cache", "/b", "--cache", "/c", "--", "/m"));
  EXPECT_THAT(made({"mount.pcachefs", "none", "/m"}), ElementsAre("mount", "--source", "none", "--", "/m"));
}

TEST(MountHelper, DoesNothingWhereItIsOnlyToBeTried) {
  EXPECT_THAT(made({"mount.pcachefs", "/a", "/m", "-f", "-o", "rw"}), ElementsAre());
  EXPECT_THAT(made({"mount.pcachefs", "/a", "/m", "-fnv"}), ElementsAre());
}

TEST(MountHelper, RefusesWhatAMountCannotBe) {
  EXPECT_THAT(refused({"mount.pcachefs", "/a", "/m", "-o", "noauto,ro"}), HasSubstr("read-only"));
  EXPECT_THAT(refused({"mount.pcachefs", "/a", "/m", "-r"}), HasSubstr("read-only"));
  EXPECT_THAT(refused({"mount.pcachefs", "/a", "/m", "-N", "/proc/1/ns/mnt"}), HasSubstr("namespace"));
  EXPECT_THAT(refused({"mount.pcachefs", "/a", "/m", "-o"}), HasSubstr("-o needs a value"));
  EXPECT_THAT(refused({"mount.pcachefs", "/a"}), HasSubstr("mount point"));
  EXPECT_THAT(refused({"mount.pcachefs", "/a", "/b", "/c"}), HasSubstr("mount point"));
}

TEST(MountHelper, Unmounts) {
  EXPECT_THAT(made({"/sbin/umount.fuse.pcachefs", "/mnt/pcache", "-n"}), ElementsAre("umount", "--", "/mnt/pcache"));
  EXPECT_THAT(refused({"umount.fuse.pcachefs", "/m", "-l"}), HasSubstr("add -i"));
  EXPECT_THAT(refused({"umount.fuse.pcachefs", "/m", "-f"}), HasSubstr("add -i"));
  EXPECT_THAT(refused({"umount.fuse.pcachefs"}), HasSubstr("mount point"));
}

}  // namespace
}  // namespace pcache
