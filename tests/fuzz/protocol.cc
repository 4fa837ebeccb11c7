// The control protocol: what clients send, as HTTP and as JSON-RPC in it, from the parsing to the reply, and replies of
// a daemon, up to the text that people see.

#include <algorithm>
#include <atomic>
#include <future>
#include <vector>

#include "base/check.h"
#include "base/http_address.h"
#include "cli/status_text.h"
#include "control/asio.h"
#include "control/command_table.h"
#include "control/control_tree.h"
#include "control/event_log.h"
#include "control/http_parser.h"
#include "control/http_view.h"
#include "control/jobs.h"
#include "control/rpc.h"
#include "pcache/control_client.h"
#include "tests/fuzz/fuzz_target.h"

namespace pcache {
namespace {

using nlohmann::json;

// Refuses or does what it is told, and says so in the words that it was told.
class EchoManager final : public DeviceManager {
 public:
  explicit EchoManager(Errc outcome) : outcome_(outcome) {}

  Status open_cache_dev(const std::string& path, const CacheOptions&) override { return called(path); }
  Status format_cache_dev(const std::string& path, const FormatOptions& options) override {
    return called(path + options.label);
  }
  Status close_cache_dev(const std::string& cache, bool) override { return called(cache); }
  void expect_cache_dev(const std::string&, const std::string&, const Status&) override {}
  void file_opened(std::uint64_t) override {}
  void file_closed(std::uint64_t) override {}
  Status await_closed(const std::string&, std::uint64_t) const override { return Status(); }
  void expect_logic_dev(const std::string&, const std::string&, const std::string&, const Status&) override {}
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
  Status set(const std::string& name, const Settings& changes, Lasting) override {
    PCACHE_CHECK(!changes.empty() && check_settings(changes).ok(), "changes are checked");
    return called(name);
  }
  Status unset(const std::string& name, const SettingSet& keys) override {
    PCACHE_CHECK(keys.any(), "something is taken back");
    return called(name);
  }
  Result<std::vector<SettingValue>> settings(const std::string& name) const override {
    return Status(Errc::not_found, "there is no logical device " + name);
  }
  Result<LogicDevActivity> activity(const std::string& name, bool) override {
    return Status(Errc::not_found, "there is no logical device " + name);
  }
  Status resize(const std::string& name) override { return called(name); }
  Status grow_cache(const std::string& cache, std::uint64_t) override { return called(cache); }
  Status begin_shrink_cache(const std::string& cache, std::uint64_t) override { return called(cache); }
  Result<Progress> await_shrink_cache(const std::string&, std::uint64_t) override { return Progress{true, 0}; }
  Status cancel_shrink_cache(const std::string& cache) override { return called(cache); }
  void on_recovery(std::function<void(const RecoveryProgress&)>) override {}
  void on_file_changed(std::function<void(std::uint64_t)>) override {}
  std::vector<SegmentMap> segment_maps() const override { return {}; }
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

void check_rpc_reply(const HttpReply& reply, bool notification) {
  if (reply.status == 204) {
    PCACHE_CHECK(notification && reply.body.empty(), "only a notification is not answered");
    return;
  }
  const json parsed = json::parse(reply.body, nullptr, false);
  PCACHE_CHECK(parsed.is_object() && parsed["jsonrpc"] == "2.0" && parsed.contains("id"), "a reply is one of JSON-RPC");
  PCACHE_CHECK(parsed.contains("result") != parsed.contains("error"), "success is told apart from failure");
  const auto result = parse_rpc_reply(reply.body);
  PCACHE_CHECK(result.ok() == parsed.contains("result"), "and arrives");
  if (result) PCACHE_CHECK((*result)["schema"]["major"] == 1, "a reply names its schema");
}

// As the daemon would, waiting for what is slow and for jobs.
void serve(const HttpRequest& request, bool may_change, EchoManager& manager) {
  bool ends = false;
  Jobs jobs;
  EventLog events;
  events.add({EventKind::mode_changed, "o", "m"});
  const CommandContext context{manager, "/mnt", [&ends] { ends = true; }, jobs, events};
  const int calls = manager.calls();
  HttpAnswer answered = answer(context, request, may_change);
  HttpReply reply;
  if (auto* later = std::get_if<LaterReply>(&answered)) {
    PCACHE_CHECK(manager.calls() == calls, "nothing that may wait is begun at once");
    reply = later->make();
  } else if (auto* now = std::get_if<HttpReply>(&answered)) {
    reply = *now;
  } else {
    PCACHE_CHECK(request.method == "GET", "events are looked at");
    return;
  }
  jobs.stop();
  PCACHE_CHECK(may_change || (manager.calls() == calls && !ends), "who may not changes nothing");
  PCACHE_CHECK(request.method == "POST" || (manager.calls() == calls && !ends), "looking changes nothing");
  PCACHE_CHECK(reply.status >= 200 && reply.status < 600, "the status is one of HTTP");
  if (request.method != "POST" || reply.status >= 400) return;
  const ParsedRpc parsed = parse_rpc(request.body);
  check_rpc_reply(reply, parsed.request.is_notification);
  if (!parsed.failure.status.ok()) return;
  PCACHE_CHECK(parsed.request.params.is_object() && depth_of(parsed.request.params) < kMaxDepth,
               "what was parsed is inside the limits");
  const ParsedRpc again = parse_rpc(format_rpc(parsed.request.method, parsed.request.params));
  PCACHE_CHECK(again.failure.status.ok() && again.request.method == parsed.request.method &&
                   again.request.params == parsed.request.params,
               "a request says the same when it is written anew");
  const Command* const command = find_command(parsed.request.method);
  if (command == nullptr || command->caller == Caller::owner) return;
  PCACHE_CHECK(manager.calls() == calls && !ends, "what changes nothing changes nothing");
}

// A connection's bytes, one request after the other.
void receive(const std::string& bytes, EchoManager& manager) {
  std::size_t begin = 0;
  while (begin < bytes.size()) {
    HttpParser parser;
    limit(parser);
    parser.eager(true);
    boost::system::error_code error;
    while (begin < bytes.size() && !error && !parser.is_done()) {
      const std::size_t taken = parser.put(boost::asio::buffer(bytes.data() + begin, bytes.size() - begin), error);
      begin += taken;
      if (taken == 0) break;
    }
    if (error || !parser.is_done()) return;
    const HttpRequest request = to_request(parser.get());
    (void)is_named_well(request, false);
    PCACHE_CHECK(request.body.size() <= kMaxMessageBytes, "a body is inside its limit");
    serve(request, true, manager);
    serve(request, false, manager);
  }
}

void read_reply(const std::string& body) {
  const auto reply = parse_rpc_reply(body);
  if (reply) {
    if (reply->is_object()) (void)status_text(*reply);
  } else {
    PCACHE_CHECK(reply.status().code() != Errc::ok && !reply.status().message().empty(), "a refusal has its reason");
  }
}

// What somebody writes into files of the tree: the path inside it, a newline, and the text.
void write_into_tree(const std::string& input, EchoManager& manager) {
  Jobs jobs;
  EventLog events;
  const CommandContext context{manager, "/mnt", [] {}, jobs, events};
  const auto at_once = [](const std::function<void()>& what) {
    what();
    return true;
  };
  ControlTree tree(context, at_once, at_once, [] {});
  const std::size_t line = std::min(input.find('\n'), input.size());
  std::uint64_t at = ControlTree::kRoot;
  for (std::size_t begin = 0; begin < line;) {
    const std::size_t end = std::min(input.find('/', begin), line);
    const auto node = tree.lookup(at, std::string_view(input).substr(begin, end - begin));
    if (!node) return;
    PCACHE_CHECK(tree.find(node->inode)->name == node->name, "what is found by name is found by its inode");
    at = node->inode;
    begin = end + 1;
  }
  if (tree.find(at)->directory) return;  // the kernel writes into files alone
  const int calls = manager.calls();
  (void)tree.read(at);
  PCACHE_CHECK(manager.calls() == calls, "reading changes nothing");
  std::promise<Status> ended;
  tree.write(at, input.substr(std::min(line + 1, input.size())), [&ended](const Status& s) { ended.set_value(s); });
  const Status outcome = ended.get_future().get();
  jobs.stop();
  const auto told = tree.read(tree.lookup(ControlTree::kRoot, "last_error")->inode);
  PCACHE_CHECK(outcome.ok() == told->empty(), "whoever looks finds the error");
  PCACHE_CHECK(std::count(told->begin(), told->end(), '\n') <= 1, "in one line");
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
  } else if (kind == 't' || kind == 'T') {
    EchoManager manager(kind == 't' ? Errc::ok : Errc::busy);
    write_into_tree(input.rest(), manager);
  } else if (kind == 'a') {
    (void)parse_http_address(input.rest());
  } else if (kind == 'h') {
    EchoManager manager(Errc::ok);
    receive(input.rest(), manager);
  } else {
    EchoManager manager(static_cast<Errc>(kind % 11));
    const std::string bodies = input.rest();
    for (std::size_t begin = 0; begin < bodies.size();) {
      const std::size_t end = std::min(bodies.find('\n', begin), bodies.size() - 1) + 1;
      serve({"POST", "/v1/rpc", "", bodies.substr(begin, end - begin)}, kind < 128, manager);
      begin = end;
    }
  }
  return 0;
}
