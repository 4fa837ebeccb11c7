#include <limits.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

// After Asio's.
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "base/crc32c.h"
#include "control/asio.h"
#include "control/asio_no_throw.h"
#include "control/command_table.h"
#include "control/http_message.h"
#include "control/rpc.h"
#include "control/run_dir.h"
#include "pcache/control_client.h"

namespace pcache {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::local::stream_protocol;

// What the kernel takes as a socket's path, without the terminating zero.
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::uint64_t kNameTimeoutMs = 1000;

// To be taken in by a daemon, which its kernel does for it as long as there is room in the queue.
constexpr std::uint64_t kConnectTimeoutMs = 3000;
constexpr int kMaxLinks = 40;  // as the kernel follows them

timeval to_timeval(std::uint64_t ms) {
  return {static_cast<time_t>(ms / 1000), static_cast<suseconds_t>(ms % 1000 * 1000)};
}

std::string seconds_text(std::uint64_t ms) {
  return ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms";
}

Status connect(stream_protocol::socket& socket, const std::string& path) {
  if (path.size() > kMaxSocketPath) {
    return Status(Errc::invalid,
                  "the path of control socket " + path + " is too long; set PCACHEFS_RUN_DIR to a shorter one");
  }
  boost::system::error_code error;
  socket.open(stream_protocol(), error);
  if (!error) {
    // Asio's connect() takes a full queue for a connection that is under way.
    const timeval limit = to_timeval(kConnectTimeoutMs);
    setsockopt(socket.native_handle(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const stream_protocol::endpoint endpoint(path);
    int result = -1;
    do {
      result = ::connect(socket.native_handle(), endpoint.data(), static_cast<socklen_t>(endpoint.size()));
    } while (result != 0 && errno == EINTR);
    if (result == 0) return Status();
    error.assign(errno, boost::system::system_category());
  }
  if (error.value() == EAGAIN) {
    return Status(Errc::timed_out, "pcachefs takes no more connections at " + path + ": it hangs, or is stopped");
  }
  if (error.value() == EACCES || error.value() == EPERM) {
    return Status(Errc::permission, "only root and the mount's owner may use control socket " + path);
  }
  // Nobody knows whether one answers: what has no daemon may be taken away.
  if (error.value() == EMFILE || error.value() == ENFILE || error.value() == ENOMEM || error.value() == ENOBUFS) {
    return Status::from_errno(error.value(), "cannot connect to control socket " + path);
  }
  return Status(Errc::no_daemon, "no running pcachefs answers at " + path);
}

Result<int> peer_pid(stream_protocol::socket& socket, const std::string& path) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return Status::from_errno(errno, "cannot tell the process behind control socket " + path);
  }
  return static_cast<int>(peer.pid);
}

Status try_connect(const std::string& path) {
  return asio_no_throw("cannot connect to control socket " + path, [&] {
    asio::io_context io;
    stream_protocol::socket socket(io);
    return connect(socket, path);
  });
}

std::string no_answer(const std::string& command, std::uint64_t timeout_ms, const Result<int>& pid) {
  const Command* const known = find_command(command);
  const bool changes = known == nullptr || known->caller == Caller::owner;
  return "pcachefs" + (pid ? " (process " + std::to_string(*pid) + ")" : "") + " did not answer '" + command +
         "' within " + seconds_text(timeout_ms) + ": it hangs, or is stopped" +
         (changes ? "; it may still carry it out" : "");
}

}  // namespace

// '/' becomes '-', and '-' and '\' get a '\' before them, so that two mount points never share a name. Of a name that
// is too long for a socket only the end is kept, with a checksum of the whole before it.
std::string control_socket_path(const std::string& mount_point) {
  std::string name;
  for (const char c : mount_point) {
    if (c == '-' || c == '\\') name += '\\';
    name += c == '/' ? '-' : c;
  }
  const std::string before = run_dir() + "/";
  const std::string after = ".sock";
  const std::size_t around = before.size() + after.size();
  if (around + name.size() > kMaxSocketPath) {
    char checksum[16];
    std::snprintf(checksum, sizeof checksum, "%08x~", crc32c(name.data(), name.size()));
    const std::string mark = checksum;
    const std::size_t room = kMaxSocketPath > around + mark.size() ? kMaxSocketPath - around - mark.size() : 0;
    name = mark + name.substr(name.size() - std::min(name.size(), room));
  }
  return before + name + after;
}

