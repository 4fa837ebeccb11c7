// The control socket's paths: what each request is answered. docs/control.md lists them.
#pragma once

#include <cstdint>
#include <functional>
#include <variant>

#include "control/command.h"
#include "control/http_message.h"

namespace pcache {

// The reply comes from this, which may wait for I/O.
struct LaterReply {
  std::function<HttpReply()> make;
  bool only_looks = false;  // it waits at most for what a cache device is doing just now
};

// The reply is a stream of events, one JSON object a line, that begins after the one with this number.
struct EventStream {
  std::uint64_t after = 0;
  std::uint64_t instance = 0;  // of the daemon that `after` is from; 0: not said
  bool follow = true;          // otherwise it ends with the last event there is
};

using HttpAnswer = std::variant<HttpReply, LaterReply, EventStream>;

// Whether a browser that is here because of somebody else's page could not have made the request: by a name that its
// owner points at this machine a page of anywhere would be one of this server's. Numbers, "localhost" and this
// machine's own name are no such names. `is_local`: it comes from this machine.
bool is_named_well(const HttpRequest& request, bool is_local);

// `may_change`: whether the caller may give commands of Caller::owner. Waits for nothing.
HttpAnswer answer(const CommandContext& context, const HttpRequest& request, bool may_change);

// What a request gets that is refused before it is looked at; clients understand it as the reply to a command.
HttpReply refusal(unsigned http_status, const Status& status);

}  // namespace pcache
