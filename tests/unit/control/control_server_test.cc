#include "control/control_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/unique_fd.h"
#include "control/command_table.h"
#include "control/http_message.h"
#include "control/rpc.h"
#include "pcache/control_client.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

// Long enough for any machine; only a test that fails waits for it.
constexpr int kPatienceSeconds = 60;

std::string post(const std::string& body, const std::string& more = "") {
  return "POST /v1/rpc HTTP/1.1\r\nHost: localhost\r\n" + more + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}
std::string rpc(const std::string& method, const json& params = json::object()) {
  return post(format_rpc(method, params));
}
std::string get(const std::string& target) { return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"; }

// A connection without the client's manners.
class RawClient {
 public:
  struct Reply {
    int status = 0;  // 0: there was none
    std::string header;
    std::string body;

    json value() const { return json::parse(body, nullptr, false); }
    // How a command ended: "ok", or the word for its failure.
    std::string code() const {
      const json reply = value();
      if (!reply.is_object()) return "none";
      return reply.contains("result") ? "ok" : reply["error"]["data"]["code"].get<std::string>();
    }
  };

  explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    begin(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  explicit RawClient(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    begin(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }

  bool connected() const { return connected_; }
  bool send(const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(fd_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<std::size_t>(n);
    }
    return true;
  }
  // The next line, without its end; empty at the end of the connection too.
  std::string line() {
    for (;;) {
      if (const std::size_t end = pending_.find("\n"); end != std::string::npos) {
        std::string text = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        if (!text.empty() && text.back() == '\r') text.pop_back();
        return text;
      }
      if (!receive()) return "";
    }
  }
  Reply reply(bool has_body = true) {
    Reply reply;
    const std::string first = line();
    if (first.rfind("HTTP/1.", 0) != 0) return reply;
    reply.status = std::stoi(first.substr(9, 3));
    std::size_t length = 0;
    for (std::string field = line(); !field.empty(); field = line()) {
      reply.header += field + "\n";
      if (field.rfind("Content-Length: ", 0) == 0) length = std::stoul(field.substr(16));
    }
    if (!has_body) return reply;
    while (pending_.size() < length && receive()) {
    }
    reply.body = pending_.substr(0, length);
    pending_.erase(0, length);
    return reply;
  }
  // The next line of a stream of events, out of its chunk; discarded at its end.
  json event() {
    for (;;) {
      const std::string text = line();
      if (text == "0" || (text.empty() && pending_.empty() && ended_)) return json(json::value_t::discarded);
      if (text.rfind('{', 0) == 0) return json::parse(text, nullptr, false);
    }
  }
  bool at_end() { return pending_.empty() && !receive(); }

 private:
  void begin(const sockaddr* address, socklen_t size) {
    const timeval patience{kPatienceSeconds, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = connect(fd_.get(), address, size) == 0;
  }
  bool receive() {
    char piece[4096];
    const ssize_t n = recv(fd_.get(), piece, sizeof piece, 0);
    ended_ = n <= 0;
    if (!ended_) pending_.append(piece, static_cast<std::size_t>(n));
    return !ended_;
  }

  UniqueFd fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string pending_;
};

class ControlServerTest : public testing::Test {
 protected:
  void start(const std::string& http = "", const std::string& mount = "/mnt/x") {
    auto server = ControlServer::start(mount, manager_, [this] { umounted_.set_value(); }, {.http_address = http});
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    path_ = control_socket_path(mount);
  }
  Result<std::string> call(const std::string& command, const json& args = json::object()) {
    auto client = ControlClient::find("/mnt/x");
    if (!client) return client.status();
    return client->call(command, args.dump(), kPatienceSeconds * 1000);
  }

  RunDir run_dir_;
  FakeManager manager_;
  std::promise<void> umounted_;
  std::string path_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersAndRefuses) {
  start();
  const auto ping = call("ping");
  ASSERT_TRUE(ping.ok()) << ping.status().message();
  EXPECT_EQ(json::parse(*ping)["mount"], "/mnt/x");

  EXPECT_TRUE(call("add", {{"name", "d"}, {"backing", "/b"}}).ok());
  ASSERT_EQ(manager_.added().size(), 1U);
  EXPECT_EQ(manager_.added()[0].name, "d");

  manager_.outcome(Status(Errc::not_found, "there is no logical device z"));
  const auto removed = call("resize", {{"name", "z"}});
  ASSERT_FALSE(removed.ok());
  EXPECT_EQ(removed.status().code(), Errc::not_found);
  EXPECT_EQ(removed.status().message(), "there is no logical device z");

  const auto unknown = call("explode");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.status().code(), Errc::invalid);
  EXPECT_NE(unknown.status().message().find("explode"), std::string::npos);
}

TEST_F(ControlServerTest, SocketIsItsOwnersAlone) {
  start();
  struct stat st {};
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_EQ(st.st_mode & 07777, 0600U);
}

TEST_F(ControlServerTest, MakesItsDirectory) {
  setenv("PCACHEFS_RUN_DIR", (run_dir_.path() + "/a/b").c_str(), 1);
  const mode_t mask = umask(0);
  start();
  umask(mask);
  struct stat st {};
  ASSERT_EQ(stat((run_dir_.path() + "/a/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0022, 0U) << "others could put sockets there";
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, UmountIsPassedOn) {
  start();
  EXPECT_TRUE(call("umount").ok());
  EXPECT_EQ(umounted_.get_future().wait_for(std::chrono::seconds(kPatienceSeconds)), std::future_status::ready);
}

TEST_F(ControlServerTest, StatusAnswersWhileOtherCommandsWait) {
  start();
  manager_.close_gate();
  std::vector<std::future<Result<std::string>>> slow;
  for (int i = 0; i < 4; ++i) {
    slow.push_back(std::async(std::launch::async, [this, i] { return call("resize", {{"name", std::to_string(i)}}); }));
  }
  manager_.wait_for_calls(4);
  // With every worker taken, a fifth waits in the queue.
  slow.push_back(std::async(std::launch::async, [this] { return call("resize", {{"name", "q"}}); }));
  for (int i = 0; i < 3; ++i) {
    const auto status = call("status");
    EXPECT_TRUE(status.ok()) << status.status().message();
  }
  EXPECT_TRUE(call("segments").ok()) << "who only looks waits for no command";
  EXPECT_EQ(manager_.calls().size(), 4U);
  manager_.open_gate();
  for (auto& result : slow) EXPECT_TRUE(result.get().ok());
  EXPECT_EQ(manager_.calls().back(), "resize q");
}

TEST_F(ControlServerTest, DestructionWaitsForCommandsAndAnswersThem) {
  start();
  manager_.close_gate();
  auto resize = std::async(std::launch::async, [this] { return call("resize", {{"name", "d"}}); });
  manager_.wait_for_calls(1);
  auto ended = std::async(std::launch::async, [this] { server_.reset(); });
  // The socket goes first; the command is still under way then.
  while (std::filesystem::exists(path_)) std::this_thread::yield();
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  manager_.open_gate();
  const auto result = resize.get();
  EXPECT_TRUE(result.ok()) << result.status().message();
  ended.get();
}

TEST_F(ControlServerTest, BeginsNoCommandWhileItEnds) {
  start();
  RawClient late(path_);
  ASSERT_TRUE(late.send(rpc("ping")));
  ASSERT_EQ(late.reply().code(), "ok");
  manager_.close_gate();
  auto resize = std::async(std::launch::async, [this] { return call("resize", {{"name", "d"}}); });
  manager_.wait_for_calls(1);
  auto ended = std::async(std::launch::async, [this] { server_.reset(); });
  while (std::filesystem::exists(path_)) std::this_thread::yield();
  // Whether this is read before or after the server learns that it ends, it is answered or the connection ends.
  for (int i = 0; i < 100; ++i) {
    if (!late.send(rpc("resize", {{"name", "e" + std::to_string(i)}}))) break;
  }
  manager_.open_gate();
  ended.get();
  EXPECT_TRUE(resize.get().ok());
}

TEST_F(ControlServerTest, WhileTheMountIsTakenDownItTellsAndChangesNothing) {
  StatusReport report;
  report.logic_devs.emplace_back().name = "db";
  report.logic_devs.back().state = "running";
  manager_.report(report);
  start();
  manager_.close_gate();
  auto resize = std::async(std::launch::async, [this] { return call("resize", {{"name", "d"}}); });
  manager_.wait_for_calls(1);
  auto ended = std::async(std::launch::async, [this] { server_->end_commands(); });
  json status = json::object();
  while (status.value("state", "") != "closing") status = json::parse(call("status").value());
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(0)), std::future_status::timeout) << "a command is under way";
  EXPECT_EQ(call("resize", {{"name", "e"}}).status().code(), Errc::busy);
  EXPECT_EQ(call("flush", {{"name", "e"}}).status().code(), Errc::busy);
  manager_.open_gate();
  ended.get();
  EXPECT_TRUE(resize.get().ok());

  // The devices are not there any more.
  manager_.report({});
  RawClient client(path_);
  const auto ask = [&](const std::string& request) {
    EXPECT_TRUE(client.send(request));
    return client.reply();
  };
  status = ask(get("/v1/status")).value();
  EXPECT_EQ(status["logic_devs"][0]["name"], "db");
  EXPECT_EQ(status["health"]["level"], "warning");
  EXPECT_NE(ask(get("/healthz")).body.find("it is being taken down"), std::string::npos);
  EXPECT_EQ(json::parse(call("ping").value())["state"], "closing");
  EXPECT_TRUE(call("events").ok());
  EXPECT_TRUE(call("jobs").ok());
  EXPECT_TRUE(call("umount").ok()) << "it is what happens";
  EXPECT_EQ(ask(get("/v1/stats?name=db")).status, 503);
  EXPECT_EQ(ask(get("/metrics")).status, 503);
  for (const Command& command : all_commands()) {
    if (command.caller == Caller::anyone || std::string(command.name) == "umount") continue;
    json args = {{"name", "x"}, {"cache", "x"}, {"job", 1}};
    EXPECT_EQ(call(command.name, args).status().code(), Errc::busy) << command.name;
  }
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"resize d"}));
}

TEST_F(ControlServerTest, OneConnectionMayAskAgainInOrder) {
  start();
  RawClient client(path_);
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.send(rpc("resize", {{"name", "a"}}) + rpc("resize", {{"name", "b"}}) + rpc("ping")));
  EXPECT_EQ(client.reply().code(), "ok");
  EXPECT_EQ(client.reply().code(), "ok");
  EXPECT_EQ(client.reply().value()["result"]["mount"], "/mnt/x");
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"resize a", "resize b"}));
}

