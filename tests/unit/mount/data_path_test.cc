#include "mount/data_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "mount/request_pool.h"
#include "tests/support/memory_dev.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSize = MemoryDev::kSize;
constexpr std::uint64_t kInode = MemoryDev::kInode;

// The kernel's side is the other end of a socket that keeps messages apart.
class DataPathTest : public testing::Test {
 protected:
  DataPathTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    kernel_.reset(ends[0]);
    ours_.reset(ends[1]);
  }

  // A request of `opcode` that has come: `body`, then `data`, cut to `length` bytes in all unless that is 0.
  template <typename Body>
  std::unique_ptr<Request> request(std::uint32_t opcode, const Body& body, std::span<const std::byte> data = {},
                                   std::size_t length = 0, std::uint64_t inode = kInode) {
    auto made = pool_.take();
    fuse_in_header header{};
    const std::size_t whole = sizeof header + sizeof body + data.size();
    if (length == 0) length = whole;
    header.len = static_cast<std::uint32_t>(length);
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = inode;
    std::byte* at = made->space().data();
    std::memcpy(at, &header, sizeof header);
    std::memcpy(at + sizeof header, &body, sizeof body);
    if (!data.empty()) std::memcpy(at + sizeof header + sizeof body, data.data(), data.size());
    EXPECT_TRUE(made->arrived(ours_.get(), length));
    return made;
  }

  struct Answer {
    int error = 0;
    std::vector<std::byte> data;
  };
  // Sends a request() and receives its answer.
  template <typename Body>
  Answer ask(std::uint32_t opcode, const Body& body, std::span<const std::byte> data = {}, std::size_t length = 0,
             std::uint64_t inode = kInode) {
    auto asked = request(opcode, body, data, length, inode);
    (void)path_.admit(*asked);
    EXPECT_TRUE(path_.handle(asked));
    pool_.wait_idle();  // it was answered at once, and given back

    std::vector<std::byte> message(Request::kMaxData);
    const ssize_t got = recv(kernel_.get(), message.data(), message.size(), MSG_DONTWAIT);
    EXPECT_GE(got, static_cast<ssize_t>(sizeof(fuse_out_header)));
    fuse_out_header out{};
    std::memcpy(&out, message.data(), sizeof out);
    EXPECT_EQ(out.len, got);
    EXPECT_EQ(out.unique, unique_);
    EXPECT_LT(recv(kernel_.get(), message.data() + out.len, 1, MSG_DONTWAIT), 0) << "answered twice";
    return {-out.error, {message.begin() + sizeof out, message.begin() + out.len}};
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
  RequestPool pool_{{.prefaulted = 1}};
  DataPath path_{devices_};
  UniqueFd kernel_;
  UniqueFd ours_;
  std::uint64_t unique_ = 100;
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
  auto noise = pool_.take();
  std::memset(noise->space().data(), 0, 64);
  EXPECT_FALSE(noise->arrived(ours_.get(), 10));
  EXPECT_FALSE(noise->arrived(ours_.get(), 64)) << "its own length says 0";
  pool_.give_back(std::move(noise));
}

}  // namespace
}  // namespace pcache
