#include "io/uring_backing_dev.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "pcache/backing_dev.h"
#include "tests/support/child_process.h"
#include "tests/support/loop_device.h"
#include "tests/support/temp_dir.h"

namespace pcache {
namespace {

constexpr std::size_t kSize = 4 << 20;

// Counts completions, and keeps the error of the last one. May be given to several operations.
class Waiter {
 public:
  Completion completion() {
    return {[](void* context, int error) {
              auto* waiter = static_cast<Waiter*>(context);
              const std::lock_guard lock(waiter->mutex_);
              ++waiter->count_;
              if (error != 0) waiter->error_ = error;
              waiter->changed_.notify_all();
            },
            this};
  }
  // The error of an operation, if any, when `count` have completed.
  int wait(int count = 1) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return count_ >= count; });
    return error_;
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
  int error_ = 0;
};

AlignedBuffer filled(std::size_t size, char with) {
  AlignedBuffer buffer(size);
  std::memset(buffer.data(), with, size);
  return buffer;
}

std::string text_of(const AlignedBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

int read_from(BackingDev& device, std::uint64_t offset, std::span<std::byte> buffer) {
  Waiter waiter;
  device.read(offset, buffer, waiter.completion());
  return waiter.wait();
}

int write_parts(BackingDev& device, std::uint64_t offset, std::span<const iovec> parts) {
  Waiter waiter;
  device.write(offset, parts, waiter.completion());
  return waiter.wait();
}

int write_to(BackingDev& device, std::uint64_t offset, AlignedBuffer& buffer) {
  const iovec part{buffer.data(), buffer.size()};
  return write_parts(device, offset, {&part, 1});
}

int flush(BackingDev& device) {
  Waiter waiter;
  device.flush(waiter.completion());
  return waiter.wait();
}

int write_zeroes(BackingDev& device, std::uint64_t offset, std::uint64_t length) {
  Waiter waiter;
  device.write_zeroes(offset, length, waiter.completion());
  return waiter.wait();
}

class UringBackingDevTest : public testing::Test {
 protected:
  void SetUp() override { make_file(path_, kSize); }

  std::unique_ptr<BackingDev> open_device() { return open_device(path_); }
  static std::unique_ptr<BackingDev> open_device(const std::string& path) {
    auto device = open_backing_dev(path);
    EXPECT_TRUE(device.ok()) << device.status().message();
    return device.ok() ? std::move(*device) : nullptr;
  }

  // The refusal must name the path.
  static Errc refusal(const std::string& path) {
    const auto device = open_backing_dev(path);
    if (device.ok()) return Errc::ok;
    EXPECT_NE(device.status().message().find(path), std::string::npos) << device.status().message();
    return device.status().code();
  }

  TempDir dir_;
  const std::string path_ = dir_ / "backing";
};

TEST_F(UringBackingDevTest, SaysWhatItIs) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->size_bytes(), kSize);
  EXPECT_EQ(device->path(), path_);
  EXPECT_EQ(device->identity().size_bytes, kSize);
  const auto probed = probe_backing(path_);
  ASSERT_TRUE(probed.ok()) << probed.status().message();
  EXPECT_EQ(device->identity(), *probed);
}

// A write behind its end would make it whole again, but for what it had there.
TEST_F(UringBackingDevTest, AFileThatWasTruncatedTakesNothingMoreAndIsNotMadeLonger) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  AlignedBuffer data = filled(4096, 'x');
  ASSERT_EQ(write_to(*device, kSize - 4096, data), 0);
  ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(kSize - 8192)), 0);
  EXPECT_EQ(write_to(*device, kSize - 4096, data), ESTALE);
  EXPECT_EQ(write_zeroes(*device, 0, 4096), ESTALE);
  EXPECT_EQ(flush(*device), ESTALE);
  EXPECT_EQ(read_from(*device, kSize - 4096, data.span()), EIO);
  EXPECT_EQ(read_from(*device, 0, data.span()), 0);
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize - 8192));
  ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(kSize)), 0);
  EXPECT_EQ(flush(*device), ESTALE) << "it is long enough again, and not what it was";
}

