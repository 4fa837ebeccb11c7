#include "cli/ask.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "cli/json_fields.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "control/command_table.h"

namespace pcache {

using nlohmann::json;

namespace {

// A job that has little to do ends at once; one that takes long is looked at five times a second.
constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLongestPause{200};

}  // namespace

Result<json> ask(const std::string& mount, const std::string& command, const json& args, std::uint64_t limit_ms) {
  auto client = ControlClient::find(mount);
  if (!client) return client.status();
  std::string words;
  try {
    words = args.dump();
  } catch (const json::type_error&) {
    return Status(Errc::invalid, "the arguments of '" + command + "' are not UTF-8, which names and paths must be");
  }
  const Command* const known = find_command(command);
  const bool may_wait = known != nullptr && known->pace == Pace::slow;
  if (may_wait) {
    if (const auto there = client->call("ping", "{}", limit_ms); !there) return there.status();
  }
  const auto reply = client->call(command, words, may_wait ? 0 : limit_ms);
  if (!reply) return reply.status();
  json result = json::parse(*reply, nullptr, false);
  if (!result.is_object()) return Status(Errc::failed, "the daemon's reply to '" + command + "' makes no sense");
  return result;
}

Result<json> ask_and_wait(const std::string& mount, const std::string& command, const json& args) {
  auto reply = ask(mount, command, args);
  if (!reply) return reply;
  const Command* const known = find_command(command);
  if (known == nullptr || known->pace != Pace::job) return reply;
  const auto job = reply->find("job");
  if (job == reply->end() || !job->is_number_unsigned()) {
    return Status(Errc::failed, "the daemon's reply to '" + command + "' makes no sense");
  }
  const auto ended = wait_for_job(mount, job->get<std::uint64_t>());
  if (!ended) return ended.status();
  reply->update(*ended);
  return reply;
}

Result<json> wait_for_job(const std::string& mount, std::uint64_t job) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  auto pause = kFirstPause;
  std::unique_ptr<ProgressLine> line;
  for (;;) {
    const auto reply = ask(mount, "jobs", {{"job", job}});
    if (!reply) return reply.status();
    const json shown = list(*reply, "jobs");
    if (shown.empty()) return Status(Errc::failed, "the daemon's reply to 'jobs' makes no sense");
    const json& state = shown.front();
    if (text(state, "state") != "running") {
      if (line) line->end();
      const auto error = state.find("error");
      if (error == state.end()) return state;
      const Errc code = errc_from_string(text(*error, "code"));
      return Status(code == Errc::ok ? Errc::failed : code, text(*error, "message"));
    }
    if (is_quiet()) {
      // Nothing is said.
    } else if (!line) {
      line = std::make_unique<ProgressLine>(std::cerr, isatty(STDERR_FILENO) != 0, printable(text(state, "object")),
                                            now());
    } else {
      line->update({number(state, "done_bytes"), number(state, "total_bytes"), number(state, "bytes_per_second"),
                    number(state, "left_ms")},
                   now());
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace pcache
