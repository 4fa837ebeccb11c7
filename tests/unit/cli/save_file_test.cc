#include "cli/save_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/unique_fd.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

namespace fs = std::filesystem;

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::size_t files_in(const TempDir& dir) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(dir / ""), fs::directory_iterator()));
}

TEST(SaveFile, MakesAFileOrReplacesItWithItsOwnerAndMode) {
  const TempDir dir;
  ASSERT_TRUE(save_file(dir / "x", "one").ok());
  EXPECT_EQ(content(dir / "x"), "one");
  ASSERT_EQ(chmod((dir / "x").c_str(), 0600), 0);
  const bool may_give_away = chown((dir / "x").c_str(), 12, 34) == 0;
  ASSERT_TRUE(save_file(dir / "x", "two").ok());
  EXPECT_EQ(content(dir / "x"), "two");
  struct stat st {};
  ASSERT_EQ(stat((dir / "x").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600U);
  if (may_give_away) {
    EXPECT_EQ(st.st_uid, 12U);
    EXPECT_EQ(st.st_gid, 34U);
  }
  EXPECT_EQ(files_in(dir), 1U) << "something is left beside it";
}

TEST(SaveFile, FollowsLinks) {
  const TempDir dir;
  fs::create_directory(dir / "d");
  std::ofstream(dir / "d/real") << "old";
  fs::create_symlink("real", dir / "d/second");
  fs::create_symlink("d/second", dir / "first");
  ASSERT_TRUE(save_file(dir / "first", "new").ok());
  EXPECT_EQ(content(dir / "d/real"), "new");
  EXPECT_TRUE(fs::is_symlink(dir / "first") && fs::is_symlink(dir / "d/second"));

  fs::create_symlink("d/made", dir / "to_be");
  ASSERT_TRUE(save_file(dir / "to_be", "new").ok());
  EXPECT_EQ(content(dir / "d/made"), "new");
  EXPECT_TRUE(fs::is_symlink(dir / "to_be"));
}

TEST(SaveFile, WritesIntoWhatIsNoOrdinaryFile) {
  const TempDir dir;
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  const UniqueFd reader(open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(save_file(dir / "fifo", "text").ok());
  std::array<char, 8> got{};
  EXPECT_EQ(read(reader.get(), got.data(), got.size()), 4);
  EXPECT_TRUE(fs::is_fifo(dir / "fifo"));
  EXPECT_TRUE(save_file("/dev/null", "text").ok());
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

// As of `pcachefs save /dev/stdout >FILE`: who opened the file goes on writing into it.
TEST(SaveFile, WritesIntoOpenFilesByTheirNamesInProc) {
  const TempDir dir;
  const UniqueFd fd(open((dir / "x").c_str(), O_RDWR | O_CREAT, 0600));
  const std::string name = "/proc/self/fd/" + std::to_string(fd.get());
  fs::create_symlink(name, dir / "link");
  ASSERT_TRUE(save_file(dir / "link", "text").ok());
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  struct stat open_one {};
  struct stat named {};
  ASSERT_EQ(fstat(fd.get(), &open_one), 0);
  ASSERT_EQ(stat((dir / "x").c_str(), &named), 0);
  EXPECT_EQ(open_one.st_ino, named.st_ino);
  EXPECT_EQ(content(dir / "x"), "text");
}

TEST(SaveFile, SaysWhatCannotBeWritten) {
  const TempDir dir;
  EXPECT_EQ(save_file(dir / "none/x", "text").code(), Errc::not_found);
  EXPECT_NE(save_file(dir / "none/x", "text").message().find("none/x"), std::string::npos);
  EXPECT_FALSE(save_file(dir / "", "text").ok());
  EXPECT_EQ(files_in(dir), 0U);
}

}  // namespace
}  // namespace pcache