TEST_F(UringBackingDevTest, AFileThatWasDeletedOrReplacedTakesNothingMore) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  make_file(path_ + ".new", kSize);
  ASSERT_EQ(rename((path_ + ".new").c_str(), path_.c_str()), 0);
  AlignedBuffer data = filled(4096, 'x');
  EXPECT_EQ(write_to(*device, 0, data), ESTALE);
  EXPECT_EQ(flush(*device), ESTALE);
}

TEST_F(UringBackingDevTest, WhatWasWrittenIsReadAndIsInTheFile) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  const std::pair<std::uint64_t, std::size_t> ranges[] = {{0, 512}, {1536, 4096}, {8192, 1 << 20}, {kSize - 512, 512}};
  char letter = 'a';
  for (const auto& [offset, length] : ranges) {
    AlignedBuffer data = filled(length, letter++);
    EXPECT_EQ(write_to(*device, offset, data), 0) << offset;
    EXPECT_EQ(flush(*device), 0);
    AlignedBuffer back = filled(length, '?');
    EXPECT_EQ(read_from(*device, offset, back.span()), 0) << offset;
    EXPECT_EQ(text_of(back), text_of(data)) << offset;
    EXPECT_EQ(read_file(path_, offset, length), text_of(data)) << offset;
  }
  // The neighbours are as they were.
  EXPECT_EQ(read_file(path_, 512, 1024), std::string(1024, '\0'));
  EXPECT_EQ(read_file(path_, 1536 + 4096, 512), std::string(512, '\0'));
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
}

// In a completion the operation still counts as owed.
TEST_F(UringBackingDevTest, ItsPulseSaysSinceWhenItOwesAnAnswer) {
  auto device = open_device();
  const auto pulse = device->pulse();
  EXPECT_EQ(pulse->silent_since_ns, 0U) << "nobody asked for anything";
  struct Seen {
    const BackingPulse& pulse;
    std::uint64_t since_ns;
    Waiter waiter;
  } seen{*pulse, 0, {}};
  AlignedBuffer buffer(4096);
  const auto before = std::chrono::steady_clock::now().time_since_epoch();
  device->read(0, buffer.span(),
               {[](void* context, int error) {
                  auto* const s = static_cast<Seen*>(context);
                  s->since_ns = s->pulse.silent_since_ns;
                  s->waiter.completion()(error);
                },
                &seen});
  ASSERT_EQ(seen.waiter.wait(), 0);
  EXPECT_GE(std::chrono::nanoseconds(seen.since_ns), before);
  while (pulse->silent_since_ns != 0) std::this_thread::yield();
  ASSERT_EQ(flush(*device), 0);
  device.reset();
  EXPECT_EQ(pulse->silent_since_ns, 0U) << "closed, it owes nothing";
}

TEST_F(UringBackingDevTest, ContentOutlivesTheDevice) {
  AlignedBuffer data = filled(8192, 'k');
  {
    const auto device = open_device();
    ASSERT_NE(device, nullptr);
    ASSERT_EQ(write_to(*device, 4096, data), 0);
    ASSERT_EQ(flush(*device), 0);
  }
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  AlignedBuffer back = filled(8192, '?');
  EXPECT_EQ(read_from(*device, 4096, back.span()), 0);
  EXPECT_EQ(text_of(back), text_of(data));
}

TEST_F(UringBackingDevTest, PartsAreWrittenOneAfterTheOther) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  for (const std::size_t count : {std::size_t{2}, std::size_t{3}, std::size_t{256}}) {
    AlignedBuffer memory(count * 8192);
    std::string expected;
    std::vector<iovec> parts;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t length = 512 * (1 + i % 4);
      const char letter = static_cast<char>('a' + i % 26);
      std::byte* const part = memory.data() + (count - 1 - i) * 8192;
      std::memset(part, letter, length);
      parts.push_back({part, length});
      expected += std::string(length, letter);
    }
    EXPECT_EQ(write_parts(*device, 1024, parts), 0) << count;
    EXPECT_EQ(read_file(path_, 1024, expected.size()), expected) << count;
  }
}

