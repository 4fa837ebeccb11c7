#include "pmem/pmem2_space.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 4 << 20;
constexpr const char* kForce = "PMEM2_FORCE_GRANULARITY";

// Whether a path opens, as a number that a child process can return.
int outcome_of_opening(const std::string& path) { return static_cast<int>(open_pmem_space(path).status().code()); }

struct Medium {
  const char* name;
  const char* dir;    // null: where temporary files are, which is on a disk as a rule
  const char* force;  // a granularity that libpmem2 is made to assume; null: what it finds
  Granularity granularity;
};

void PrintTo(const Medium& medium, std::ostream* out) { *out << medium.name; }

class Pmem2SpaceTest : public testing::TestWithParam<Medium> {
 protected:
  void SetUp() override {
    if (GetParam().dir != nullptr && !std::filesystem::is_directory(GetParam().dir)) {
      GTEST_SKIP() << "there is no " << GetParam().dir;
    }
    if (GetParam().dir != nullptr) {
      dir_.emplace(GetParam().dir);
    } else {
      dir_.emplace();
    }
    if (GetParam().force != nullptr) {
      setenv(kForce, GetParam().force, 1);
    } else {
      unsetenv(kForce);
    }
    path_ = *dir_ / "cache";
    make_file(path_, kSize);
  }
  void TearDown() override { unsetenv(kForce); }

  std::unique_ptr<PmemSpace> open_space() {
    auto space = open_pmem_space(path_);
    EXPECT_TRUE(space.ok()) << space.status().message();
    return space.ok() ? std::move(*space) : nullptr;
  }

  static std::string pattern(std::size_t length) {
    std::string text(length, '\0');
    std::iota(text.begin(), text.end(), 'a');
    return text;
  }

  std::optional<TempDir> dir_;
  std::string path_;
};

TEST_P(Pmem2SpaceTest, SaysWhatItIs) {
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->granularity(), GetParam().granularity);
  EXPECT_EQ(space->size(), kSize);
  EXPECT_EQ(space->path(), path_);
}

TEST_P(Pmem2SpaceTest, WhatWasWrittenIsReadAndIsInTheFileOncePersisted) {
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  // At odd places too, over the bounds of lines and pages, and up to the last byte.
  const std::pair<std::size_t, std::size_t> ranges[] = {{0, 1},         {63, 2},   {4090, 12'345}, {1 << 20, 256 << 10},
                                                        {kSize - 7, 7}, {kSize, 0}};
  for (const auto& [offset, length] : ranges) {
    const std::string data = pattern(length);
    ASSERT_TRUE(space->write(offset, data.data(), length)) << offset;
    space->drain();
    std::string back(length, '?');
    ASSERT_TRUE(space->read(offset, back.data(), length)) << offset;
    EXPECT_EQ(back, data) << offset;
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(space->base()) + offset, length), data) << offset;
    const Status persisted = space->persist(offset, length);
    EXPECT_TRUE(persisted.ok()) << persisted.message();
    EXPECT_EQ(read_file(path_, offset, length), data) << offset;
  }
  // What nobody wrote to is as it was.
  EXPECT_EQ(read_file(path_, 1, 62), std::string(62, '\0'));
  EXPECT_EQ(read_file(path_, (1 << 20) - 1, 1), std::string(1, '\0'));
}

