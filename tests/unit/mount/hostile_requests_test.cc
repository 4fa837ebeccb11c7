// Requests that no kernel sends, through the whole of a mount's handling of them and libfuse's: each is answered with
// an errno, or not at all where the protocol says so, and nothing is changed.

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <vector>

#include "mount/fuse_ops.h"
#include "tests/support/memory_dev.h"
#include "tests/unit/mount/fake_kernel.h"

namespace pcache {
namespace {

using Bytes = FakeKernel::Bytes;

Bytes text(const std::string& what) { return FakeKernel::text(what); }

template <typename T>
Bytes bytes_of(const T& value) {
  return FakeKernel::bytes_of(value);
}

class HostileRequests : public testing::Test {
 protected:
  HostileRequests() {
    auto mount = FuseMount::without_kernel(manager_);
    EXPECT_TRUE(mount.ok());
    mount_ = std::move(*mount);
  }
  ~HostileRequests() override {
    EXPECT_EQ(manager_.device->beyond_end, 0);
    EXPECT_EQ(manager_.device->content, Bytes(MemoryDev::kSize, std::byte{1})) << "nothing was written";
  }

  std::optional<FakeKernel::Answer> ask(std::uint32_t opcode, const Bytes& body,
                                        std::uint64_t inode = MemoryDev::kInode) {
    return kernel_.ask(*mount_, opcode, body, inode);
  }
  int error_of(std::uint32_t opcode, const Bytes& body, std::uint64_t inode = MemoryDev::kInode) {
    const auto answer = ask(opcode, body, inode);
    EXPECT_TRUE(answer.has_value()) << "opcode " << opcode << " is not answered";
    return answer ? answer->error : -1;
  }
  void init() {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    EXPECT_EQ(error_of(FUSE_INIT, bytes_of(in), 0), 0);
  }