TEST_F(UringBackingDevTest, TheArrayOfPartsMayGoAtOnce) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  AlignedBuffer data = filled(1024, 'p');
  Waiter waiter;
  {
    std::vector<iovec> parts{{data.data(), 512}, {data.data() + 512, 512}};
    device->write(0, parts, waiter.completion());
    std::fill(parts.begin(), parts.end(), iovec{nullptr, 1});
  }
  EXPECT_EQ(waiter.wait(), 0);
  EXPECT_EQ(read_file(path_, 0, 1024), text_of(data));
}

TEST_F(UringBackingDevTest, ManyInFlightFinishOnceEach) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  constexpr std::size_t kBlocks = kSize / 4096;  // more than the ring takes at a time
  static_assert(kBlocks > 512);
  AlignedBuffer data(kSize);
  for (std::size_t i = 0; i < kBlocks; ++i) std::memset(data.data() + i * 4096, static_cast<int>('a' + i % 23), 4096);
  Waiter writes;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = t; i < kBlocks; i += 2) {
        const iovec part{data.data() + i * 4096, 4096};
        device->write(i * 4096, {&part, 1}, writes.completion());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(writes.wait(kBlocks), 0);
  EXPECT_EQ(flush(*device), 0);
  AlignedBuffer back(kSize);
  Waiter reads;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    device->read(i * 4096, {back.data() + i * 4096, 4096}, reads.completion());
  }
  EXPECT_EQ(reads.wait(kBlocks), 0);
  EXPECT_TRUE(std::equal(data.data(), data.data() + kSize, back.data()));
  EXPECT_EQ(writes.count(), static_cast<int>(kBlocks));
  EXPECT_EQ(reads.count(), static_cast<int>(kBlocks));
}

TEST_F(UringBackingDevTest, DestructionWaitsForWhatIsInFlight) {
  AlignedBuffer data = filled(64 << 10, 'w');
  Waiter waiter;
  constexpr int kWrites = 300;
  {
    const auto device = open_device();
    ASSERT_NE(device, nullptr);
    const iovec part{data.data(), data.size()};
    for (int i = 0; i < kWrites; ++i) device->write(0, {&part, 1}, waiter.completion());
  }
  EXPECT_EQ(waiter.count(), kWrites);
  EXPECT_EQ(waiter.wait(kWrites), 0);
}

TEST_F(UringBackingDevTest, ACompletionMayStartTheNextOperation) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  struct Chain {
    BackingDev& device;
    AlignedBuffer buffer;
    Waiter end;
    int left = 100;
    void next() {
      device.read(0, buffer.span(),
                  {[](void* context, int error) {
                     auto* chain = static_cast<Chain*>(context);
                     if (error != 0 || --chain->left == 0) return chain->end.completion()(error);
                     chain->next();
                   },
                   this});
    }
  } chain{*device, filled(4096, '?'), {}};
  chain.next();
  EXPECT_EQ(chain.end.wait(), 0);
  EXPECT_EQ(chain.left, 0);
}

TEST_F(UringBackingDevTest, RangesOutsideOrOffSectorsAreRefused) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  AlignedBuffer data = filled(1024, 'x');
  struct Range {
    std::uint64_t offset;
    std::size_t length;
  };
  for (const Range& range : {Range{kSize, 512}, Range{kSize - 512, 1024}, Range{kSize + 512, 512},
                             Range{~0ULL - 511, 1024}, Range{1, 512}, Range{0, 511}, Range{256, 512}}) {
    const iovec part{data.data(), range.length};
    EXPECT_EQ(write_parts(*device, range.offset, {&part, 1}), EINVAL) << range.offset;
    EXPECT_EQ(read_from(*device, range.offset, data.span().first(range.length)), EINVAL) << range.offset;
    EXPECT_EQ(write_zeroes(*device, range.offset, range.length), EINVAL) << range.offset;
  }
  EXPECT_EQ(write_zeroes(*device, 512, ~0ULL - 511), EINVAL);
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
  EXPECT_EQ(read_file(path_, 0, kSize), std::string(kSize, '\0'));
}