TEST_P(Pmem2SpaceTest, ContentOutlivesTheSpace) {
  const std::string data = pattern(10'000);
  {
    const auto space = open_space();
    ASSERT_NE(space, nullptr);
    ASSERT_TRUE(space->write(5000, data.data(), data.size()));
    ASSERT_TRUE(space->persist(5000, data.size()).ok());
  }
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  std::string back(data.size(), '?');
  ASSERT_TRUE(space->read(5000, back.data(), back.size()));
  EXPECT_EQ(back, data);
}

TEST_P(Pmem2SpaceTest, PrefaultingChangesNothing) {
  make_file(path_, kSize, 'x');
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  space->prefault(0, kSize);
  space->prefault(4097, 1);
  space->prefault(kSize - 1, 1);
  EXPECT_EQ(read_file(path_, 0, kSize), std::string(kSize, 'x'));
}

TEST_P(Pmem2SpaceTest, GrowsAndShrinksInPlace) {
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  const std::byte* const base = space->base();
  const std::string text = pattern(8192);
  for (int turn = 0; turn < 2; ++turn) {
    SCOPED_TRACE(turn);
    ASSERT_TRUE(space->write(kSize - 8192, text.data(), text.size()));
    const Status grown = space->grow(kSize, 3 * kSize);
    ASSERT_TRUE(grown.ok()) << grown.message();
    EXPECT_EQ(space->size(), 3 * kSize);
    EXPECT_EQ(space->base(), base);
    struct stat st {};
    ASSERT_EQ(stat(path_.c_str(), &st), 0);
    EXPECT_EQ(static_cast<std::size_t>(st.st_size), 3 * kSize);
    EXPECT_GE(static_cast<std::size_t>(st.st_blocks) * 512, 2 * kSize) << "what is new is allocated";
    // Across the seam, and at the end; what was truncated is not there any more.
    std::string found(8192, 'x');
    ASSERT_TRUE(space->read(kSize, found.data(), found.size()));
    EXPECT_EQ(found, std::string(8192, '\0'));
    ASSERT_TRUE(space->write(kSize - 4096, text.data(), text.size()));
    ASSERT_TRUE(space->write(3 * kSize - 8192, text.data(), text.size()));
    space->drain();
    space->prefault(kSize, kSize);
    EXPECT_TRUE(space->persist(0, space->size()).ok());
    EXPECT_TRUE(space->health().ok());
    EXPECT_EQ(read_file(path_, kSize - 4096, 8192), text);
    EXPECT_EQ(read_file(path_, 3 * kSize - 8192, 8192), text);
    const Status shrunk = space->shrink(kSize);
    ASSERT_TRUE(shrunk.ok()) << shrunk.message();
    EXPECT_EQ(space->size(), kSize);
    EXPECT_EQ(std::filesystem::file_size(path_), kSize);
    EXPECT_TRUE(space->persist(0, kSize).ok());
    EXPECT_TRUE(space->health().ok());
    EXPECT_EQ(read_file(path_, kSize - 4096, 4096), text.substr(0, 4096));
  }
  // As large as somebody made it.
  std::filesystem::resize_file(path_, 2 * kSize);
  EXPECT_EQ(space->available(), 2 * kSize);
  EXPECT_EQ(space->size(), kSize) << "nobody asked for it yet";
  ASSERT_TRUE(space->grow(kSize, 2 * kSize).ok());
  EXPECT_EQ(space->size(), 2 * kSize);
  ASSERT_TRUE(space->write(2 * kSize - 4096, text.data(), 4096));
  // One that was longer when it was opened, by a hole.
  std::filesystem::resize_file(path_, 3 * kSize);
  struct stat st {};
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  const auto blocks = st.st_blocks;
  ASSERT_TRUE(space->grow(2 * kSize, 3 * kSize).ok());
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_GE(static_cast<std::size_t>(st.st_blocks - blocks) * 512, kSize) << "it is allocated";
}

TEST_P(Pmem2SpaceTest, WhatItCannotGrowToChangesNothing) {
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->grow(kSize, kSize + 512).code(), Errc::invalid);
  EXPECT_EQ(space->grow(kSize, std::size_t{1} << 44).code(), Errc::invalid) << "there are no addresses kept for that";
  // The filesystem, or what a process may write, ends before.
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit low = before;
  low.rlim_cur = 2 * kSize;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const Status refused = space->grow(kSize, 3 * kSize);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(space->size(), kSize);
  EXPECT_EQ(std::filesystem::file_size(path_), kSize);
  EXPECT_TRUE(space->grow(kSize, 2 * kSize).ok());
}

