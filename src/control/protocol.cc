#include "control/protocol.h"

#include <optional>

namespace pcache {

using nlohmann::json;

namespace {

// The value that `line` is, discarded() where it is none, or nothing where it is nested deeper than kMaxDepth: a value
// is copied by recursion, and what is nested too deeply would end the stack.
std::optional<json> parse_shallow(const std::string& line) {
  bool too_deep = false;
  json value = json::parse(
      line,
      [&too_deep](int depth, json::parse_event_t, const json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return !too_deep;
      },
      false);
  if (too_deep) return std::nullopt;
  return value;
}

}  // namespace

Result<ControlRequest> parse_request(const std::string& line) {
  const std::optional<json> parsed = parse_shallow(line);
  if (!parsed) {
    return Status(Errc::invalid, "the request is nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }
  const json& message = *parsed;
  if (!message.is_object()) return Status(Errc::invalid, "the request is not a JSON object");
  const auto command = message.find("command");
  if (command == message.end() || !command->is_string()) {
    return Status(Errc::invalid, "the request has no text \"command\"");
  }
  ControlRequest request{command->get<std::string>(), json::object()};
  if (const auto args = message.find("args"); args != message.end()) {
    if (!args->is_object()) return Status(Errc::invalid, "the request's \"args\" are not an object");
    request.args = *args;
  }
  return request;
}

std::string format_request(const std::string& command, const json& args) {
  return json{{"command", command}, {"args", args}}.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string format_reply(const Result<json>& result) {
  const json reply =
      result.ok()
          ? json{{"ok", true}, {"result", *result}}
          : json{{"ok", false}, {"code", to_string(result.status().code())}, {"message", result.status().message()}};
  // Names and paths need not be UTF-8; what is not gets a replacement character.
  return reply.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<json> parse_reply(const std::string& line) {
  const json reply = parse_shallow(line).value_or(json());
  const auto text = [&reply](const char* key) {
    const auto it = reply.find(key);
    return it != reply.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  if (!reply.is_object() || !reply.contains("ok") || !reply["ok"].is_boolean()) {
    return Status(Errc::failed, "the daemon's reply makes no sense");
  }
  if (reply["ok"].get<bool>()) return reply.value("result", json::object());
  Errc code = errc_from_string(text("code"));
  if (code == Errc::ok) code = Errc::failed;
  return Status(code, text("message").empty() ? "the daemon refused without a reason" : text("message"));
}

}  // namespace pcache
