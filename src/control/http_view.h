// The control socket's paths: what each request is answered. docs/control.md lists them.
#pragma once

#include <cstdint>
#include <functional>
#include <variant>

#include "control/command.h"
#include "control/http_message.h"

namespace pcache {

// The reply comes from this, which may wait for I/O.
using LaterReply = std::function<HttpReply()>;

// The reply is a stream of events, one JSON object a line, that begins after the one with this number.
struct EventStream {
  std::uint64_t after = 0;
  bool follow = true;  // otherwise it ends with the last event there is
};

using HttpAnswer = std::variant<HttpReply, LaterReply, EventStream>;

// `may_change`: whether the caller may give commands of Caller::owner. Waits for nothing.
HttpAnswer answer(const CommandContext& context, const HttpRequest& request, bool may_change);

// What a request gets that is refused before it is looked at; clients understand it as the reply to a command.
HttpReply refusal(unsigned http_status, const Status& status);

}  // namespace pcache
