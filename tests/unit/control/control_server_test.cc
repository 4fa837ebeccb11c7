#include "control/control_server.h"

#include <gtest/gtest.h>
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
#include "control/protocol.h"
#include "pcache/control_client.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

// Long enough for any machine; only a test that fails waits for it.
constexpr int kPatienceSeconds = 60;

// A connection without the client's manners.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const timeval patience{kPatienceSeconds, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
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
  // The next line, without its end; empty at the end of the connection.
  std::string line() {
    for (;;) {
      if (const std::size_t end = pending_.find('\n'); end != std::string::npos) {
        std::string text = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return text;
      }
      char piece[4096];
      const ssize_t n = recv(fd_.get(), piece, sizeof piece, 0);
      if (n <= 0) return "";
      pending_.append(piece, static_cast<std::size_t>(n));
    }
  }
  json reply() { return json::parse(line(), nullptr, false); }

 private:
  UniqueFd fd_;
  bool connected_ = false;
  std::string pending_;
};

class ControlServerTest : public testing::Test {
 protected:
  void start(const std::string& mount = "/mnt/x") {
    auto server = ControlServer::start(mount, manager_, [this] { umounted_.set_value(); });
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
  ASSERT_TRUE(late.send(format_request("ping", json::object())));
  ASSERT_TRUE(late.reply().value("ok", false));
  manager_.close_gate();
  auto resize = std::async(std::launch::async, [this] { return call("resize", {{"name", "d"}}); });
  manager_.wait_for_calls(1);
  auto ended = std::async(std::launch::async, [this] { server_.reset(); });
  while (std::filesystem::exists(path_)) std::this_thread::yield();
  // Whether this is read before or after the server learns that it ends, it is answered or the connection ends.
  for (int i = 0; i < 100; ++i) {
    if (!late.send(format_request("resize", {{"name", "e" + std::to_string(i)}}))) break;
  }
  manager_.open_gate();
  ended.get();
  EXPECT_TRUE(resize.get().ok());
}

TEST_F(ControlServerTest, OneConnectionMayAskAgainInOrder) {
  start();
  RawClient client(path_);
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.send(format_request("resize", {{"name", "a"}}) + format_request("resize", {{"name", "b"}}) +
                          format_request("ping", json::object())));
  EXPECT_TRUE(client.reply().value("ok", false));
  EXPECT_TRUE(client.reply().value("ok", false));
  EXPECT_TRUE(client.reply().at("result").contains("mount"));
  EXPECT_EQ(manager_.calls(), (std::vector<std::string>{"resize a", "resize b"}));
}

TEST_F(ControlServerTest, BadJsonGetsAReplyAndTheConnectionGoesOn) {
  start();
  RawClient client(path_);
  for (const std::string bad : {"not json\n", "\n", "[1]\n", "{\"command\":5}\n"}) {
    ASSERT_TRUE(client.send(bad));
    const json reply = client.reply();
    EXPECT_FALSE(reply.value("ok", true)) << bad;
    EXPECT_EQ(reply.value("code", ""), "invalid") << bad;
  }
  ASSERT_TRUE(client.send(format_request("ping", json::object())));
  EXPECT_TRUE(client.reply().value("ok", false));
}

TEST_F(ControlServerTest, ANestedBombDoesNotEndTheDaemon) {
  start();
  RawClient client(path_);
  ASSERT_TRUE(client.send(R"({"command":"add","args":{"name":)" + std::string(60'000, '[') + "\n"));
  EXPECT_EQ(client.reply().value("code", ""), "invalid");
  ASSERT_TRUE(client.send(R"({"command":"add","args":{"name":)" + std::string(30'000, '[') + std::string(30'000, ']') +
                          "}}\n"));
  EXPECT_EQ(client.reply().value("code", ""), "invalid");
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, RefusesMessagesOver64KiB) {
  start();
  RawClient large(path_);
  std::string request = format_request("resize", {{"name", std::string(kMaxMessageBytes - 100, 'n')}});
  ASSERT_LE(request.size(), kMaxMessageBytes);
  ASSERT_TRUE(large.send(request));
  EXPECT_TRUE(large.reply().value("ok", false));

  RawClient larger(path_);
  larger.send(std::string(kMaxMessageBytes + 1, 'x'));  // may fail: the server need not read all of it
  EXPECT_EQ(larger.reply().value("code", ""), "invalid");
  EXPECT_EQ(larger.line(), "") << "the rest of that message cannot be told from the next one";
  EXPECT_TRUE(call("ping").ok());
}

TEST_F(ControlServerTest, RefusesMoreThan64Connections) {
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<RawClient>(path_));
    ASSERT_TRUE(clients.back()->connected());
    ASSERT_TRUE(clients.back()->send(format_request("ping", json::object())));
    ASSERT_TRUE(clients.back()->reply().value("ok", false)) << i;
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
    ASSERT_TRUE(client.send(format_request("resize", {{"name", "d"}})));
    manager_.wait_for_calls(1);
  }
  {
    RawClient half(path_);
    ASSERT_TRUE(half.send("{\"comm"));
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
        const bool sent = client.send(std::string(R"({"command":")") + command + R"(","args":{}})" + "\n");
        const json reply = sent ? client.reply() : json();
        codes += reply.is_object() ? reply.value("code", "ok") + " " : "none ";
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