TEST_F(UringBackingDevTest, NothingIsDoneAtOnce) {
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(write_parts(*device, kSize, {}), 0);
  EXPECT_EQ(read_from(*device, 0, {}), 0);
  EXPECT_EQ(write_zeroes(*device, 512, 0), 0);
}

TEST_F(UringBackingDevTest, WrittenZeroesReadAsZeroesAndNothingElseChanges) {
  make_file(path_, kSize, 'x');
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  for (const auto& [offset, length] :
       {std::pair<std::uint64_t, std::uint64_t>{512, 512}, {5120, 100 * 512}, {1 << 20, 2 << 20}, {kSize - 512, 512}}) {
    EXPECT_EQ(write_zeroes(*device, offset, length), 0);
    EXPECT_EQ(read_file(path_, offset, length), std::string(length, '\0')) << offset;
    EXPECT_EQ(read_file(path_, offset - 1, 1), "x") << offset;
    EXPECT_EQ(read_file(path_, offset + length, 1), offset + length < kSize ? "x" : "") << offset;
  }
  EXPECT_EQ(flush(*device), 0);
  EXPECT_EQ(stat_of(path_).st_size, static_cast<off_t>(kSize));
  EXPECT_EQ(write_zeroes(*device, 0, kSize), 0);
  EXPECT_EQ(read_file(path_, 0, kSize), std::string(kSize, '\0'));
}

TEST_F(UringBackingDevTest, WritingZeroesReleasesSpace) {
  {
    make_file(dir_ / "other", 8192, 'x');
    const UniqueFd other(open((dir_ / "other").c_str(), O_RDWR | O_CLOEXEC));
    if (fallocate(other.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0) {
      GTEST_SKIP() << "the filesystem of " << dir_.path() << " cannot punch holes: " << std::strerror(errno);
    }
  }
  make_file(path_, kSize, 'x');
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  ASSERT_EQ(flush(*device), 0);  // allocates what the filesystem had put off
  const auto before = stat_of(path_).st_blocks;
  ASSERT_GE(before, static_cast<blkcnt_t>(kSize / 512));
  EXPECT_EQ(write_zeroes(*device, 1 << 20, 2 << 20), 0);
  EXPECT_EQ(flush(*device), 0);
  EXPECT_LE(stat_of(path_).st_blocks, before - (2 << 20) / 512);
}

// A filesystem that can neither punch holes nor zero a range.
TEST_F(UringBackingDevTest, WhereNoHoleCanBePunchedZeroesAreWritten) {
  struct Ramfs {
    std::string path;
    ~Ramfs() { umount2(path.c_str(), MNT_DETACH); }
  };
  std::filesystem::create_directory(dir_ / "ramfs");
  if (mount("ramfs", (dir_ / "ramfs").c_str(), "ramfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "cannot mount a ramfs: " << std::strerror(errno);
  }
  const Ramfs ramfs{dir_ / "ramfs"};
  const std::string path = dir_ / "ramfs/backing";
  make_file(path, kSize, 'x');
  const UniqueFd other(open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_NE(fallocate(other.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0) << "it can by now";
  const auto device = open_device(path);
  ASSERT_NE(device, nullptr);
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{512, 512}, {5120, (2 << 20) + 512}}) {
    EXPECT_EQ(write_zeroes(*device, offset, length), 0);
    EXPECT_EQ(read_file(path, offset, length), std::string(length, '\0')) << offset;
    EXPECT_EQ(read_file(path, offset - 1, 1), "x") << offset;
    EXPECT_EQ(read_file(path, offset + length, 1), "x") << offset;
  }
  EXPECT_EQ(flush(*device), 0);
}

TEST_F(UringBackingDevTest, KnowsTheHolesOfAFile) {
  constexpr std::uint64_t kHole = 1 << 20;
  make_file(path_, kSize, 'x');
  const UniqueFd file(open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kHole, kHole) != 0 ||
      lseek(file.get(), 0, SEEK_HOLE) != static_cast<off_t>(kHole)) {
    GTEST_SKIP() << "the filesystem of " << dir_.path() << " knows no holes: " << std::strerror(errno);
  }
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  const auto expect = [&](std::uint64_t offset, bool data, std::uint64_t end) {
    const BackingExtent found = device->extent_at(offset);
    EXPECT_EQ(found.data, data) << offset;
    EXPECT_EQ(found.end, end) << offset;
  };
  expect(0, true, kHole);
  expect(kHole - 1, true, kHole);
  expect(kHole, false, 2 * kHole);
  expect(2 * kHole - 1, false, 2 * kHole);
  expect(2 * kHole, true, kSize);
  EXPECT_EQ(write_zeroes(*device, 3 * kHole, kSize - 3 * kHole), 0);
  expect(3 * kHole, false, kSize);
  expect(kSize - 1, false, kSize);
  ASSERT_EQ(ftruncate(file.get(), kHole), 0);
  expect(2 * kHole, true, kSize);
}

// The limit on a file's size lets the kernel do the first part of a write only. What is left goes out again, and its
// error is the write's: a part is never taken for the whole.
TEST_F(UringBackingDevTest, TheRestOfAShortWriteGoesOutAgain) {
  constexpr std::size_t kWritten = 5 * kSectorSize;
  const int outcome = result_in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit few{kWritten, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &few) != 0) return 255;
    const auto device = open_device();
    if (device == nullptr) return 255;
    AlignedBuffer first = filled(4096, 'x');
    AlignedBuffer second = filled(4096, 'y');
    const iovec parts[] = {{first.data(), 1024}, {second.data(), second.size()}};
    return write_parts(*device, 0, parts);
  });
  EXPECT_EQ(outcome, EFBIG);
  const std::string content = read_file(path_, 0, 8192);
  const std::string wanted = std::string(1024, 'x') + std::string(kWritten - 1024, 'y');
  // Some filesystems refuse the write as a whole instead.
  if (content == std::string(8192, '\0')) GTEST_SKIP() << "no short write to be had here";
  EXPECT_TRUE(content == wanted + std::string(8192 - kWritten, '\0'));
}

