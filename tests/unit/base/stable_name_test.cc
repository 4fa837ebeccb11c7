#include "base/stable_name.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

namespace fs = std::filesystem;

// A directory that stands for /dev.
class StableNameTest : public testing::Test {
 protected:
  StableNameTest() {
    for (const char* kind : {"by-id", "by-partuuid", "by-path"})
      fs::create_directories(dir_ / ("disk/" + std::string(kind)));
  }
  void node(const std::string& name) { std::ofstream(dir_ / name) << "x"; }
  void link(const std::string& name, const std::string& to) {
    fs::create_symlink("../../" + to, dir_ / ("disk/" + name));
  }
  std::string advice(const std::string& name) { return stable_name_advice(dir_ / name, dev_); }

  const TempDir dir_;
  const std::string dev_ = fs::path(dir_ / "x").parent_path();
};

TEST_F(StableNameTest, TheNameThatTheDiskGivesItselfComesFirst) {
  node("sdb");
  EXPECT_NE(advice("sdb").find("of which it has none"), std::string::npos) << advice("sdb");
  link("by-path/pci-0", "sdb");
  EXPECT_TRUE(advice("sdb").ends_with("/disk/by-path/pci-0")) << advice("sdb");
  link("by-id/wwn-0x5", "sdb");
  EXPECT_TRUE(advice("sdb").ends_with("/disk/by-id/wwn-0x5")) << advice("sdb");
  link("by-id/zz-maker-serial", "sdb");
  link("by-id/other", "sdc");
  EXPECT_TRUE(advice("sdb").ends_with("use " + (dir_ / "disk/by-id/zz-maker-serial"))) << advice("sdb");
}

TEST_F(StableNameTest, DisksAndPartitionsThatTheKernelNumbersAreWarnedOf) {
  for (const char* name : {"sda", "sdaa3", "vdb", "nvme0n1p2", "mmcblk0", "nbd1"}) {
    node(name);
    EXPECT_NE(advice(name).find(std::string(name) + " may be another device"), std::string::npos) << name;
  }
}

TEST_F(StableNameTest, OtherNamesAreLeftAlone) {
  for (const char* name : {"loop0", "dm-0", "pmem0", "dax0.0", "sd", "md127"}) {
    node(name);
    EXPECT_EQ(advice(name), "") << name;
  }
  node("sdb");
  link("by-id/x", "sdb");
  EXPECT_EQ(advice("disk/by-id/x"), "");
  fs::create_symlink("sdb", dir_ / "sdlink");
  EXPECT_EQ(advice("sdlink"), "") << "somebody made it";
  EXPECT_EQ(stable_name_advice("/srv/sdb", dev_), "");
}

}  // namespace
}  // namespace pcache
