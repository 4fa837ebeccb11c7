#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/unique_fd.h"
#include "control/control_server.h"
#include "pcache/control_client.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

using nlohmann::json;

class ClientTest : public testing::Test {
 protected:
  std::unique_ptr<ControlServer> serve(const std::string& mount) {
    auto server = ControlServer::start(mount, manager_, [] {});
    EXPECT_TRUE(server.ok()) << server.status().message();
    return server.ok() ? std::move(*server) : nullptr;
  }

  RunDir run_dir_;
  FakeManager manager_;
};

TEST_F(ClientTest, SocketPathsAreUniqueAndInTheRunDir) {
  const char* mounts[] = {"/",     "/a",  "/a/b", "/a-b",   "/a\\b", "/a\\-b", "/a-/b",
                          "/a/-b", "/-a", "/a-",  "/a\\/b", "//",    "/a b"};
  std::set<std::string> paths;
  for (const char* mount : mounts) {
    const std::string path = control_socket_path(mount);
    EXPECT_TRUE(paths.insert(path).second) << mount;
    EXPECT_EQ(std::filesystem::path(path).parent_path(), run_dir_.path()) << mount;
  }
}

TEST_F(ClientTest, LongMountPointsWork) {
  const std::string common = "/" + std::string(200, 'm');
  const auto a = serve(common + "/a" + std::string(150, 'x'));
  const auto b = serve(common + "/b" + std::string(150, 'x'));
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  auto client = ControlClient::find(common + "/b" + std::string(150, 'x'));
  ASSERT_TRUE(client.ok()) << client.status().message();
  EXPECT_EQ(json::parse(*client->call("ping", "{}"))["mount"], common + "/b" + std::string(150, 'x'));
}

TEST_F(ClientTest, ARunDirThatIsTooLongIsAnErrorAndNotTheEnd) {
  const std::string dir = run_dir_.path() + "/" + std::string(120, 'd');
  setenv("PCACHEFS_RUN_DIR", dir.c_str(), 1);
  const auto server = ControlServer::start("/mnt/x", manager_, [] {});
  ASSERT_FALSE(server.ok());
  EXPECT_EQ(server.status().code(), Errc::invalid);
  EXPECT_FALSE(ControlClient::find("/mnt/x").ok());
}

TEST_F(ClientTest, NoDaemonIsSaid) {
  const auto any = ControlClient::find("");
  ASSERT_FALSE(any.ok());
  EXPECT_EQ(any.status().code(), Errc::no_daemon);
  const auto one = ControlClient::find("/mnt/nothing");
  ASSERT_FALSE(one.ok());
  EXPECT_EQ(one.status().code(), Errc::no_daemon);
  EXPECT_NE(one.status().message().find("/mnt/nothing"), std::string::npos);
  setenv("PCACHEFS_RUN_DIR", (run_dir_.path() + "/missing").c_str(), 1);
  EXPECT_EQ(ControlClient::find("").status().code(), Errc::no_daemon);
}

TEST_F(ClientTest, FindsTheOnlyMountAmongDeadOnes) {
  const std::string dead = control_socket_path("/mnt/dead");
  {
    const UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, dead.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const auto server = serve("/mnt/live");
  const auto found = ControlClient::find("");
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->socket_path(), control_socket_path("/mnt/live"));
  EXPECT_EQ(ControlClient::find("/mnt/dead").status().code(), Errc::no_daemon);
}

TEST_F(ClientTest, SeveralMountsAreNamed) {
  const auto one = serve("/mnt/o-n\\e");
  const auto two = serve("/mnt/two");
  const auto found = ControlClient::find("");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.status().code(), Errc::invalid);
  for (const char* text : {"/mnt/o-n\\e", "/mnt/two", "--mount"}) {
    EXPECT_NE(found.status().message().find(text), std::string::npos) << found.status().message();
  }
  EXPECT_TRUE(ControlClient::find("/mnt/two").ok());
}

TEST_F(ClientTest, ALinkToTheMountPointFindsIt) {
  const std::string real = run_dir_.path() + "/real";
  const std::string link = run_dir_.path() + "/link";
  std::filesystem::create_directory(real);
  std::filesystem::create_symlink(real, link);
  const auto server = serve(real);
  EXPECT_TRUE(ControlClient::find(link).ok());
  EXPECT_TRUE(ControlClient::find(run_dir_.path() + "/./real/").ok());
}