TEST_P(Pmem2SpaceTest, ATruncatedFileIsAnErrorAndNotTheEnd) {
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  std::filesystem::resize_file(path_, 1 << 20);
  std::vector<char> buffer(8192, 'y');
  EXPECT_FALSE(space->write(2 << 20, buffer.data(), buffer.size()));
  EXPECT_FALSE(space->read(2 << 20, buffer.data(), buffer.size()));
  // Also where only the end of a range is gone.
  EXPECT_FALSE(space->write((1 << 20) - 4096, buffer.data(), buffer.size()));
  EXPECT_FALSE(space->read((1 << 20) - 4096, buffer.data(), buffer.size()));
  space->prefault(0, kSize);
  // What is left of it goes on working.
  EXPECT_TRUE(space->write(0, buffer.data(), buffer.size()));
  EXPECT_TRUE(space->read(0, buffer.data(), buffer.size()));
  EXPECT_TRUE(space->persist(0, buffer.size()).ok());
}

TEST_P(Pmem2SpaceTest, PersistingWhatATruncationTookIsAnError) {
  if (GetParam().granularity == Granularity::byte) GTEST_SKIP() << "here a store is durable before it is persisted";
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  const std::vector<char> buffer(8192, 'y');
  ASSERT_TRUE(space->write(2 << 20, buffer.data(), buffer.size()));
  std::filesystem::resize_file(path_, 1 << 20);
  const Status status = space->persist(2 << 20, buffer.size());
  EXPECT_EQ(status.code(), Errc::failed);
  EXPECT_NE(status.message().find(path_), std::string::npos) << status.message();
}

TEST_P(Pmem2SpaceTest, RangesOutsideAreBugs) {
  GTEST_FLAG_SET(death_test_style, "fast");  // the other one leaves a directory behind for each death
  const auto space = open_space();
  ASSERT_NE(space, nullptr);
  char byte = 0;
  EXPECT_DEATH((void)space->write(kSize, &byte, 1), "outside the cache device");
  EXPECT_DEATH((void)space->read(kSize - 1, &byte, 2), "outside the cache device");
  EXPECT_DEATH((void)space->persist(kSize + 1, 0), "outside the cache device");
  EXPECT_DEATH((void)space->read(2, &byte, std::numeric_limits<std::size_t>::max() - 1), "outside the cache device");
}

TEST_P(Pmem2SpaceTest, ToInspectNeedsNoRightToWriteAndGivesNone) {
  GTEST_FLAG_SET(death_test_style, "fast");
  make_file(path_, kSize, 'x');
  ASSERT_EQ(chmod(dir_->path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0444), 0);
  EXPECT_EQ(result_without_rights(
                [this] { return static_cast<int>(open_pmem_space(path_, PmemAccess::inspect).status().code()); }),
            0);
  auto space = open_pmem_space(path_, PmemAccess::inspect);
  ASSERT_TRUE(space.ok()) << space.status().message();
  EXPECT_EQ((*space)->granularity(), GetParam().granularity);
  std::string back(10'000, '?');
  ASSERT_TRUE((*space)->read(kSize - back.size(), back.data(), back.size()));
  EXPECT_EQ(back, std::string(back.size(), 'x'));
  EXPECT_DEATH((void)(*space)->write(0, "y", 1), "only inspected");
  EXPECT_EQ(open_pmem_space(path_).status().code(), Errc::busy);
  EXPECT_EQ(open_pmem_space(path_, PmemAccess::inspect).status().code(), Errc::busy);
  space->reset();
  const auto used = open_space();
  EXPECT_EQ(open_pmem_space(path_, PmemAccess::inspect).status().code(), Errc::busy);
}

TEST_P(Pmem2SpaceTest, ASecondOpenerGetsBusyForAsLongAsTheFirstHasIt) {
  auto space = open_space();
  ASSERT_NE(space, nullptr);
  const auto second = open_pmem_space(path_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Errc::busy);
  EXPECT_NE(second.status().message().find(path_), std::string::npos) << second.status().message();
  const std::string link = *dir_ / "link";
  std::filesystem::create_hard_link(path_, link);
  EXPECT_EQ(open_pmem_space(link).status().code(), Errc::busy);
  // The refused ones, who closed the file, did not take the lock with them.
  EXPECT_EQ(result_in_child([this] { return outcome_of_opening(path_); }), static_cast<int>(Errc::busy));
  space.reset();
  EXPECT_EQ(result_in_child([this] { return outcome_of_opening(path_); }), static_cast<int>(Errc::ok));
  EXPECT_TRUE(open_pmem_space(path_).ok());
}

INSTANTIATE_TEST_SUITE_P(Media, Pmem2SpaceTest,
                         testing::Values(Medium{"shm", "/dev/shm", nullptr, Granularity::page},
                                         Medium{"disk", nullptr, nullptr, Granularity::page},
                                         Medium{"shm_as_cache_line", "/dev/shm", "CACHE_LINE", Granularity::cache_line},
                                         Medium{"disk_as_cache_line", nullptr, "CACHE_LINE", Granularity::cache_line},
                                         Medium{"shm_as_byte", "/dev/shm", "BYTE", Granularity::byte}),
                         [](const auto& param) { return param.param.name; });

class OpenPmemSpaceTest : public testing::Test {
 protected:
  // The refusal must name the path.
  Errc refusal(const std::string& path) {
    const auto space = open_pmem_space(path);
    if (space.ok()) return Errc::ok;
    EXPECT_NE(space.status().message().find(path), std::string::npos) << space.status().message();
    return space.status().code();
  }

  TempDir dir_;
};

TEST_F(OpenPmemSpaceTest, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(refusal(dir_ / "missing"), Errc::not_found);
  EXPECT_EQ(refusal(dir_ / "missing/file"), Errc::not_found);
  std::filesystem::create_symlink(dir_ / "missing", dir_ / "dangling");
  EXPECT_EQ(refusal(dir_ / "dangling"), Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "missing"));
}