std::string resolve_mount_point(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path point = fs::absolute(path, error);
  if (error) return path;
  for (int links = 0; links < kMaxLinks; ++links) {
    while (point.filename().empty() || point.filename() == ".") {
      if (!point.has_relative_path()) return point;
      point = point.parent_path();
    }
    if (point.filename() == "..") return fs::weakly_canonical(point, error);
    const fs::path parent = fs::weakly_canonical(point.parent_path(), error);
    point = parent / point.filename();
    // Of a directory this fails without asking anybody for it; lstat(), and with it read_symlink(), asks.
    char target[PATH_MAX];
    const ssize_t length = readlink(point.c_str(), target, sizeof target);
    if (length < 0) break;
    point = parent / std::string(target, static_cast<std::size_t>(length));
  }
  return point;
}

Result<ControlClient> ControlClient::find(const std::string& mount_point) {
  const Status trusted = check_run_dir();
  if (!trusted.ok() && trusted.code() != Errc::not_found) return trusted;
  if (!mount_point.empty()) {
    const std::string path = control_socket_path(resolve_mount_point(mount_point));
    if (is_no_socket(path)) return Status(Errc::permission, path + " is not a control socket; remove it");
    const Status found = try_connect(path);
    if (found.code() == Errc::no_daemon) return Status(Errc::no_daemon, "no running pcachefs serves " + mount_point);
    if (!found.ok()) return found;
    return ControlClient(path);
  }
  std::vector<std::string> live;
  Status refused;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(run_dir(), error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() != ".sock" || is_no_socket(entry->path())) continue;
    const Status found = try_connect(entry->path());
    if (found.ok()) live.push_back(entry->path());
    if (found.code() == Errc::permission || found.code() == Errc::timed_out) refused = found;
  }
  if (live.size() == 1) return ControlClient(live.front());
  if (live.empty() && !refused.ok()) return refused;
  if (live.empty()) return Status(Errc::no_daemon, "no pcachefs is running; start one with pcachefs mount MNT");
  std::string mounts;
  for (const std::string& path : live) {
    const auto answer = ControlClient(path).call("ping", "{}", kNameTimeoutMs);
    const auto ping = answer ? nlohmann::json::parse(*answer, nullptr, false) : nlohmann::json();
    const auto mount = ping.find("mount");
    const bool named = mount != ping.end() && mount->is_string();
    mounts += (mounts.empty() ? "" : ", ") + (named ? mount->get<std::string>() : path);
  }
  return Status(Errc::invalid, "several mounts are running (" + mounts + "); choose one with --mount MNT");
}

Result<std::string> ControlClient::call(const std::string& command, const std::string& arguments_json,
                                        std::uint64_t timeout_ms) {
  const nlohmann::json arguments = nlohmann::json::parse(arguments_json, nullptr, false);
  if (!arguments.is_object()) return Status(Errc::invalid, "the arguments of '" + command + "' are not a JSON object");
  http::request<http::string_body> request(http::verb::post, "/v1/rpc", 11);
  request.set(http::field::host, "localhost");
  request.set(http::field::content_type, "application/json");
  request.body() = format_rpc(command, arguments);
  if (request.body().size() > kMaxMessageBytes) {
    return Status(Errc::invalid,
                  "the arguments of '" + command + "' are longer than " + std::to_string(kMaxMessageBytes) + " bytes");
  }
  request.prepare_payload();
  asio::io_context io;
  stream_protocol::socket socket(io);
  if (Status connected = connect(socket, socket_path_); !connected.ok()) return connected;

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> reply;
  reply.body_limit(kMaxReplyBytes);
  boost::system::error_code outcome = asio::error::would_block;
  // A daemon that refuses the connection answers without reading, so that the reply counts even if writing failed.
  http::async_write(socket, request, [&](const boost::system::error_code&, std::size_t) {
    http::async_read(socket, buffer, reply,
                     [&](const boost::system::error_code& error, std::size_t) { outcome = error; });
  });
  if (timeout_ms == 0) {
    io.run();
  } else {
    io.run_for(std::chrono::milliseconds(timeout_ms));
  }
  if (outcome == asio::error::would_block) {
    return Status(Errc::timed_out, no_answer(command, timeout_ms, peer_pid(socket, socket_path_)));
  }
  if (outcome == http::error::body_limit) {
    return Status(Errc::failed, "the daemon's reply to '" + command + "' is too long");
  }
  if (outcome) return Status(Errc::no_daemon, "the daemon went away before it answered '" + command + "'");
  const auto result = parse_rpc_reply(reply.get().body());
  if (!result) return result.status();
  return result->dump();
}

Result<int> ControlClient::daemon_pid() {
  asio::io_context io;
  stream_protocol::socket socket(io);
  if (Status connected = connect(socket, socket_path_); !connected.ok()) return connected;
  return peer_pid(socket, socket_path_);
}

}  // namespace pcache