TEST_F(ControlServerTest, BadJsonGetsAReplyAndTheConnectionGoesOn) {
  start();
  RawClient client(path_);
  for (const std::string bad : {"not json", "", "[1]", "{\"method\":5}"}) {
    ASSERT_TRUE(client.send(post(bad)));
    EXPECT_EQ(client.reply().code(), "invalid") << bad;
  }
  ASSERT_TRUE(client.send(rpc("ping")));
  EXPECT_EQ(client.reply().code(), "ok");
}

TEST_F(ControlServerTest, ANotificationIsObeyedAndNotAnswered) {
  start();
  RawClient client(path_);
  ASSERT_TRUE(client.send(post(R"({"jsonrpc":"2.0","method":"resize","params":{"name":"n"}})")));
  const RawClient::Reply reply = client.reply();
  EXPECT_EQ(reply.status, 204);
  EXPECT_EQ(reply.body, "");
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"resize n"}));
}

TEST_F(ControlServerTest, ANotificationIsNeverAnsweredAndANullIdIs) {
  start();
  RawClient client(path_);
  for (const std::string silent : {R"({"jsonrpc":"2.0","method":"explode"})", R"({"jsonrpc":"2.0","method":"resize"})",
                                   R"({"jsonrpc":"2.0","method":"resize","params":[1]})"}) {
    ASSERT_TRUE(client.send(post(silent)));
    const RawClient::Reply reply = client.reply();
    EXPECT_EQ(reply.status, 204) << silent;
    EXPECT_EQ(reply.body, "") << silent;
  }
  ASSERT_TRUE(client.send(post(R"({"jsonrpc":"2.0","method":"ping","id":null})")));
  const RawClient::Reply reply = client.reply();
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.value()["id"].is_null());
  EXPECT_EQ(reply.value()["result"]["mount"], "/mnt/x");
}