TEST_F(OpenPmemSpaceTest, OnlyFilesAndDaxNodesAreTaken) {
  std::filesystem::create_directory(dir_ / "dir");
  EXPECT_EQ(refusal(dir_ / "dir"), Errc::invalid);
  // Opening one of these would block, or end a terminal session.
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal(dir_ / "pipe"), Errc::invalid);
  EXPECT_EQ(refusal("/dev/null"), Errc::invalid);
}

TEST_F(OpenPmemSpaceTest, EmptyFilesAndPartsOfPagesAreInvalid) {
  make_file(dir_ / "empty", 0);
  EXPECT_EQ(refusal(dir_ / "empty"), Errc::integrity);
  for (const std::size_t size : {std::size_t{1}, std::size_t{512}, kSize + 1, kSize - 512}) {
    make_file(dir_ / "odd", size);
    EXPECT_EQ(refusal(dir_ / "odd"), Errc::integrity) << size;
  }
}

TEST_F(OpenPmemSpaceTest, WithoutTheRightToWriteItIsPermission) {
  const std::string path = dir_ / "cache";
  make_file(path, kSize);
  ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(path.c_str(), 0444), 0);
  EXPECT_EQ(result_without_rights([&] { return outcome_of_opening(path); }), static_cast<int>(Errc::permission));
}

// Another program may know only one of the two kinds.
TEST_F(OpenPmemSpaceTest, EitherKindOfLockIsRespected) {
  const std::string path = dir_ / "cache";
  make_file(path, kSize);
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(fd.get(), LOCK_SH), 0);
  EXPECT_EQ(refusal(path), Errc::busy);
  fd.reset(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(fd.get(), F_OFD_SETLK, &whole), 0);
  EXPECT_EQ(refusal(path), Errc::busy);
  fd.reset();
  EXPECT_EQ(refusal(path), Errc::ok);
}

TEST_F(OpenPmemSpaceTest, ALinkLeadsToItsFile) {
  make_file(dir_ / "cache", kSize);
  std::filesystem::create_symlink("cache", dir_ / "link");
  const auto space = open_pmem_space(dir_ / "link");
  ASSERT_TRUE(space.ok()) << space.status().message();
  ASSERT_TRUE((*space)->write(0, "here", 4));
  ASSERT_TRUE((*space)->persist(0, 4).ok());
  EXPECT_EQ(read_file(dir_ / "cache", 0, 4), "here");
}

}  // namespace
}  // namespace pcache
