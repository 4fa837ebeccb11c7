#include "control/rpc.h"

#include <optional>

namespace pcache {

using nlohmann::json;

namespace {

// The value that `text` is, discarded() where it is none, or nothing where it is nested deeper than kMaxDepth: a value
// is copied by recursion, and what is nested too deeply would end the stack.
std::optional<json> parse_shallow(const std::string& text) {
  bool too_deep = false;
  json value = json::parse(
      text,
      [&too_deep](int depth, json::parse_event_t, const json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return !too_deep;
      },
      false);
  if (too_deep) return std::nullopt;
  return value;
}

// Names and paths need not be UTF-8; what is not gets a replacement character.
std::string text_of(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

ParsedRpc wrong(int code, const std::string& why, json id = nullptr) {
  ParsedRpc parsed;
  parsed.request.id = std::move(id);
  parsed.failure = {code, Status(Errc::invalid, why)};
  return parsed;
}

int code_of(const Status& status) {
  return status.code() == Errc::invalid ? kRpcBadParams : kRpcRefused - exit_code(status.code());
}

}  // namespace

ParsedRpc parse_rpc(const std::string& body) {
  const std::optional<json> parsed = parse_shallow(body);
  if (!parsed) {
    return wrong(kRpcInvalidRequest, "the request is nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  const json& message = *parsed;
  if (message.is_discarded()) return wrong(kRpcParseError, "the request is not JSON");
  if (message.is_array()) return wrong(kRpcInvalidRequest, "several requests in one message are not served");
  if (!message.is_object()) return wrong(kRpcInvalidRequest, "the request is not a JSON object");
  json id;
  if (const auto it = message.find("id"); it != message.end()) {
    if (!it->is_null() && !it->is_number() && !it->is_string()) {
      return wrong(kRpcInvalidRequest, "the request's \"id\" is neither a number nor a text");
    }
    id = *it;
  }
  if (message.value("jsonrpc", json()) != "2.0") {
    return wrong(kRpcInvalidRequest, "the request does not say \"jsonrpc\": \"2.0\"", id);
  }
  const auto method = message.find("method");
  if (method == message.end() || !method->is_string()) {
    return wrong(kRpcInvalidRequest, "the request has no text \"method\"", id);
  }
  ParsedRpc request;
  request.request.method = method->get<std::string>();
  if (const auto params = message.find("params"); params != message.end()) {
    if (!params->is_object()) {
      ParsedRpc bad = wrong(kRpcBadParams, "the request's \"params\" are not an object", id);
      bad.request.is_notification = !message.contains("id");
      return bad;
    }
    request.request.params = *params;
  }
  request.request.id = std::move(id);
  request.request.is_notification = !message.contains("id");
  return request;
}

std::string format_rpc(const std::string& method, const json& params) {
  return text_of({{"jsonrpc", "2.0"}, {"id", 1}, {"method", method}, {"params", params}});
}

std::string format_rpc_reply(const json& id, const Result<json>& result) {
  if (!result) return format_rpc_failure(id, {code_of(result.status()), result.status()});
  return text_of({{"jsonrpc", "2.0"}, {"id", id}, {"result", *result}});
}

std::string format_rpc_failure(const json& id, const RpcFailure& failure) {
  return text_of({{"jsonrpc", "2.0"},
                  {"id", id},
                  {"error",
                   {{"code", failure.code},
                    {"message", failure.status.message()},
                    {"data", {{"code", to_string(failure.status.code())}}}}}});
}

Result<json> parse_rpc_reply(const std::string& body) {
  const Status senseless(Errc::failed, "the daemon's reply makes no sense");
  const json reply = parse_shallow(body).value_or(json());
  if (!reply.is_object()) return senseless;
  if (const auto result = reply.find("result"); result != reply.end()) return *result;
  const auto error = reply.find("error");
  if (error == reply.end() || !error->is_object()) return senseless;
  const auto text_in = [](const json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const auto data = error->find("data");
  Errc code = data != error->end() && data->is_object() ? errc_from_string(text_in(*data, "code")) : Errc::failed;
  if (code == Errc::ok) code = Errc::failed;
  const std::string message = text_in(*error, "message");
  return Status(code, message.empty() ? "the daemon refused without a reason" : message);
}

}  // namespace pcache
