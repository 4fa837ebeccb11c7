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

  // What comes of a request of `opcode` with `body`, once it is answered; nothing: it was not. The memory behind the
  // request has no zero byte in it, as after a large write.
  std::optional<Answer> ask(FuseMount& mount, std::uint32_t opcode, const Bytes& body, std::uint64_t inode,
                            std::uint32_t uid = 0) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = inode;
    header.uid = uid;
    auto request = pool_.take();
    std::byte* const at = request->space().data();
    std::memset(at, 0xff, request->space().size());
    std::memcpy(at, &header, sizeof header);
    if (!body.empty()) std::memcpy(at + sizeof header, body.data(), body.size());
    EXPECT_TRUE(request->arrived(daemon_.get(), header.len));
    (void)mount.arrived(*request);
    mount.announce({&request, 1});
    mount.serve(std::move(request));
    pool_.wait_idle();

    Bytes message(256 << 10);
    const ssize_t got = recv(kernel_.get(), message.data(), message.size(), MSG_DONTWAIT);
    fuse_out_header out{};
    if (got < static_cast<ssize_t>(sizeof out)) return std::nullopt;
    std::memcpy(&out, message.data(), sizeof out);
    EXPECT_EQ(out.len, got);
    EXPECT_EQ(out.unique, unique_);
    EXPECT_LT(recv(kernel_.get(), &out, sizeof out, MSG_DONTWAIT), 0) << "answered twice";
    return Answer{-out.error, {message.begin() + sizeof out, message.begin() + got}};
  }

  // The number of the last request.
  std::uint64_t last() const { return unique_; }

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