TEST_F(UringBackingDevTest, AFileThatBecameShorterGivesAnErrorAndLivesOn) {
  make_file(path_, kSize, 'x');
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  std::filesystem::resize_file(path_, 1 << 20);
  AlignedBuffer buffer = filled(8192, '?');
  EXPECT_EQ(read_from(*device, 2 << 20, buffer.span()), EIO);
  EXPECT_EQ(read_from(*device, (1 << 20) - 4096, buffer.span()), EIO);  // the first half is there
  std::filesystem::resize_file(path_, (1 << 20) - 100);                 // in the middle of a sector
  EXPECT_EQ(read_from(*device, (1 << 20) - 4096, buffer.span().first(4096)), EIO);
  // What is left of it can be read.
  EXPECT_EQ(read_from(*device, 0, buffer.span()), 0);
  EXPECT_EQ(text_of(buffer), std::string(8192, 'x'));
}

TEST_F(UringBackingDevTest, TheLastPartOfABlockIsServed) {
  const std::size_t size = 3 * 4096 + 512;
  make_file(path_, size, 'x');
  const auto device = open_device();
  ASSERT_NE(device, nullptr);
  ASSERT_EQ(device->size_bytes(), size);
  AlignedBuffer tail = filled(512, '?');
  EXPECT_EQ(read_from(*device, size - 512, tail.span()), 0);
  EXPECT_EQ(text_of(tail), std::string(512, 'x'));
  AlignedBuffer data = filled(4096 + 512, 't');
  EXPECT_EQ(write_to(*device, size - data.size(), data), 0);
  EXPECT_EQ(read_file(path_, 0, size + 1), std::string(2 * 4096, 'x') + std::string(4096 + 512, 't'));
  EXPECT_EQ(write_zeroes(*device, size - 512, 512), 0);
  EXPECT_EQ(read_file(path_, size - 513, 514), "t" + std::string(512, '\0'));
  AlignedBuffer beyond = filled(4096, '?');
  EXPECT_EQ(read_from(*device, size - 512, beyond.span()), EINVAL);
}

