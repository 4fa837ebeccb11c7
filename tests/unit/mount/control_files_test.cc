// The control tree as the kernel sees it: requests through the whole of a mount, answered by the control server's
// threads.

#include "mount/control_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "control/control_server.h"
#include "mount/fuse_ops.h"
#include "tests/support/memory_dev.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/mount/fake_kernel.h"

namespace pcache {
namespace {

using Bytes = FakeKernel::Bytes;

template <typename T>
Bytes bytes_of(const T& value) {
  return FakeKernel::bytes_of(value);
}

Bytes name(const std::string& what) { return FakeKernel::text({what.c_str(), what.size() + 1}); }

class ControlFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("PCACHEFS_RUN_DIR", (dir_ / "run").c_str(), 1);
    auto server = ControlServer::start("/mnt/x", manager_, [] {});
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    auto mount = FuseMount::without_kernel(manager_, &server_->tree());
    ASSERT_TRUE(mount.ok());
    mount_ = std::move(*mount);
  }
  void TearDown() override {
    server_.reset();
    unsetenv("PCACHEFS_RUN_DIR");
  }

  struct Answer {
    int error = 0;
    Bytes data;
    template <typename T>
    T as() const {
      T value{};
      EXPECT_EQ(data.size(), sizeof value);
      std::memcpy(&value, data.data(), std::min(data.size(), sizeof value));
      return value;
    }
  };
  Answer ask(std::uint32_t opcode, const Bytes& body, std::uint64_t inode, std::uint32_t uid = 0) {
    const auto answer = kernel_.ask(*mount_, opcode, body, inode, uid);
    return answer ? Answer{answer->error, answer->data} : Answer{-1, {}};
  }
  std::uint64_t lookup(std::uint64_t parent, const std::string& what) {
    const Answer answer = ask(FUSE_LOOKUP, name(what), parent);
    return answer.error != 0 ? 0 : answer.as<fuse_entry_out>().nodeid;
  }
  std::uint64_t tree() { return lookup(FUSE_ROOT_ID, ".pcache"); }
  Answer open(std::uint64_t inode, std::uint32_t flags, std::uint32_t uid = 0) {
    fuse_open_in in{};
    in.flags = flags;
    return ask(FUSE_OPEN, bytes_of(in), inode, uid);
  }
  Answer read(std::uint64_t inode, std::uint64_t handle, std::uint64_t offset = 0, std::uint32_t size = 4096) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return ask(FUSE_READ, bytes_of(in), inode);
  }
  Answer write(std::uint64_t inode, const std::string& text, std::uint32_t uid = 0) {
    fuse_write_in in{};
    in.size = static_cast<std::uint32_t>(text.size());
    return ask(FUSE_WRITE, bytes_of(in) + FakeKernel::text(text), inode, uid);
  }
  static std::string text(const Answer& answer) {
    return {reinterpret_cast<const char*>(answer.data.data()), answer.data.size()};
  }

  TempDir dir_;
  OneDevice manager_;
  FakeKernel kernel_;
  std::unique_ptr<ControlServer> server_;
  std::unique_ptr<FuseMount> mount_;
};

TEST_F(ControlFilesTest, AreBesideTheLogicalDevices) {
  ASSERT_EQ(tree(), ControlTree::kRoot);
  const auto attributes = ask(FUSE_GETATTR, {}, tree()).as<fuse_attr_out>().attr;
  EXPECT_EQ(attributes.mode, S_IFDIR | S_ISVTX | 0777U);
  const std::uint64_t registers = lookup(tree(), "cache_dev_register");
  EXPECT_EQ(ask(FUSE_GETATTR, {}, registers).as<fuse_attr_out>().attr.mode, S_IFREG | 0222U);
  EXPECT_EQ(lookup(tree(), "nosuch"), 0U);
  EXPECT_EQ(lookup(registers, "nosuch"), 0U) << "it is no directory";
}

TEST_F(ControlFilesTest, ADirectoryIsListedInPieces) {
  std::vector<std::string> names;
  std::uint64_t offset = 0;
  for (int pieces = 0; pieces < 50; ++pieces) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = 100;
    const Answer answer = ask(FUSE_READDIR, bytes_of(in), tree());
    ASSERT_EQ(answer.error, 0);
    if (answer.data.empty()) break;
    for (std::size_t at = 0; at < answer.data.size();) {
      fuse_dirent entry{};
      std::memcpy(&entry, answer.data.data() + at, FUSE_NAME_OFFSET);
      names.emplace_back(reinterpret_cast<const char*>(answer.data.data() + at + FUSE_NAME_OFFSET), entry.namelen);
      offset = entry.off;
      at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
    }
  }
  EXPECT_EQ(names, (std::vector<std::string>{".", "..", "cache_dev_register", "cache_dev_unregister", "events",
                                             "health", "jobs", "status", "version", "last_error"}));
}

