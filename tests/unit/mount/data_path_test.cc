#include "mount/data_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "tests/support/memory_dev.h"
#include "tests/unit/mount/fake_kernel.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSize = MemoryDev::kSize;
constexpr std::uint64_t kInode = MemoryDev::kInode;

class DataPathTest : public testing::Test {
 protected:
  using Answer = FakeKernel::Answer;

  // A request of `opcode` that has come: `body`, then `data`, cut to `length` bytes in all unless that is 0.
  template <typename Body>
  std::unique_ptr<Request> request(std::uint32_t opcode, const Body& body, std::span<const std::byte> data = {},
                                   std::size_t length = 0, std::uint64_t inode = kInode) {
    return kernel_.request(opcode, FakeKernel::bytes_of(body) + FakeKernel::Bytes(data.begin(), data.end()), inode, 0,
                           length);
  }
  // Sends a request() and receives its answer, which it gets at once.
  template <typename Body>
  Answer ask(std::uint32_t opcode, const Body& body, std::span<const std::byte> data = {}, std::size_t length = 0,
             std::uint64_t inode = kInode) {
    auto asked = request(opcode, body, data, length, inode);
    (void)path_.admit(*asked);
    EXPECT_TRUE(path_.handle(asked));
    const auto answer = kernel_.answer();
    EXPECT_TRUE(answer.has_value()) << "opcode " << opcode << " is not answered";
    return answer.value_or(Answer{-1, {}});
  }
  Answer read(std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = size;
    return ask(FUSE_READ, in);
  }
  Answer write(std::uint64_t offset, std::span<const std::byte> data, std::uint32_t flags = 0) {
    fuse_write_in in{};
    in.offset = offset;
    in.size = static_cast<std::uint32_t>(data.size());
    in.flags = flags;
    return ask(FUSE_WRITE, in, data);
  }
  Answer allocate(std::uint32_t mode, std::uint64_t offset, std::uint64_t length) {
    fuse_fallocate_in in{};
    in.mode = mode;
    in.offset = offset;
    in.length = length;
    return ask(FUSE_FALLOCATE, in);
  }
  static std::uint32_t bytes_written(const Answer& answer) {
    fuse_write_out out{};
    EXPECT_EQ(answer.data.size(), sizeof out);
    std::memcpy(&out, answer.data.data(), std::min(answer.data.size(), sizeof out));
    return out.size;
  }

  OneDevice devices_;
  MemoryDev& device_ = *devices_.device;
  FakeKernel kernel_;
  DataPath path_{devices_};
};

TEST_F(DataPathTest, WritesAndReadsBack) {
  const std::vector<std::byte> data(5000, std::byte{9});
  EXPECT_EQ(bytes_written(write(1234, data)), 5000U);
  const Answer answer = read(1234, 5000);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.data, data);
  EXPECT_EQ(device_.content[1233], std::byte{1});
  EXPECT_EQ(device_.content[6234], std::byte{1});
  EXPECT_EQ(device_.flushes, 0);
}

TEST_F(DataPathTest, TheEndOfTheDeviceCutsReadsAndWrites) {
  EXPECT_EQ(read(kSize - 100, 4096).data.size(), 100U);
  EXPECT_EQ(read(kSize, 4096).data.size(), 0U);
  EXPECT_EQ(read(UINT64_MAX - 10, 4096).error, 0);
  const std::vector<std::byte> data(4096, std::byte{5});
  EXPECT_EQ(bytes_written(write(kSize - 100, data)), 100U);
  EXPECT_EQ(write(kSize, data).error, ENOSPC);
  EXPECT_EQ(write(UINT64_MAX - 10, data).error, ENOSPC);
}

TEST_F(DataPathTest, ASynchronousWriteIsFlushedBeforeItsAnswer) {
  const std::array<std::byte, 512> data{};
  EXPECT_EQ(bytes_written(write(0, data, O_DSYNC)), 512U);
  EXPECT_EQ(device_.flushes, 1);
  device_.flush_error = EIO;
  EXPECT_EQ(write(0, data, O_SYNC).error, EIO);
}

TEST_F(DataPathTest, ErrorsOfTheDeviceReachTheKernel) {
  device_.error = EIO;
  const std::array<std::byte, 512> data{};
  EXPECT_EQ(read(0, 512).error, EIO);
  EXPECT_EQ(write(0, data).error, EIO);
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE, 0, 4096).error, EIO);
  device_.flush_error = EIO;
  EXPECT_EQ(ask(FUSE_FSYNC, fuse_fsync_in{}).error, EIO);
}