TEST_F(UringBackingDevTest, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(refusal(dir_ / "missing"), Errc::not_found);
  EXPECT_EQ(refusal(dir_ / "missing/file"), Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "missing"));
}

TEST_F(UringBackingDevTest, OnlyFilesAndBlockDevicesAreTaken) {
  std::filesystem::create_directory(dir_ / "dir");
  EXPECT_EQ(refusal(dir_ / "dir"), Errc::invalid);
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);  // opening it would block
  EXPECT_EQ(refusal(dir_ / "pipe"), Errc::invalid);
  EXPECT_EQ(refusal("/dev/null"), Errc::invalid);
}

TEST_F(UringBackingDevTest, EmptyFilesAndPartsOfSectorsAreInvalid) {
  make_file(dir_ / "empty", 0);
  EXPECT_EQ(refusal(dir_ / "empty"), Errc::invalid);
  for (const std::size_t size : {std::size_t{1}, std::size_t{511}, kSize + 1, kSize - 256}) {
    make_file(dir_ / "odd", size);
    EXPECT_EQ(refusal(dir_ / "odd"), Errc::invalid) << size;
    EXPECT_EQ(stat_of(dir_ / "odd").st_size, static_cast<off_t>(size));
  }
}

TEST_F(UringBackingDevTest, WithoutTheRightToWriteItIsPermission) {
  ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0444), 0);
  EXPECT_EQ(result_without_rights([this] { return static_cast<int>(open_backing_dev(path_).status().code()); }),
            static_cast<int>(Errc::permission));
}

TEST_F(UringBackingDevTest, ASecondOpenerGetsBusyForAsLongAsTheFirstHasIt) {
  auto device = open_device();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(refusal(path_), Errc::busy);
  const std::string link = dir_ / "link";
  std::filesystem::create_hard_link(path_, link);
  EXPECT_EQ(refusal(link), Errc::busy);
  EXPECT_TRUE(probe_backing(path_).ok());  // who only looks is let in
  const auto in_child = [this] { return static_cast<int>(open_backing_dev(path_).status().code()); };
  EXPECT_EQ(result_in_child(in_child), static_cast<int>(Errc::busy));
  device.reset();
  EXPECT_EQ(refusal(path_), Errc::ok);
}

// Another program may know only one of the two kinds.
TEST_F(UringBackingDevTest, EitherKindOfLockIsRespected) {
  UniqueFd fd(open(path_.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(fd.get(), LOCK_SH), 0);
  EXPECT_EQ(refusal(path_), Errc::busy);
  fd.reset(open(path_.c_str(), O_RDWR | O_CLOEXEC));
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(fd.get(), F_OFD_SETLK, &whole), 0);
  EXPECT_EQ(refusal(path_), Errc::busy);
  fd.reset();
  EXPECT_EQ(refusal(path_), Errc::ok);
}

TEST_F(UringBackingDevTest, ABlockDeviceIsServedAndHeldExclusively) {
  const LoopDevice loop(path_, false);
  if (!loop) GTEST_SKIP() << loop.missing();
  const auto device = open_device(loop.path());
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->size_bytes(), kSize);
  AlignedBuffer data = filled(8192, 'b');
  EXPECT_EQ(write_to(*device, 512, data), 0);
  EXPECT_EQ(write_zeroes(*device, 4096, 1024), 0);
  EXPECT_EQ(flush(*device), 0);
  EXPECT_EQ(read_file(path_, 511, 3586), std::string(1, '\0') + std::string(3584, 'b') + std::string(1, '\0'));
  EXPECT_EQ(read_file(path_, 5120, 512), std::string(512, 'b'));
  EXPECT_EQ(refusal(loop.path()), Errc::busy);
}

TEST_F(UringBackingDevTest, AReadOnlyBlockDeviceIsPermission) {
  const LoopDevice loop(path_, true);
  if (!loop) GTEST_SKIP() << loop.missing();
  EXPECT_EQ(refusal(loop.path()), Errc::permission);
}

}  // namespace
}  // namespace pcache
