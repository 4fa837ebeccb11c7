// JSON-RPC 2.0: what is asked with POST /v1/rpc. One request a message; arguments by name.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/result.h"

namespace pcache {

inline constexpr int kMaxDepth = 10;  // of objects and lists in each other

// The numbers that the standard gives; what a command refuses has kRpcRefused less its exit code.
inline constexpr int kRpcParseError = -32700;
inline constexpr int kRpcInvalidRequest = -32600;
inline constexpr int kRpcNoMethod = -32601;
inline constexpr int kRpcBadParams = -32602;
inline constexpr int kRpcRefused = -32000;

struct RpcRequest {
  nlohmann::json id;
  bool is_notification = false;  // without an id, also none that is null: it gets no reply, whatever becomes of it
  std::string method;
  nlohmann::json params = nlohmann::json::object();
};

struct RpcFailure {
  int code = kRpcRefused;
  Status status;
};

// What a body asks, or what is wrong with it; then the request has only the id, where there is one.
struct ParsedRpc {
  RpcRequest request;
  RpcFailure failure;  // ok: none
};
ParsedRpc parse_rpc(const std::string& body);

std::string format_rpc(const std::string& method, const nlohmann::json& params);

// {"jsonrpc", "id", "result"} or {"jsonrpc", "id", "error": {"code", "message", "data": {"code": "not_found"}}}.
std::string format_rpc_reply(const nlohmann::json& id, const Result<nlohmann::json>& result);
std::string format_rpc_failure(const nlohmann::json& id, const RpcFailure& failure);

// The result that a reply has, or the failure, as the Status that it was. Failed: anything else.
Result<nlohmann::json> parse_rpc_reply(const std::string& body);

}  // namespace pcache