  OneDevice manager_;
  FakeKernel kernel_;
  std::unique_ptr<FuseMount> mount_;
};

TEST_F(HostileRequests, BeforeTheSessionHasBegunAreRefused) {
  EXPECT_EQ(error_of(FUSE_LOOKUP, text(std::string("memory") + '\0'), FUSE_ROOT_ID), EIO);
  EXPECT_EQ(error_of(FUSE_STATFS, {}, FUSE_ROOT_ID), EIO);
}

TEST_F(HostileRequests, ASessionBeginsOnce) {
  EXPECT_EQ(error_of(FUSE_INIT, Bytes(8), 0), EINVAL) << "too short";
  fuse_init_in extended{};
  extended.major = FUSE_KERNEL_VERSION;
  extended.minor = FUSE_KERNEL_MINOR_VERSION;
  extended.flags = FUSE_INIT_EXT;
  Bytes cut = bytes_of(extended);
  cut.resize(16);
  EXPECT_EQ(error_of(FUSE_INIT, cut, 0), EINVAL) << "says that it has more than it brings";
  init();
  EXPECT_EQ(error_of(FUSE_INIT, bytes_of(extended), 0), EIO);
}

TEST_F(HostileRequests, NamesEndInsideTheRequest) {
  init();
  for (const Bytes& name : {Bytes{}, text("memory"), Bytes(1000, std::byte{'x'}), Bytes(100'000, std::byte{0xff})}) {
    EXPECT_EQ(error_of(FUSE_LOOKUP, name, FUSE_ROOT_ID), EINVAL) << name.size();
    EXPECT_EQ(error_of(FUSE_UNLINK, name, FUSE_ROOT_ID), EINVAL) << name.size();
    EXPECT_EQ(error_of(FUSE_MKDIR, bytes_of(fuse_mkdir_in{}) + name, FUSE_ROOT_ID), EINVAL) << name.size();
    EXPECT_EQ(error_of(FUSE_CREATE, bytes_of(fuse_create_in{}) + name, FUSE_ROOT_ID), EINVAL) << name.size();
    const Bytes one_name = text(std::string("memory") + '\0') + name;
    EXPECT_EQ(error_of(FUSE_RENAME, bytes_of(fuse_rename_in{}) + one_name, FUSE_ROOT_ID), EINVAL) << name.size();
    EXPECT_EQ(error_of(FUSE_RENAME2, bytes_of(fuse_rename2_in{}) + one_name, FUSE_ROOT_ID), EINVAL) << name.size();
  }
  EXPECT_EQ(error_of(FUSE_LOOKUP, text(std::string("memory") + '\0'), FUSE_ROOT_ID), 0) << "this one does";
}

TEST_F(HostileRequests, NamesThatNoFileHasAreNotFound) {
  init();
  for (const std::string& name : {std::string(), std::string("a/../memory"), std::string("/memory"),
                                  std::string(100'000, 'n'), std::string("\xff\xfe")}) {
    EXPECT_EQ(error_of(FUSE_LOOKUP, text(name + '\0'), FUSE_ROOT_ID), ENOENT) << name.substr(0, 20);
  }
  EXPECT_EQ(error_of(FUSE_LOOKUP, text(std::string("memory") + '\0'), MemoryDev::kInode), ENOENT) << "no directory";
}

TEST_F(HostileRequests, RequestsTooShortForTheirFieldsAreRefused) {
  init();
  for (const std::uint32_t opcode :
       {FUSE_GETATTR, FUSE_SETATTR, FUSE_MKNOD, FUSE_MKDIR, FUSE_RENAME, FUSE_OPEN, FUSE_READ, FUSE_WRITE, FUSE_RELEASE,
        FUSE_FSYNC, FUSE_FLUSH, FUSE_OPENDIR, FUSE_READDIR, FUSE_RELEASEDIR, FUSE_CREATE, FUSE_FALLOCATE, FUSE_RENAME2,
        FUSE_LSEEK}) {
    for (const std::size_t length : {0, 1, 7}) {
      EXPECT_EQ(error_of(opcode, Bytes(length)), EINVAL) << "opcode " << opcode << " with " << length << " bytes";
    }
  }
}

TEST_F(HostileRequests, OperationsThatThereAreNotAreUnknown) {
  init();
  for (std::uint32_t opcode = 0; opcode < 70; ++opcode) {
    for (const Bytes& body : {Bytes(), Bytes(256), Bytes(256, std::byte{0xff})}) {
      const auto answer = ask(opcode, body, 0);
      const bool silent = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_NOTIFY_REPLY;
      EXPECT_EQ(answer.has_value(), !silent) << "opcode " << opcode;
    }
  }
  for (const std::uint32_t opcode : {70U, 255U, 256U, 4096U, 65535U, 0x7fffffffU, 0x80000000U, UINT_MAX}) {
    EXPECT_EQ(error_of(opcode, Bytes(256)), ENOSYS) << "opcode " << opcode;
  }
  EXPECT_EQ(error_of(FUSE_INTERRUPT, bytes_of(fuse_interrupt_in{kernel_.last()})), ENOSYS);
  EXPECT_EQ(error_of(FUSE_INTERRUPT, {}), ENOSYS);
}

TEST_F(HostileRequests, ForgettingMoreThanTheRequestNamesHurtsNobody) {
  init();
  fuse_batch_forget_in many{};
  many.count = UINT_MAX;
  EXPECT_FALSE(ask(FUSE_BATCH_FORGET, bytes_of(many), 0).has_value());
  EXPECT_FALSE(ask(FUSE_BATCH_FORGET, {}, 0).has_value());
  EXPECT_FALSE(ask(FUSE_FORGET, bytes_of(fuse_forget_in{UINT64_MAX}), UINT64_MAX).has_value());
  EXPECT_FALSE(ask(FUSE_FORGET, {}).has_value());
}

TEST_F(HostileRequests, InodesThatThereAreNotHaveNothing) {
  init();
  for (const std::uint64_t inode : {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{1} << 63, UINT64_MAX}) {
    EXPECT_EQ(error_of(FUSE_GETATTR, bytes_of(fuse_getattr_in{}), inode), ESTALE);
    EXPECT_EQ(error_of(FUSE_SETATTR, bytes_of(fuse_setattr_in{}), inode), ESTALE);
    EXPECT_EQ(error_of(FUSE_OPEN, bytes_of(fuse_open_in{}), inode), ESTALE);
    EXPECT_EQ(error_of(FUSE_READDIR, bytes_of(fuse_read_in{}), inode), ENOTDIR);
    EXPECT_EQ(error_of(FUSE_LSEEK, bytes_of(fuse_lseek_in{}), inode), EIO);
    EXPECT_EQ(error_of(FUSE_READ, bytes_of(fuse_read_in{}), inode), EIO);
    EXPECT_EQ(error_of(FUSE_FALLOCATE, bytes_of(fuse_fallocate_in{}), inode), EIO);
  }
}

TEST_F(HostileRequests, ADirectoryIsReadFromAnywhere) {
  init();
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 62,
                                     std::uint64_t{1} << 63, UINT64_MAX - 1, UINT64_MAX}) {
    for (const std::uint32_t size : {0U, 1U, 24U, 100U, UINT_MAX}) {
      fuse_read_in in{};
      in.offset = offset;
      in.size = size;
      const auto answer = ask(FUSE_READDIR, bytes_of(in), FUSE_ROOT_ID);
      ASSERT_TRUE(answer.has_value());
      EXPECT_EQ(answer->error, 0);
      EXPECT_LE(answer->data.size(), size);
    }
  }
}

TEST_F(HostileRequests, OffsetsAndSizesAtTheEndsOfTheirRangesChangeNothing) {
  init();
  constexpr std::uint64_t kEnds[] = {std::uint64_t{1} << 62, INT64_MAX, std::uint64_t{1} << 63, UINT64_MAX - 4095,
                                     UINT64_MAX};
  for (const std::uint64_t offset : kEnds) {
    fuse_read_in read{};
    read.offset = offset;
    read.size = 4096;
    const auto answer = ask(FUSE_READ, bytes_of(read));
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->error, 0);
    EXPECT_TRUE(answer->data.empty()) << "there is nothing behind the end";
    fuse_write_in write{};
    write.offset = offset;
    write.size = 4096;
    EXPECT_EQ(error_of(FUSE_WRITE, bytes_of(write) + Bytes(4096)), ENOSPC);
    write.offset = 0;
    write.size = UINT_MAX;
    EXPECT_EQ(error_of(FUSE_WRITE, bytes_of(write) + Bytes(4096)), EINVAL);
    fuse_lseek_in seek{};
    seek.offset = offset;
    seek.whence = SEEK_DATA;
    EXPECT_EQ(error_of(FUSE_LSEEK, bytes_of(seek)), ENXIO);
    fuse_setattr_in attributes{};
    attributes.valid = FATTR_SIZE;
    attributes.size = offset;
    EXPECT_EQ(error_of(FUSE_SETATTR, bytes_of(attributes)), EPERM);
  }
  fuse_read_in huge{};
  huge.size = UINT_MAX;
  EXPECT_EQ(error_of(FUSE_READ, bytes_of(huge)), EINVAL);
}

}  // namespace
}  // namespace pcache
