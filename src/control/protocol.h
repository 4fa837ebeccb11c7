// The control protocol: one JSON object a line, a request and its reply.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/result.h"

namespace pcache {

inline constexpr std::size_t kMaxMessageBytes = 64 * 1024;
inline constexpr int kMaxDepth = 8;  // of objects and lists in each other

struct ControlRequest {
  std::string command;
  nlohmann::json args;  // an object
};

// {"command": "...", "args": {...}}; args may be left out. Invalid: anything else, and what is nested deeper than
// kMaxDepth.
Result<ControlRequest> parse_request(const std::string& line);
std::string format_request(const std::string& command, const nlohmann::json& args);

// {"ok": true, "result": ...} or {"ok": false, "code": "...", "message": "..."}. Failed: anything else, and what is
// nested deeper than kMaxDepth.
std::string format_reply(const Result<nlohmann::json>& result);
Result<nlohmann::json> parse_reply(const std::string& line);

}  // namespace pcache