TEST_F(ClientTest, AMountPointIsResolvedAsTheKernelWould) {
  const std::string real = std::filesystem::canonical(run_dir_.path()).string() + "/real";
  std::filesystem::create_directories(real + "/in");
  std::filesystem::create_symlink("real", run_dir_.path() + "/relative");
  std::filesystem::create_symlink(run_dir_.path() + "/relative", run_dir_.path() + "/twice");
  std::filesystem::create_symlink("endless", run_dir_.path() + "/endless");
  for (const char* name : {"real", "real/", "real/.", "real//", "real/in/..", "relative", "twice/", "twice/in/.."}) {
    EXPECT_EQ(resolve_mount_point(run_dir_.path() + "/" + name), real) << name;
  }
  EXPECT_EQ(resolve_mount_point(run_dir_.path() + "/twice/in"), real + "/in");
  EXPECT_EQ(resolve_mount_point(run_dir_.path() + "/not/there"),
            std::filesystem::path(real).replace_filename("not/there"));
  EXPECT_EQ(resolve_mount_point("/"), "/");
  EXPECT_FALSE(resolve_mount_point(run_dir_.path() + "/endless").empty());
}

TEST_F(ClientTest, ADaemonThatTakesNoMoreConnectionsIsNotWaitedForForEver) {
  const std::string path = control_socket_path("/mnt/x");
  const UniqueFd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listening.get(), 0), 0);
  const UniqueFd first(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(first.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(ControlClient::find("/mnt/x").status().code(), Errc::timed_out);
}

TEST_F(ClientTest, DaemonPidIsTheKernels) {
  const auto server = serve("/mnt/x");
  auto client = ControlClient::find("/mnt/x");
  ASSERT_TRUE(client.ok());
  const auto pid = client->daemon_pid();
  ASSERT_TRUE(pid.ok()) << pid.status().message();
  EXPECT_EQ(*pid, getpid());
}

TEST_F(ClientTest, TimesOutAndKeepsItsPromiseOfOneReply) {
  const auto server = serve("/mnt/x");
  manager_.close_gate();
  auto client = ControlClient::find("/mnt/x");
  const auto result = client->call("resize", R"({"name":"d"})", 50);
  EXPECT_EQ(result.status().code(), Errc::timed_out);
  EXPECT_NE(result.status().message().find("resize"), std::string::npos);
  EXPECT_NE(result.status().message().find("process " + std::to_string(getpid())), std::string::npos);
  manager_.open_gate();
  EXPECT_TRUE(client->call("ping", "{}").ok());
}

TEST_F(ClientTest, ADaemonThatGoesAwayIsNoDaemon) {
  auto server = serve("/mnt/x");
  auto client = ControlClient::find("/mnt/x");
  ASSERT_TRUE(client.ok());
  server.reset();
  EXPECT_EQ(client->call("ping", "{}").status().code(), Errc::no_daemon);
  EXPECT_EQ(client->daemon_pid().status().code(), Errc::no_daemon);
}

TEST_F(ClientTest, ArgumentsMustBeAnObjectOfBoundedSize) {
  const auto server = serve("/mnt/x");
  auto client = ControlClient::find("/mnt/x");
  for (const char* bad : {"", "[]", "x", "1"})
    EXPECT_EQ(client->call("ping", bad).status().code(), Errc::invalid) << bad;
  const json large = {{"name", std::string(70'000, 'n')}};
  EXPECT_EQ(client->call("resize", large.dump()).status().code(), Errc::invalid);
  EXPECT_TRUE(manager_.calls().empty());
}

TEST_F(ClientTest, OthersAreToldThatTheyMayNot) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const auto server = serve("/mnt/x");
  ASSERT_EQ(chmod(run_dir_.path().c_str(), 0755), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(65534) != 0) _exit(100);
    if (ControlClient::find("").status().code() != Errc::permission) _exit(101);
    _exit(ControlClient::find("/mnt/x").status().code() == Errc::permission ? 0 : 102);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace pcache
