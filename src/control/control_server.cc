#include "control/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <future>
#include <thread>
#include <vector>

#include "control/asio.h"
#include "control/asio_no_throw.h"
#include "control/command_table.h"
#include "control/jobs.h"
#include "control/protocol.h"
#include "pcache/control_client.h"

namespace pcache {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;
using nlohmann::json;

constexpr int kMaxConnections = 64;
constexpr std::size_t kWorkers = 4;
constexpr std::chrono::milliseconds kAcceptPause{100};

// Threads for what is posted to `io`. Unlike asio's pool it gives up the threads that it has when another one cannot be
// made: that one waits for them for ever.
class Workers {
 public:
  explicit Workers(std::size_t count) {
    try {
      threads_.reserve(count);
      while (threads_.size() < count) threads_.emplace_back([this] { io.run(); });
    } catch (...) {
      join();
      throw;
    }
  }
  ~Workers() { join(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Waits until all is done that was posted.
  void join() {
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  asio::io_context io;

 private:
  asio::executor_work_guard<asio::io_context::executor_type> work_{io.get_executor()};
  std::vector<std::thread> threads_;
};

// What the connections share. Outlives them.
struct Shared {
  Shared(DeviceManager& manager, std::string mount_point, std::function<void()> on_umount)
      : context{manager, std::move(mount_point), std::move(on_umount), jobs} {}

  Jobs jobs;
  const CommandContext context;
  Workers workers{kWorkers};
  std::atomic<int> connections{0};
  bool closing = false;  // no further command is begun; for the I/O thread
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(stream_protocol::socket socket, Shared& shared)
      : socket_(std::move(socket)), shared_(shared), buffer_(kMaxMessageBytes) {
    ++shared_.connections;
  }
  ~Session() { --shared_.connections; }

  void read() {
    asio::async_read_until(socket_, buffer_, '\n',
                           [self = shared_from_this()](const boost::system::error_code& error, std::size_t length) {
                             self->on_line(error, length);
                           });
  }

  void refuse(const Status& status) { write(format_reply(status), false); }

 private:
  void on_line(const boost::system::error_code& error, std::size_t length) {
    if (error == asio::error::not_found) {
      return refuse(Status(Errc::invalid, "the request is longer than " + std::to_string(kMaxMessageBytes) + " bytes"));
    }
    if (error) return;
    std::string line(asio::buffers_begin(buffer_.data()),
                     asio::buffers_begin(buffer_.data()) + static_cast<std::ptrdiff_t>(length));
    buffer_.consume(length);
    const auto request = parse_request(line);
    if (!request) return write(format_reply(request.status()), true);
    const Command* command = find_command(request->command);
    if (command == nullptr) {
      return write(format_reply(Status(Errc::invalid, "there is no command '" + request->command.substr(0, 64) + "'")),
                   true);
    }
    if (command->caller == Caller::owner && !may_change()) {
      return write(format_reply(Status(Errc::permission, "'" + request->command + "' needs root or the mount's owner")),
                   true);
    }
    if (shared_.closing) {
      return write(
          format_reply(Status(Errc::no_daemon, "this pcachefs is ending; '" + request->command + "' was not begun")),
          false);
    }
    if (command->pace != Pace::slow) {
      return write(format_reply(run_command(*command, shared_.context, request->args)), true);
    }
    asio::post(shared_.workers.io, [self = shared_from_this(), command, args = request->args] {
      const std::string reply = format_reply(run_command(*command, self->shared_.context, args));
      asio::post(self->socket_.get_executor(), [self, reply] { self->write(reply, true); });
    });
  }

  void write(std::string reply, bool go_on) {
    auto text = std::make_shared<std::string>(std::move(reply));
    asio::async_write(socket_, asio::buffer(*text),
                      [self = shared_from_this(), text, go_on](const boost::system::error_code& error, std::size_t) {
                        if (!error && go_on) self->read();
                      });
  }

  bool may_change() {
    ucred peer{};
    socklen_t size = sizeof peer;
    return getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
  }

  stream_protocol::socket socket_;
  Shared& shared_;
  asio::streambuf buffer_;
};

}  // namespace

class ControlServer::Impl {
 public:
  Impl(std::string path, DeviceManager& manager, std::string mount_point, std::function<void()> on_umount)
      : path_(std::move(path)), shared_(manager, std::move(mount_point), std::move(on_umount)) {}

  Status listen() {
    boost::system::error_code error;
    acceptor_.open(stream_protocol(), error);
    if (!error) acceptor_.bind(stream_protocol::endpoint(path_), error);
    bound_ = !error;
    // Nobody can connect before listen().
    if (!error && ::chmod(path_.c_str(), 0600) != 0) error.assign(errno, boost::system::system_category());
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Status::from_errno(error.value(), "cannot make control socket " + path_);
    accept();
    thread_ = std::thread([this] { io_.run(); });
    return Status();
  }

  ~Impl() {
    if (bound_) unlink(path_.c_str());
    if (!thread_.joinable()) return;
    std::promise<void> closing;
    asio::post(io_, [this, &closing] {
      boost::system::error_code error;
      acceptor_.close(error);
      pause_.cancel(error);
      shared_.closing = true;
      closing.set_value();
    });
    closing.get_future().wait();
    shared_.jobs.stop();
    shared_.workers.join();
    asio::post(io_, [this] { io_.stop(); });  // after the replies of the commands that were under way
    thread_.join();
  }

 private:
  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, stream_protocol::socket socket) {
      if (shared_.closing) return;
      if (error) {
        // Out of descriptors or memory: at once it would only fail again.
        pause_.expires_after(kAcceptPause);
        return pause_.async_wait([this](const boost::system::error_code&) {
          if (!shared_.closing) accept();
        });
      }
      const auto session = std::make_shared<Session>(std::move(socket), shared_);
      if (shared_.connections > kMaxConnections) {
        session->refuse(Status(Errc::busy, "too many connections to the control socket; try again"));
      } else {
        session->read();
      }
      accept();
    });
  }

  const std::string path_;
  Shared shared_;
  bool bound_ = false;
  asio::io_context io_;  // after what its handlers use
  const asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  stream_protocol::acceptor acceptor_{io_};
  asio::steady_timer pause_{io_};
  std::thread thread_;
};

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& mount_point, DeviceManager& manager,
                                                            std::function<void()> on_umount) {
  return asio_no_throw("cannot serve the control socket of " + mount_point,
                       [&] { return start_checked(mount_point, manager, std::move(on_umount)); });
}

Result<std::unique_ptr<ControlServer>> ControlServer::start_checked(const std::string& mount_point,
                                                                    DeviceManager& manager,
                                                                    std::function<void()> on_umount) {
  const std::string path = control_socket_path(mount_point);
  const std::filesystem::path dir = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(dir.parent_path(), error);
  if (error) return Status::from_errno(error.value(), "cannot make the directory of control socket " + path);
  if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return Status::from_errno(errno, "cannot make the directory of control socket " + path);
  }
  const auto running = ControlClient::find(mount_point);
  if (running.ok()) return Status(Errc::busy, "a running pcachefs serves " + mount_point + " already");
  if (running.status().code() != Errc::no_daemon) return running.status();
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Status::from_errno(errno, "cannot replace the control socket of a dead daemon, " + path);
  }
  auto impl = std::make_unique<Impl>(path, manager, mount_point, std::move(on_umount));
  if (Status status = impl->listen(); !status.ok()) return status;
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

}  // namespace pcache
