// The control protocol: lines of a client, from the parsing to the reply, and replies of a daemon, up to the text that
// people see.

#include "control/protocol.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/check.h"
#include "cli/status_text.h"
#include "control/command_table.h"
#include "control/jobs.h"
#include "pcache/control_client.h"
#include "tests/fuzz/fuzz_target.h"

namespace pcache {
namespace {

using nlohmann::json;

// Refuses or does what it is told, and says so in the words that it was told.
class EchoManager final : public DeviceManager {
 public:
  explicit EchoManager(Errc outcome) : outcome_(outcome) {}

  Status open_cache_dev(const std::string&, const CacheOptions&) override { return Status(); }
  Status add(const std::string& name, const std::string& backing, const AddOptions& options) override {
    return called(name + backing + options.cache_label);
  }
  Status remove(const std::string& name, DirtyData) override { return called(name); }
  Result<std::uint64_t> begin_drain(const std::string& name) override {
    const Status status = called(name);
    if (!status.ok()) return status;
    return std::uint64_t{1};
  }
  Result<Progress> await_drain(const std::string& name, std::uint64_t number, std::uint64_t) override {
    const Status status = called(name);
    if (!status.ok()) return status;
    return Progress{true, number};
  }
  Status detach(const std::string& name) override { return called(name); }
  Status attach(const std::string& name) override { return called(name); }
  Result<Progress> await_switch(const std::string& name, std::uint64_t) override {
    const Status status = called(name);
    if (!status.ok()) return status;
    return Progress{true, 0};
  }
  Status flush(const std::string& name) override { return called(name); }
  Status set(const std::string& name, const Settings& changes) override {
    PCACHE_CHECK(!changes.empty() && check_settings(changes).ok(), "changes are checked");
    return called(name);
  }
  Result<std::vector<SettingValue>> settings(const std::string& name) const override {
    return Status(Errc::not_found, "there is no logical device " + name);
  }
  Result<LogicDevActivity> activity(const std::string& name, bool) override {
    return Status(Errc::not_found, "there is no logical device " + name);
  }
  Status resize(const std::string& name) override { return called(name); }
  void on_resize(std::function<void(std::uint64_t)>) override {}
  std::shared_ptr<LogicDev> find(const std::string&) const override { return nullptr; }
  std::shared_ptr<LogicDev> find_inode(std::uint64_t) const override { return nullptr; }
  std::vector<std::shared_ptr<LogicDev>> list() const override { return {}; }
  void exclude_filesystem(std::uint64_t) override {}
  StatusReport status() const override {
    StatusReport report;
    report.cache_devs.emplace_back().label = said_;
    report.logic_devs.emplace_back().name = said_;
    return report;
  }

  int calls() const { return calls_; }

 private:
  Status called(const std::string& text) {
    ++calls_;
    said_ = text;
    return outcome_ == Errc::ok ? Status() : Status(outcome_, "refused: " + text);
  }

  const Errc outcome_;
  std::atomic<int> calls_ = 0;
  std::string said_;
};

int depth_of(const json& value) {
  int deepest = 0;
  if (value.is_structured()) {
    for (const json& inner : value) deepest = std::max(deepest, depth_of(inner));
  }
  return value.is_structured() ? deepest + 1 : 0;
}

void check_reply(const std::string& reply, const Result<json>& result) {
  PCACHE_CHECK(std::count(reply.begin(), reply.end(), '\n') == 1 && reply.back() == '\n', "a reply is one line");
  const auto parsed = parse_reply(reply);
  PCACHE_CHECK(parsed.ok() == result.ok(), "success is told apart from failure");
  if (!result) PCACHE_CHECK(parsed.status().code() == result.status().code(), "the reason arrives");
}

void serve(const std::string& line, EchoManager& manager) {
  const auto request = parse_request(line);
  if (!request) return check_reply(format_reply(request.status()), request.status());
  PCACHE_CHECK(request->args.is_object() && depth_of(request->args) < kMaxDepth,
               "what was parsed is inside the limits");
  const auto again = parse_request(format_request(request->command, request->args));
  PCACHE_CHECK(again && again->command == request->command && again->args == request->args,
               "a request says the same when it is written anew");

  const Command* const command = find_command(request->command);
  if (command == nullptr) return;
  bool ends = false;
  Jobs jobs;
  const CommandContext context{manager, "/mnt", [&ends] { ends = true; }, jobs};
  const int calls = manager.calls();
  const auto result = run_command(*command, context, request->args);
  jobs.stop();
  check_reply(format_reply(result), result);
  PCACHE_CHECK(command->caller == Caller::owner || (manager.calls() == calls && !ends),
               "what changes nothing changes nothing");
  if (!result && result.status().code() == Errc::invalid && command->pace != Pace::slow) {
    PCACHE_CHECK(manager.calls() == calls, "what makes no sense is not begun");
  }
}

void read_reply(const std::string& line) {
  const auto reply = parse_reply(line);
  if (reply) {
    (void)status_text(*reply);
  } else {
    PCACHE_CHECK(reply.status().code() != Errc::ok && !reply.status().message().empty(), "a refusal has its reason");
  }
}

void find_socket(const std::string& mount_point) {
  const std::string path = control_socket_path(mount_point);
  PCACHE_CHECK(path.size() < 108, "the kernel takes the path of the socket");
  PCACHE_CHECK(path.ends_with(".sock"), "it is found among the sockets");
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  FuzzInput input(data, size);
  const std::uint8_t kind = input.byte();
  if (kind == 'r') {
    read_reply(input.rest());
  } else if (kind == 'm') {
    find_socket(input.rest());
  } else {
    EchoManager manager(static_cast<Errc>(kind % 11));
    const std::string lines = input.rest();
    for (std::size_t begin = 0; begin < lines.size();) {
      const std::size_t end = std::min(lines.find('\n', begin), lines.size() - 1) + 1;
      serve(lines.substr(begin, end - begin), manager);
      begin = end;
    }
  }
  return 0;
}
