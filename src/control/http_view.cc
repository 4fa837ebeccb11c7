#include "control/http_view.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <string_view>

#include "control/asio.h"
#include "control/command_table.h"
#include "control/event_log.h"
#include "control/health.h"
#include "control/live_page.h"
#include "control/metrics.h"
#include "control/rpc.h"

namespace pcache {

using nlohmann::json;

namespace {

HttpReply json_reply(const json& value) {
  return {200, "application/json", value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"};
}

// "%20" is a space. What is no escape stays as it is.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() && std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      plain += static_cast<char>(code);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

struct Target {
  std::string path;
  std::map<std::string, std::string> query;
};

Target split_target(const std::string& text) {
  Target target;
  const std::size_t mark = text.find('?');
  target.path = text.substr(0, mark);
  if (mark == std::string::npos) return target;
  std::string_view rest = std::string_view(text).substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    target.query[unescaped(pair.substr(0, equals))] =
        equals == std::string_view::npos ? "" : unescaped(pair.substr(equals + 1));
  }
  return target;
}

// A command of Caller::anyone, as if given by POST.
HttpReply look(const CommandContext& context, const char* command, const json& args) {
  const auto reply = run_command(*find_command(command), context, args);
  if (reply) return json_reply(*reply);
  const Errc code = reply.status().code();
  return refusal(code == Errc::not_found ? 404 : code == Errc::busy ? 503 : 400, reply.status());
}

HttpAnswer answer_rpc(const CommandContext& context, const std::string& body, bool may_change) {
  const ParsedRpc parsed = parse_rpc(body);
  const json id = parsed.request.id;
  const auto reply = [silent = parsed.request.is_notification](std::string text) {
    return silent ? HttpReply{204, "", ""} : HttpReply{200, "application/json", std::move(text)};
  };
  if (!parsed.failure.status.ok()) return reply(format_rpc_failure(id, parsed.failure));
  const std::string& method = parsed.request.method;
  const Command* const command = find_command(method);
  if (command == nullptr) {
    const Status none(Errc::invalid, "there is no command '" + method.substr(0, 64) + "'");
    return reply(format_rpc_failure(id, {kRpcNoMethod, none}));
  }
  if (command->caller == Caller::owner && !may_change) {
    return reply(format_rpc_reply(
        id, Status(Errc::permission, "'" + method + "' needs root or the mount's owner, and the unix socket")));
  }
  const auto run = [&context, command, params = parsed.request.params, id, reply] {
    return reply(format_rpc_reply(id, run_command(*command, context, params)));
  };
  // At the end nobody is left to do it later; then it is refused.
  if (command->pace == Pace::slow && !context.is_ending()) return LaterReply{run, command->caller == Caller::anyone};
  return run();
}

HttpAnswer answer_events(const Target& target) {
  EventStream stream;
  for (const auto& [key, value] : target.query) {
    if (key == "follow" && (value == "0" || value == "1")) {
      stream.follow = value == "1";
      continue;
    }
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if ((key != "after" && key != "instance") || value.empty() || error != std::errc() ||
        end != value.data() + value.size()) {
      return refusal(400, Status(Errc::invalid, "/v1/events takes after=NUMBER, instance=NUMBER and follow=0|1"));
    }
    (key == "after" ? stream.after : stream.instance) = number;
  }
  return stream;
}

HttpReply answer_health(const CommandContext& context) {
  const Health health = context.health(context.report());
  HttpReply reply{health.level == HealthLevel::critical ? 503U : 200U, "text/plain; charset=utf-8", ""};
  reply.body = std::string(to_string(health.level)) + "\n";
  for (const std::string& reason : health.reasons) reply.body += reason + "\n";
  return reply;
}

}  // namespace

HttpReply refusal(unsigned http_status, const Status& status) {
  return {http_status, "application/json", format_rpc_reply(nullptr, status) + "\n"};
}

bool is_named_well(const HttpRequest& request, bool is_local) {
  if (!request.host) return request.is_old && is_local;
  std::string host = request.host->substr(0, request.host->find(':'));
  if (const std::size_t end = request.host->find(']'); request.host->starts_with('[')) {
    host = end == std::string::npos ? "" : request.host->substr(1, end - 1);
  }
  boost::system::error_code error;
  boost::asio::ip::make_address(host, error);
  if (!error) return true;
  char own[HOST_NAME_MAX + 1] = "";
  gethostname(own, sizeof own - 1);
  return strcasecmp(host.c_str(), "localhost") == 0 || (*own != '\0' && strcasecmp(host.c_str(), own) == 0);
}

HttpAnswer answer(const CommandContext& context, const HttpRequest& request, bool may_change) {
  const Target target = split_target(request.target);
  const bool is_rpc = target.path == "/v1/rpc";
  const char* const method = is_rpc ? "POST" : "GET";
  using Look = HttpAnswer (*)(const CommandContext&, const Target&, const HttpRequest&);
  static const std::map<std::string, Look> looks = {
      {"/",
       [](const auto&...) {
         return HttpAnswer(HttpReply{200, "text/html; charset=utf-8", kLivePage});
       }},
      {"/metrics",
       [](const auto& c, const auto&, const HttpRequest& r) {
         if (c.is_ending()) return HttpAnswer(refusal(503, Status(Errc::busy, "the mount is being taken down")));
         const MetricsFormat format = format_for(r.accept);
         return HttpAnswer(HttpReply{200, content_type(format), metrics_text(c.manager, format, c.health_watch)});
       }},
      {"/v1/status", [](const auto& c, const auto&...) { return HttpAnswer(look(c, "status", json::object())); }},
      {"/v1/stats",
       [](const auto& c, const Target& t, const auto&) {
         const auto name = t.query.find("name");
         return HttpAnswer(look(c, "stats", name == t.query.end() ? json::object() : json{{"name", name->second}}));
       }},
      {"/v1/segments",
       [](const auto& c, const auto&...) {
         // At the end it is refused at once.
         if (c.is_ending()) return HttpAnswer(look(c, "segments", json::object()));
         return HttpAnswer(LaterReply{[&c] { return look(c, "segments", json::object()); }, true});
       }},
      {"/v1/jobs", [](const auto& c, const auto&...) { return HttpAnswer(look(c, "jobs", json::object())); }},
      {"/v1/describe", [](const auto& c, const auto&...) { return HttpAnswer(look(c, "describe", json::object())); }},
      {"/v1/events", [](const auto&, const Target& t, const auto&) { return answer_events(t); }},
      {"/healthz", [](const auto& c, const auto&...) { return HttpAnswer(answer_health(c)); }},
  };
  const auto found = looks.find(target.path);
  if (!is_rpc && found == looks.end()) {
    return refusal(404, Status(Errc::not_found,
                               "there is no " + target.path.substr(0, 64) +
                                   "; there are /, /metrics, /v1/rpc, /v1/status, /v1/stats, /v1/segments, /v1/jobs, "
                                   "/v1/describe, /v1/events, /healthz"));
  }
  if (request.method != method) {
    HttpReply reply = refusal(405, Status(Errc::invalid, target.path + " is asked with " + method));
    reply.allow = is_rpc ? "POST" : "GET, HEAD";
    return reply;
  }
  return is_rpc ? answer_rpc(context, request.body, may_change) : found->second(context, target, request);
}

}  // namespace pcache
