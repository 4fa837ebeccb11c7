// HTTP requests and replies, as far as the control socket goes by them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace pcache {

inline constexpr std::size_t kMaxMessageBytes = 64 * 1024;  // of a request's body
inline constexpr std::size_t kMaxHeaderBytes = 8 * 1024;
inline constexpr std::size_t kMaxReplyBytes = 16 * 1024 * 1024;

struct HttpRequest {
  std::string method;  // "GET", ...
  std::string target;  // "/v1/events?follow=0"
  std::string accept;
  std::string body;
  std::optional<std::string> host = std::nullopt;  // as the Host header says; there need not be one
  bool is_old = false;                             // HTTP/1.0
};

struct HttpReply {
  unsigned status = 200;
  std::string type = "application/json";
  std::string body;
  std::string allow = "";  // with 405: the methods that there are
};

}  // namespace pcache