TEST_F(ControlServerTest, HeadIsGetWithoutTheBody) {
  start();
  RawClient client(path_);
  for (const std::string path : {"/v1/status", "/", "/v1/segments", "/healthz", "/v1/nothing", "/v1/rpc"}) {
    ASSERT_TRUE(client.send(get(path)));
    const RawClient::Reply whole = client.reply();
    ASSERT_TRUE(client.send("HEAD" + get(path).substr(3)));
    const RawClient::Reply head = client.reply(false);
    EXPECT_EQ(head.status, whole.status) << path;
    EXPECT_EQ(head.header, whole.header) << path;
  }
  ASSERT_TRUE(client.send("HEAD" + get("/v1/events").substr(3)));
  EXPECT_EQ(client.reply(false).status, 200);
  ASSERT_TRUE(client.send("DELETE" + get("/v1/status").substr(3)));
  EXPECT_NE(client.reply().header.find("Allow: GET, HEAD\n"), std::string::npos);
  ASSERT_TRUE(client.send(get("/v1/rpc")));
  EXPECT_NE(client.reply().header.find("Allow: POST\n"), std::string::npos);
}

TEST_F(ControlServerTest, WhoWaitsToBeToldToSendIsTold) {
  start();
  RawClient client(path_);
  const std::string whole = post(format_rpc("ping", json::object()), "Expect: 100-continue\r\n");
  const std::size_t body = whole.find("\r\n\r\n") + 4;
  ASSERT_TRUE(client.send(whole.substr(0, body)));
  EXPECT_EQ(client.reply().status, 100);
  ASSERT_TRUE(client.send(whole.substr(body)));
  EXPECT_EQ(client.reply().code(), "ok");
  RawClient strange(path_);
  ASSERT_TRUE(strange.send(post("{}", "Expect: miracles\r\n")));
  EXPECT_EQ(strange.reply().status, 417);
  RawClient large(path_);
  ASSERT_TRUE(large.send("POST /v1/rpc HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"));
  EXPECT_EQ(large.reply().status, 413) << "it need not be sent";
}

