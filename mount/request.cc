#include "mount/request.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace pcache {
namespace {

constexpr std::size_t kAnswerOffset = Request::kDataOffset - sizeof(fuse_out_header);

}  // namespace

// In one piece with its data, over the request's fields, which nobody needs any more: one part is cheaper to send than
// two.
void Request::compose(int error, std::span<const std::byte> data) {
  const fuse_out_header out{static_cast<std::uint32_t>(sizeof(fuse_out_header) + data.size()), error, header().unique};
  if (!data.empty() && data.data() != memory_.data() + kDataOffset) {
    std::memcpy(memory_.data() + kDataOffset, data.data(), data.size());
  }
  std::memcpy(memory_.data() + kAnswerOffset, &out, sizeof out);
  answer_length_ = out.len;
}

void Request::send() {
  if (answer_length_ == 0) return;
  const ssize_t sent = write(fd_, memory_.data() + kAnswerOffset, std::exchange(answer_length_, 0));
  // ENOENT: whoever asked is gone; ENODEV: so is the mount.
  if (sent < 0 && errno != ENOENT && errno != ENODEV) {
    spdlog::error("cannot answer the kernel: {}", std::strerror(errno));
  }
}

}  // namespace pcache