TEST_F(ControlFilesTest, AHandleKeepsTheValueThatItWasOpenedWith) {
  const std::uint64_t errors = lookup(tree(), "last_error");
  const auto before = open(errors, O_RDONLY).as<fuse_open_out>();
  EXPECT_EQ(before.open_flags, std::uint32_t{FOPEN_DIRECT_IO});
  EXPECT_EQ(write(lookup(tree(), "cache_dev_register"), "path=/x,nonsense=1\n").error, EINVAL);
  EXPECT_EQ(text(read(errors, before.fh)), "");
  const auto after = open(errors, O_RDONLY).as<fuse_open_out>();
  const std::string whole = text(read(errors, after.fh));
  EXPECT_NE(whole.find("'nonsense'"), std::string::npos) << whole;
  EXPECT_EQ(text(read(errors, after.fh, 5, 3)), whole.substr(5, 3));
  EXPECT_EQ(text(read(errors, after.fh, 5000)), "");
  fuse_release_in release{};
  release.fh = before.fh;
  EXPECT_EQ(ask(FUSE_RELEASE, bytes_of(release), errors).error, 0);
  EXPECT_EQ(text(read(errors, before.fh)), whole) << "a handle that is not known reads what there is";
}

TEST_F(ControlFilesTest, AWriteIsACommandAndTakesAllThatItBrings) {
  const std::uint64_t registers = lookup(tree(), "cache_dev_register");
  fuse_setattr_in truncate{};
  truncate.valid = FATTR_SIZE;
  EXPECT_EQ(ask(FUSE_SETATTR, bytes_of(truncate), registers).error, 0) << "the shell's > truncates";
  EXPECT_EQ(open(registers, O_WRONLY).error, 0);
  EXPECT_EQ(open(registers, O_RDONLY).error, EACCES);
  const Answer refused = write(lookup(tree(), "cache_dev_unregister"), "cache_dev_id=0");
  EXPECT_EQ(refused.error, ENOENT) << "there is none";
  EXPECT_EQ(write(registers, "path=relative").error, EINVAL);
}

TEST_F(ControlFilesTest, OnlyTheOwnerMayWrite) {
  const std::uint64_t registers = lookup(tree(), "cache_dev_register");
  const std::uint32_t stranger = geteuid() + 1000;
  EXPECT_EQ(open(registers, O_WRONLY, stranger).error, EPERM);
  EXPECT_EQ(write(registers, "path=/x", stranger).error, EPERM);
  EXPECT_EQ(ask(FUSE_UNLINK, name("version"), tree(), stranger).error, EPERM);
  EXPECT_EQ(open(lookup(tree(), "version"), O_RDONLY, stranger).error, 0);
}

// ENOSYS would make the kernel stop asking for some operations in the whole mount.
TEST_F(ControlFilesTest, RequestsThatMakeNoSenseAreRefused) {
  const std::uint64_t version = lookup(tree(), "version");
  for (const std::uint64_t inode : {tree(), version, ControlTree::kRoot + 999, ~std::uint64_t{0}}) {
    for (std::uint32_t opcode = 1; opcode < 60; ++opcode) {
      if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_NOTIFY_REPLY) continue;
      if (opcode == FUSE_INIT || opcode == FUSE_DESTROY) continue;
      for (const Bytes& body : {Bytes(), Bytes(3, std::byte{0xff}), Bytes(64, std::byte{0xff}), Bytes(128)}) {
        const Answer answer = ask(opcode, body, inode);
        EXPECT_GE(answer.error, 0) << "opcode " << opcode << " is not answered";
      }
    }
  }
  for (const std::uint32_t opcode : {FUSE_LSEEK, FUSE_FALLOCATE, FUSE_GETXATTR, FUSE_CREATE, FUSE_MKDIR, FUSE_RENAME}) {
    const int error = ask(opcode, {}, version).error;
    EXPECT_NE(error, 0) << opcode;
    EXPECT_NE(error, ENOSYS) << opcode;
  }
}

}  // namespace
}  // namespace pcache
