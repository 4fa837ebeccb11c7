// What requests that are answered by commands have in common.
#pragma once

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "control/control_tree.h"
#include "mount/request.h"
#include "mount/request_pool.h"

namespace pcache {

// With an errno; 0 for success without anything else.
inline void refuse(std::unique_ptr<Request> request, int error) {
  request->reply(error);
  RequestPool::give_back(std::move(request));
}

inline void answer_bytes(std::unique_ptr<Request> request, std::span<const std::byte> bytes) {
  request->reply(bytes);
  RequestPool::give_back(std::move(request));
}

template <typename T>
void answer_with(std::unique_ptr<Request> request, const T& value) {
  answer_bytes(std::move(request), std::as_bytes(std::span(&value, 1)));
}

// Root, and whose mount it is.
inline bool is_owner(const Request& request) { return request.header().uid == 0 || request.header().uid == geteuid(); }

// The name that begins at `at` in the body, or nothing if it does not end.
inline std::optional<std::string_view> name_in(const Request& request, std::size_t at) {
  const char* const body = &request.body<char>();
  const std::size_t length = request.length() - sizeof(fuse_in_header);
  if (at >= length) return std::nullopt;
  const auto* const zero = static_cast<const char*>(std::memchr(body + at, '\0', length - at));
  if (zero == nullptr) return std::nullopt;
  return std::string_view(body + at, static_cast<std::size_t>(zero - body) - at);
}

// Answers with what became of the command; a write with how much it took. For one completion.
inline ControlTree::Done answer_when_done(std::unique_ptr<Request> waiting) {
  return [request = waiting.release()](const Status& status) {
    std::unique_ptr<Request> taken(request);
    if (!status.ok()) {
      spdlog::error("{}", status.message());
      return refuse(std::move(taken), to_errno(status.code()));
    }
    if (taken->header().opcode != FUSE_WRITE) return refuse(std::move(taken), 0);
    fuse_write_out out{};
    out.size = static_cast<std::uint32_t>(taken->wanted);
    answer_with(std::move(taken), out);
  };
}

}  // namespace pcache
