// The kernel's end of a FUSE session: a socket where /dev/fuse is commonly. Nothing but requests crosses it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "mount/fuse_ops.h"
#include "mount/request_pool.h"

namespace pcache {

class FakeKernel {
 public:
  using Bytes = std::vector<std::byte>;

  struct Answer {
    int error = 0;
    Bytes data;
  };

  FakeKernel() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    kernel_.reset(ends[0]);
    daemon_.reset(ends[1]);
  }

  template <typename T>
  static Bytes bytes_of(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return {bytes.begin(), bytes.end()};
  }
  static Bytes text(std::string_view what) {
    const auto bytes = std::as_bytes(std::span(what));
    return {bytes.begin(), bytes.end()};
  }

  // A request of `opcode` that has come, with `body`, cut to `length` bytes in all unless that is 0. The memory behind
  // it has no zero byte in it, as after a large write.
  std::unique_ptr<Request> request(std::uint32_t opcode, const Bytes& body, std::uint64_t inode, std::uint32_t uid = 0,
                                   std::size_t length = 0) {
    fuse_in_header header{};
    if (length == 0) length = sizeof header + body.size();
    header.len = static_cast<std::uint32_t>(length);
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = inode;
    header.uid = uid;
    auto made = pool_.take();
    std::byte* const at = made->space().data();
    std::memset(at, 0xff, made->space().size());
    std::memcpy(at, &header, sizeof header);
    if (!body.empty()) std::memcpy(at + sizeof header, body.data(), body.size());
    EXPECT_TRUE(made->arrived(daemon_.get(), length));
    return made;
  }
  // What came of the last request, once all requests were given back; nothing: it was not answered.
  std::optional<Answer> answer() {
    pool_.wait_idle();
    Bytes message(Request::kMaxData);
    const ssize_t got = recv(kernel_.get(), message.data(), message.size(), MSG_DONTWAIT);
    fuse_out_header out{};
    if (got < static_cast<ssize_t>(sizeof out)) return std::nullopt;
    std::memcpy(&out, message.data(), sizeof out);
    EXPECT_EQ(out.len, got);
    EXPECT_EQ(out.unique, unique_);
    EXPECT_LT(recv(kernel_.get(), &out, sizeof out, MSG_DONTWAIT), 0) << "answered twice";
    return Answer{-out.error, {message.begin() + sizeof out, message.begin() + got}};
  }
  // Both, through the whole of a mount.
  std::optional<Answer> ask(FuseMount& mount, std::uint32_t opcode, const Bytes& body, std::uint64_t inode,
                            std::uint32_t uid = 0) {
    auto asked = request(opcode, body, inode, uid);
    (void)mount.arrived(*asked);
    mount.announce({&asked, 1});
    mount.serve(std::move(asked));
    return answer();
  }

  // The number of the last request.
  std::uint64_t last() const { return unique_; }
  RequestPool& pool() { return pool_; }
  // Where requests are answered.
  int daemon_end() const { return daemon_.get(); }

 private:
  RequestPool pool_{{.prefaulted = 1}};
  UniqueFd kernel_;
  UniqueFd daemon_;
  std::uint64_t unique_ = 100;
};

inline FakeKernel::Bytes operator+(FakeKernel::Bytes a, const FakeKernel::Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace pcache