TEST_F(DataPathTest, ZeroesAndHolesInsideTheDeviceOnly) {
  EXPECT_EQ(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096).error, 0);
  EXPECT_EQ(device_.content[4096], std::byte{0});
  EXPECT_EQ(device_.content[8192], std::byte{1});
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, kSize - 4096, 1 << 20).error, 0);
  EXPECT_EQ(device_.content[kSize - 1], std::byte{0});
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE, kSize - 4096, 1 << 20).error, EINVAL) << "would grow the file";
  EXPECT_EQ(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kSize, 4096).error, 0);
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, kSize, 4096).error, ENOSPC);
  EXPECT_EQ(allocate(0, 0, 4096).error, EOPNOTSUPP);
  EXPECT_EQ(allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096).error, EOPNOTSUPP);
}

TEST_F(DataPathTest, HostileFieldsAreRefused) {
  EXPECT_EQ(read(0, UINT32_MAX).error, EINVAL);
  fuse_write_in longer{};
  longer.size = 4096;  // but brings 512
  EXPECT_EQ(ask(FUSE_WRITE, longer, std::vector<std::byte>(512)).error, EINVAL);
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 0).error, EINVAL);
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, UINT64_MAX, 4096).error, EINVAL);
  EXPECT_EQ(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 4096, UINT64_MAX).error, EINVAL);
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_WRITE, FUSE_FSYNC, FUSE_FALLOCATE}) {
    EXPECT_EQ(ask(opcode, std::array<std::byte, 8>{}).error, EINVAL) << opcode;  // too short for its fields
  }
  EXPECT_EQ(ask(FUSE_FSYNC, fuse_fsync_in{}, {}, 0, kInode + 1).error, EIO);
  EXPECT_EQ(device_.content, std::vector<std::byte>(kSize, std::byte{1})) << "nothing was written";
}

TEST_F(DataPathTest, WhatMayTakeLongIsKnownWhenItComes) {
  fuse_read_in in{};
  in.size = 4096;
  EXPECT_FALSE(path_.admit(*request(FUSE_READ, in)));
  EXPECT_FALSE(path_.admit(*request(FUSE_FSYNC, fuse_fsync_in{})));
  EXPECT_TRUE(path_.admit(*request(FUSE_FALLOCATE, fuse_fallocate_in{})));
  in.size = 1 << 20;
  EXPECT_TRUE(path_.admit(*request(FUSE_READ, in)));
  EXPECT_TRUE(path_.admit(*request(FUSE_WRITE, fuse_write_in{}, std::vector<std::byte>(128 << 10))));
  device_.waits = true;
  in.size = 512;
  EXPECT_TRUE(path_.admit(*request(FUSE_READ, in)));
  EXPECT_FALSE(path_.admit(*request(FUSE_READ, std::array<std::byte, 8>{}))) << "too short for its fields";
}

TEST_F(DataPathTest, DevicesAreToldWhatIsGoingToBeReadAndWritten) {
  std::vector<std::unique_ptr<Request>> batch;
  const auto add_read = [&](std::uint64_t offset) {
    fuse_read_in in{};
    in.offset = offset;
    batch.push_back(request(FUSE_READ, in));
  };
  add_read(4096);
  add_read(UINT64_MAX);
  batch.push_back(request(FUSE_FSYNC, fuse_fsync_in{}));
  add_read(512);
  fuse_write_in in{};
  in.offset = 8192;
  batch.push_back(request(FUSE_WRITE, in, std::vector<std::byte>(512)));
  batch.push_back(request(FUSE_READ, std::array<std::byte, 8>{}));
  for (const auto& each : batch) (void)path_.admit(*each);
  DataPath::announce(batch);
  using Offsets = std::vector<std::uint64_t>;
  ASSERT_EQ(device_.expected.size(), 4U);
  EXPECT_EQ(device_.expected[0].offsets, (Offsets{4096, UINT64_MAX}));
  EXPECT_EQ(device_.expected[1].offsets, (Offsets{512}));
  EXPECT_EQ(device_.expected[2].access, LogicDev::Access::write);
  EXPECT_EQ(device_.expected[2].offsets, (Offsets{8192}));
  EXPECT_EQ(device_.expected[3].offsets, Offsets()) << "the request is too short for an offset";
}

TEST_F(DataPathTest, WhatIsNoRequestIsNotTakenForOne) {
  auto noise = kernel_.pool().take();
  std::memset(noise->space().data(), 0, 64);
  EXPECT_FALSE(noise->arrived(kernel_.daemon_end(), 10));
  EXPECT_FALSE(noise->arrived(kernel_.daemon_end(), 64)) << "its own length says 0";
  kernel_.pool().give_back(std::move(noise));
}

}  // namespace
}  // namespace pcache
