#include "control/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <future>
#include <optional>
#include <thread>

#include "base/http_address.h"
#include "control/asio.h"
#include "control/asio_no_throw.h"
#include "control/control_tree.h"
#include "control/event_log.h"
#include "control/event_watch.h"
#include "control/http_session.h"
#include "control/jobs.h"
#include "control/listener.h"
#include "control/run_dir.h"
#include "control/workers.h"
#include "pcache/control_client.h"

namespace pcache {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::local::stream_protocol;
using boost::system::error_code;

constexpr std::size_t kWorkers = 4;
constexpr std::chrono::seconds kLook{1};

// Whose process it is that is connected, says the kernel.
Peer local_peer(stream_protocol::socket& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool is_owner = getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
                        (peer.uid == 0 || peer.uid == geteuid());
  return {.may_change = is_owner, .by_network = false, .is_local = true};
}

std::string text_of(const tcp::endpoint& end) {
  const std::string address = end.address().to_string();
  return (end.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(end.port());
}

Peer network_peer(tcp::socket& socket) {
  error_code error;
  const tcp::endpoint end = socket.remote_endpoint(error);
  return {.may_change = false, .by_network = true, .is_local = !error && end.address().is_loopback()};
}

}  // namespace

class ControlServer::Impl {
 public:
  Impl(std::string path, DeviceManager& manager, std::string mount_point, std::function<void()> on_umount,
       const ControlOptions& options)
      : path_(std::move(path)),
        listener_(options.listener),
        context_{manager, std::move(mount_point), std::move(on_umount), jobs_,
                 events_, options.open_cache_dev, options.http_address, &ending_,
                 &health_} {}

  Status listen(const std::string& http_address) {
    if (!http_address.empty()) {
      if (Status opened = open_http(http_address); !opened.ok()) return opened;
    }
    error_code error = unix_.open(stream_protocol::endpoint(path_), false);
    bound_ = !error;
    // Nobody can connect before listen().
    if (!error && ::chmod(path_.c_str(), 0600) != 0) error.assign(errno, boost::system::system_category());
    if (!error) error = unix_.listen();
    if (error) return Status::from_errno(error.value(), "cannot make control socket " + path_);
    look();
    thread_ = std::thread([this] { io_.run(); });
    return Status();
  }

  ControlTree& tree() { return tree_; }

  std::uint16_t http_port() const { return http_ ? http_->endpoint().port() : std::uint16_t{0}; }

  void end_commands() {
    if (!thread_.joinable()) return;
    ending_.begun = true;
    run_and_wait([] {});  // who has not seen that yet has handed over to the workers then
    jobs_.stop();
    workers_.join();
    lookers_.join();
    run_and_wait([this] {
      look_once();
      if (!ending_.last) ending_.last = context_.manager.status();
    });
  }

  ~Impl() {
    if (bound_) unlink(path_.c_str());
    if (!thread_.joinable()) return;
    run_and_wait([this] {
      unix_.close();
      if (http_) http_->close();
      error_code error;
      next_look_.cancel(error);
      shared_.closing = true;
    });
    end_commands();
    asio::post(io_, [this] { io_.stop(); });  // after the replies of the commands that were under way
    thread_.join();
  }

 private:
  // On the I/O thread, after what was posted before.
  void run_and_wait(const std::function<void()>& what) {
    std::promise<void> done;
    asio::post(io_, [&] {
      what();
      done.set_value();
    });
    done.get_future().wait();
  }

  Status open_http(const std::string& text) {
    const auto address = parse_http_address(text);
    if (!address) return address.status();
    http_.emplace(io_, shared_, shared_.network, network_peer);
    error_code error = http_->open(tcp::endpoint(asio::ip::make_address(address->host), address->port), true);
    if (!error && address->port == 0) context_.http = text_of(http_->endpoint());
    if (!error) error = http_->listen();
    if (error == asio::error::address_in_use) {
      return Status(Errc::busy, "another program listens at " + text + "; choose another port");
    }
    return error ? Status::from_errno(error.value(), "cannot listen at " + text) : Status();
  }

  // Once a second, and after commands, so that what they did is known at once.
  void look() {
    look_once();
    next_look_.expires_after(kLook);
    next_look_.async_wait([this](const error_code& error) {
      if (!error && !shared_.closing) look();
    });
  }

  void look_once() {
    if (ending_.last) return;
    const StatusReport report = context_.manager.status();
    health_.look(report);
    for (Event& event : watch_.look(report)) {
      if (listener_.happened) listener_.happened(severity_of(event.kind), event.object, event.message);
      events_.add(std::move(event));
    }
    if (listener_.looked) listener_.looked(report);
    for (const auto& session : std::exchange(shared_.following, {})) {
      const auto there = session.lock();
      if (!there) continue;
      shared_.following.push_back(session);
      there->events_came();
    }
  }

  static bool post(asio::io_context& to, std::function<void()> what) {
    try {
      asio::post(to, std::move(what));
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  const std::string path_;
  const ControlListener listener_;
  Ending ending_;
  Jobs jobs_;
  EventLog events_;
  EventWatch watch_;  // of the I/O thread
  HealthWatch health_;
  CommandContext context_;  // does not change once it listens
  Workers workers_{kWorkers};
  Workers lookers_{1};
  HttpShared shared_{context_, workers_.io, lookers_.io, [this] {
                       asio::post(io_, [this] {
                         if (!shared_.closing) look_once();
                       });
                     }};
  bool bound_ = false;
  asio::io_context io_;  // after what its handlers use
  const asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::steady_timer next_look_{io_};
  Listener<stream_protocol> unix_{io_, shared_, shared_.local, local_peer};
  std::optional<Listener<tcp>> http_;
  ControlTree tree_{context_, [this](std::function<void()> what) { return post(io_, std::move(what)); },
                    [this](std::function<void()> what) { return post(workers_.io, std::move(what)); },
                    [this] { shared_.something_done(); }};
  std::thread thread_;
};

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlServer::~ControlServer() = default;

void ControlServer::end_commands() { impl_->end_commands(); }

ControlTree& ControlServer::tree() { return impl_->tree(); }

std::uint16_t ControlServer::http_port() const { return impl_->http_port(); }

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& mount_point, DeviceManager& manager,
                                                            std::function<void()> on_umount,
                                                            const ControlOptions& options) {
  return asio_no_throw("cannot serve the control socket of " + mount_point,
                       [&] { return start_checked(mount_point, manager, std::move(on_umount), options); });
}

Result<std::unique_ptr<ControlServer>> ControlServer::start_checked(const std::string& mount_point,
                                                                    DeviceManager& manager,
                                                                    std::function<void()> on_umount,
                                                                    const ControlOptions& options) {
  const std::string path = control_socket_path(mount_point);
  const std::filesystem::path dir = std::filesystem::path(path).parent_path();
  // For others not to write in, whatever this process' mask is.
  std::filesystem::path part;
  for (const std::filesystem::path& name : dir) {
    part /= name;
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) {
      return Status::from_errno(errno, "cannot make the directory of control socket " + path);
    }
  }
  if (Status trusted = check_run_dir(); !trusted.ok()) return trusted;
  const auto running = ControlClient::find(mount_point);
  if (running.ok()) return Status(Errc::busy, "a running pcachefs serves " + mount_point + " already");
  if (running.status().code() != Errc::no_daemon) return running.status();
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Status::from_errno(errno, "cannot replace the control socket of a dead daemon, " + path);
  }
  auto impl = std::make_unique<Impl>(path, manager, mount_point, std::move(on_umount), options);
  if (Status status = impl->listen(options.http_address); !status.ok()) return status;
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

}  // namespace pcache