TEST_F(ControlServerTest, AnOldClientGetsNoChunks) {
  StatusReport report;
  report.logic_devs.emplace_back().name = "db";
  report.logic_devs.back().state = "running";
  manager_.report(report);
  start();
  RawClient client(path_);
  ASSERT_TRUE(client.send("GET /v1/events?follow=0 HTTP/1.0\r\n\r\n"));
  const RawClient::Reply reply = client.reply();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header.find("chunked"), std::string::npos) << reply.header;
  EXPECT_EQ(json::parse(client.line(), nullptr, false)["object"], "db");
  EXPECT_TRUE(client.at_end());
  RawClient kept(path_);
  ASSERT_TRUE(kept.send("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_NE(kept.reply().header.find("Connection: keep-alive\n"), std::string::npos);
}

TEST_F(ControlServerTest, NumbersOfAnEarlierDaemonLeaveNothingOut) {
  StatusReport report;
  report.logic_devs.emplace_back().name = "db";
  manager_.report(report);
  start();
  const auto instance = json::parse(call("ping").value())["instance"].get<std::uint64_t>();
  EXPECT_GT(instance, 1'000'000'000'000U) << "milliseconds since 1970";
  EXPECT_EQ(json::parse(call("status").value())["instance"], instance);
  const auto count = [&](const json& args) { return json::parse(call("events", args).value())["events"].size(); };
  const std::size_t all = count(json::object());
  ASSERT_GE(all, 1U);
  EXPECT_EQ(count({{"after", all}}), 0U);
  EXPECT_EQ(count({{"after", all}, {"instance", instance}}), 0U);
  EXPECT_EQ(count({{"after", all}, {"instance", instance - 1}}), all);
  EXPECT_EQ(count({{"after", all + 100}}), all) << "this one has not come to that number";
  RawClient client(path_);
  ASSERT_TRUE(client.send(get("/v1/events?after=" + std::to_string(all) + "&instance=1&follow=0")));
  client.reply();
  const json event = client.event();
  EXPECT_EQ(event["number"], 1);
  EXPECT_EQ(event["instance"], instance);
}

TEST_F(ControlServerTest, WhatIsNotHttpIsRefused) {
  start();
  for (const std::string bad : {"nonsense\r\n\r\n", "GET / SPDY/9\r\n\r\n", "\x16\x03\x01\r\n\r\n",
                                "POST /v1/rpc HTTP/1.1\r\nContent-Length: many\r\n\r\n"}) {
    RawClient client(path_);
    client.send(bad);  // may fail: it is refused at its beginning
    EXPECT_EQ(client.reply().status, 400) << bad;
    EXPECT_TRUE(client.at_end()) << bad;
  }
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, ANestedBombDoesNotEndTheDaemon) {
  start();
  RawClient client(path_);
  const std::string begin = R"({"jsonrpc":"2.0","id":1,"method":"add","params":{"name":)";
  ASSERT_TRUE(client.send(post(begin + std::string(60'000, '['))));
  EXPECT_EQ(client.reply().code(), "invalid");
  ASSERT_TRUE(client.send(post(begin + std::string(30'000, '[') + std::string(30'000, ']') + "}}")));
  EXPECT_EQ(client.reply().code(), "invalid");
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, RefusesBodiesOver64KiBAndHeadersOver8KiB) {
  start();
  RawClient large(path_);
  const std::string body = format_rpc("resize", {{"name", std::string(kMaxMessageBytes - 100, 'n')}});
  ASSERT_LE(body.size(), kMaxMessageBytes);
  ASSERT_TRUE(large.send(post(body)));
  EXPECT_EQ(large.reply().code(), "ok");

  RawClient larger(path_);
  larger.send(post(std::string(kMaxMessageBytes + 1, 'x')));  // may fail: the server need not read all of it
  RawClient::Reply reply = larger.reply();
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(reply.code(), "invalid");
  EXPECT_TRUE(larger.at_end()) << "the rest of that message cannot be told from the next one";

  RawClient chunked(path_);
  chunked.send("POST /v1/rpc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + std::string(0x20000, 'x'));
  EXPECT_EQ(chunked.reply().status, 413);

  RawClient header(path_);
  header.send(post("{}", "X-Long: " + std::string(kMaxHeaderBytes, 'x') + "\r\n"));
  EXPECT_EQ(header.reply().status, 431);
  EXPECT_TRUE(header.at_end());
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, PathsAreForLooking) {
  StatusReport report;
  report.cache_devs.emplace_back().label = "fast";
  report.logic_devs.emplace_back().name = "db";
  report.logic_devs.back().state = "running";
  manager_.report(report);
  start();
  RawClient client(path_);
  const auto ask = [&](const std::string& request) {
    EXPECT_TRUE(client.send(request));
    return client.reply();
  };
  EXPECT_EQ(ask(get("/v1/status")).value()["cache_devs"][0]["label"], "fast");
  EXPECT_EQ(ask(get("/v1/stats?name=db")).value()["logic_dev"]["writes"], 3);
  EXPECT_EQ(ask(get("/v1/stats?name=a%20b%2Fc%C3%a9%zz%")).value()["logic_dev"]["name"], "a b/c\u00e9%zz%");
  EXPECT_EQ(ask(get("/v1/stats")).status, 200);
  EXPECT_EQ(ask(get("/v1/segments")).value()["cache_devs"][0]["owners"], json({0, 0, 1, -1, -1}));
  EXPECT_EQ(ask(get("/v1/jobs")).value()["jobs"], json::array());
  EXPECT_EQ(ask(get("/v1/describe")).value()["commands"][0]["name"], "register");
  RawClient::Reply metrics = ask(get("/metrics"));
  EXPECT_NE(metrics.header.find("application/openmetrics-text"), std::string::npos) << metrics.header;
  EXPECT_TRUE(metrics.body.ends_with("# EOF\n"));
  metrics = ask("GET /metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n");
  EXPECT_NE(metrics.header.find("text/plain; version=0.0.4"), std::string::npos) << metrics.header;
  const RawClient::Reply page = ask(get("/"));
  EXPECT_NE(page.header.find("text/html"), std::string::npos);
  EXPECT_EQ(page.body.rfind("<!doctype html>", 0), 0U);
  RawClient::Reply health = ask(get("/healthz"));
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.body, "ok\n");
  EXPECT_EQ(ask(get("/v1/nothing")).status, 404);
  EXPECT_EQ(ask(get("/v1/status/")).status, 404);
  EXPECT_EQ(ask(get("/v1/rpc")).status, 405);
  EXPECT_EQ(ask("DELETE /v1/status HTTP/1.1\r\n\r\n").status, 405);
  EXPECT_EQ(ask(get("/v1/events?after=x")).status, 400);

  report.logic_devs[0].state = "failed";
  report.logic_devs[0].detail = "its log is damaged";
  manager_.report(report);
  health = ask(get("/healthz"));
  EXPECT_EQ(health.status, 503);
  EXPECT_NE(health.body.find("critical\nlogical device db: it is failed: its log is damaged"), std::string::npos);
}

TEST_F(ControlServerTest, EventsAreKeptAndFollowed) {
  StatusReport report;
  report.logic_devs.emplace_back().name = "db";
  report.logic_devs.back().state = "running";
  manager_.report(report);
  start();
  RawClient follower(path_);
  ASSERT_TRUE(follower.send(get("/v1/events")));
  const RawClient::Reply begin = follower.reply();
  EXPECT_EQ(begin.status, 200);
  EXPECT_NE(begin.header.find("application/x-ndjson"), std::string::npos);
  json event = follower.event();
  ASSERT_TRUE(event.is_object());
  EXPECT_EQ(event["number"], 1);
  EXPECT_EQ(event["kind"], "logic_dev_added");
  EXPECT_EQ(event["object"], "db");

  report.logic_devs[0].backing_fails = true;
  report.logic_devs[0].detail = "no space";
  manager_.report(report);
  event = follower.event();
  EXPECT_EQ(event["number"], 2);
  EXPECT_EQ(event["kind"], "backing_failed");
  EXPECT_EQ(event["severity"], "error");
  EXPECT_EQ(event["message"], "no space");

  RawClient once(path_);
  ASSERT_TRUE(once.send(get("/v1/events?follow=0&after=1")));
  once.reply();
  EXPECT_EQ(once.event()["number"], 2);
  EXPECT_TRUE(once.event().is_discarded()) << "it ends";
  const auto listed = call("events", {{"after", 1U}});
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(json::parse(*listed)["events"].size(), 1U);
  server_.reset();
  EXPECT_TRUE(follower.event().is_discarded()) << "it ends with the daemon";
}

TEST_F(ControlServerTest, FollowersAreLimitedAndTheirPlacesComeBack) {
  start();
  std::vector<std::unique_ptr<RawClient>> followers;
  for (int i = 0; i < 16; ++i) {
    followers.push_back(std::make_unique<RawClient>(path_));
    ASSERT_TRUE(followers.back()->send(get("/v1/events")));
    ASSERT_EQ(followers.back()->reply().status, 200) << i;
  }
  RawClient refused(path_);
  ASSERT_TRUE(refused.send(get("/v1/events")));
  EXPECT_EQ(refused.reply().status, 503);
  followers.pop_back();
  // The server learns of a hang-up some time after it.
  int status = 503;
  for (int i = 0; i < 100'000 && status == 503; ++i) {
    RawClient again(path_);
    ASSERT_TRUE(again.send(get("/v1/events")));
    status = again.reply().status;
  }
  EXPECT_EQ(status, 200);
}

TEST_F(ControlServerTest, OverTcpEverybodyMayLookAndNobodyChange) {
  start("127.0.0.1:0");
  ASSERT_NE(server_->http_port(), 0);
  RawClient client(server_->http_port());
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.send(get("/v1/status") + rpc("ping") + rpc("resize", {{"name", "d"}}) + rpc("umount")));
  EXPECT_EQ(client.reply().status, 200);
  EXPECT_EQ(client.reply().code(), "ok");
  EXPECT_EQ(client.reply().code(), "permission");
  EXPECT_EQ(client.reply().code(), "permission");
  EXPECT_TRUE(manager_.calls().empty());
  const auto second =
      ControlServer::start("/mnt/y", manager_, [] {}, {.http_address = std::to_string(server_->http_port())});
  EXPECT_EQ(second.status().code(), Errc::busy);
  EXPECT_EQ(ControlServer::start("/mnt/y", manager_, [] {}, {.http_address = "localhost:http"}).status().code(),
            Errc::invalid);
  server_.reset();
  RawClient gone(path_);
  EXPECT_FALSE(gone.connected());
}

TEST_F(ControlServerTest, OverTcpItIsAskedByANumberOrByItsOwnName) {
  start("127.0.0.1:0");
  char own[256] = "";
  gethostname(own, sizeof own - 1);
  const auto asked_as = [&](const std::string& header, const char* version = "1.1") {
    RawClient client(server_->http_port());
    EXPECT_TRUE(client.send(std::string("GET /v1/status HTTP/") + version + "\r\n" + header + "\r\n"));
    return client.reply().status;
  };
  for (const std::string host :
       {"127.0.0.1", "10.1.2.3:9494", "[::1]", "[fe80::1]:80", "localhost", "LocalHost:9494"}) {
    EXPECT_EQ(asked_as("Host: " + host + "\r\n"), 200) << host;
  }
  EXPECT_EQ(asked_as("Host: " + std::string(own) + "\r\n"), 200);
  for (const std::string host : {"", "x", "rebound.example:9494", "127.0.0.1.example", "localhost.example", "[::1",
                                 "127.0.0.1@example", "[", ":80"}) {
    EXPECT_EQ(asked_as("Host: " + host + "\r\n"), 403) << host;
  }
  EXPECT_EQ(asked_as(""), 403);
  EXPECT_EQ(asked_as("", "1.0"), 200) << "from this machine, by a client that knows no names";
  RawClient local(path_);
  ASSERT_TRUE(local.send("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(local.reply().status, 200) << "no browser comes by the unix socket";
}

TEST_F(ControlServerTest, PortZeroIsToldAsThePortThatItBecame) {
  start("127.0.0.1:0");
  EXPECT_EQ(json::parse(call("ping").value())["http"], "127.0.0.1:" + std::to_string(server_->http_port()));
}

TEST_F(ControlServerTest, WhoFillsTheNetworksPlacesLeavesTheSocketsAlone) {
  start("127.0.0.1:0");
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 80; ++i) {
    idle.push_back(std::make_unique<RawClient>(server_->http_port()));
    ASSERT_TRUE(idle.back()->connected());
  }
  EXPECT_EQ(idle.back()->reply().status, 503);
  EXPECT_TRUE(call("ping").ok());
  idle.clear();
  // The server learns of a hang-up some time after it.
  int begun = 0;
  for (int i = 0; i < 100'000 && begun < 16; ++i) {
    auto follower = std::make_unique<RawClient>(server_->http_port());
    if (!follower->send(get("/v1/events")) || follower->reply().status != 200) continue;
    idle.push_back(std::move(follower));
    ++begun;
  }
  ASSERT_EQ(begun, 16);
  RawClient follower(path_);
  ASSERT_TRUE(follower.send(get("/v1/events")));
  EXPECT_EQ(follower.reply().status, 200);
}

TEST_F(ControlServerTest, WithoutBeingAskedItListensNowhereElse) {
  start();
  EXPECT_EQ(server_->http_port(), 0);
}

TEST_F(ControlServerTest, RefusesMoreThan64Connections) {
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<RawClient>(path_));
    ASSERT_TRUE(clients.back()->connected());
    ASSERT_TRUE(clients.back()->send(rpc("ping")));
    ASSERT_EQ(clients.back()->reply().code(), "ok") << i;
  }
  const auto refused = call("ping");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Errc::busy);
  // The server learns of a hang-up some time after it.
  clients.pop_back();
  Result<std::string> ping = Status(Errc::busy, "not asked yet");
  for (int i = 0; i < 100'000 && !ping.ok() && ping.status().code() == Errc::busy; ++i) ping = call("ping");
  EXPECT_TRUE(ping.ok()) << ping.status().message();
}

TEST_F(ControlServerTest, AClientThatLeavesEarlyHurtsNobody) {
  start();
  manager_.close_gate();
  {
    RawClient client(path_);
    ASSERT_TRUE(client.send(rpc("resize", {{"name", "d"}})));
    manager_.wait_for_calls(1);
  }
  {
    RawClient half(path_);
    ASSERT_TRUE(half.send("POST /v1/rpc HTTP/1.1\r\nContent-Le"));
  }
  manager_.open_gate();
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, ReplacesADeadDaemonsSocketAndOnlyThat) {
  const std::string path = control_socket_path("/mnt/x");
  {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(path));
  start();
  const auto second = ControlServer::start("/mnt/x", manager_, [] {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Errc::busy);
  EXPECT_TRUE(call("ping").ok()) << "the refused server took the socket away";
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ControlServerTest, TheDaemonIsToldOfEachLookAndOfEvents) {
  std::mutex mutex;
  std::size_t looks = 0;
  std::vector<std::string> told;
  StatusReport report;
  report.logic_devs.resize(1);
  report.logic_devs[0].name = "db";
  report.logic_devs[0].state = "failed";
  report.logic_devs[0].detail = "damaged";
  manager_.report(report);
  ControlListener listener;
  listener.looked = [&](const StatusReport& now) {
    const std::lock_guard lock(mutex);
    looks += now.logic_devs.size() == 1 && now.logic_devs[0].name == "db" ? 1U : 0U;
  };
  listener.happened = [&](const std::string& severity, const std::string& object, const std::string& message) {
    const std::lock_guard lock(mutex);
    told.push_back(severity + " " + object + ": " + message);
  };
  const auto server = ControlServer::start("/mnt/y", manager_, [] {}, {"", {}, std::move(listener)});
  ASSERT_TRUE(server.ok()) << server.status().message();
  const auto looked = [&] {
    const std::lock_guard lock(mutex);
    return looks;
  };
  EXPECT_GE(looked(), 1U) << "before it answers";
  for (int i = 0; looked() < 3 && i < 10 * kPatienceSeconds; ++i) usleep(100'000);
  EXPECT_GE(looked(), 3U);
  const std::lock_guard lock(mutex);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].rfind("info db: ", 0), 0U) << told[0];
  EXPECT_EQ(told[1], "warning db: it is failed: damaged");
}

// The peer's user decides, not what the file system lets through.
TEST_F(ControlServerTest, OthersMayLookButNotChange) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  start();
  ASSERT_EQ(chmod(run_dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd from_child(ends[0]);
  UniqueFd to_parent(ends[1]);
  const pid_t child = fork();
  if (child == 0) {
    std::string codes;
    if (setuid(65534) == 0) {
      for (const char* command : {"ping", "status", "version", "add", "remove", "flush", "resize", "umount"}) {
        RawClient client(path_);
        codes += client.send(rpc(command)) ? client.reply().code() + " " : "none ";
      }
    }
    const bool written = write(to_parent.get(), codes.data(), codes.size()) == static_cast<ssize_t>(codes.size());
    _exit(written ? 0 : 1);
  }
  to_parent.reset();
  std::string codes;
  char piece[256];
  for (ssize_t n; (n = read(from_child.get(), piece, sizeof piece)) > 0;)
    codes.append(piece, static_cast<std::size_t>(n));
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // "status" without a name lists everything; the changing ones are refused before their arguments are looked at.
  EXPECT_EQ(codes, "ok ok ok permission permission permission permission permission ");
  EXPECT_TRUE(manager_.calls().empty());
}

}  // namespace
}  // namespace pcache
