// Takes connections to one address, and begins a session for each.
#pragma once

#include <chrono>
#include <functional>
#include <utility>

#include "control/asio.h"
#include "control/http_session.h"

namespace pcache {

// For the I/O thread. `Protocol` is one of Asio's stream protocols.
template <typename Protocol>
class Listener {
 public:
  static constexpr int kMaxConnections = 64;
  using Socket = typename Protocol::socket;
  // Who is at the other end.
  using Who = std::function<Peer(Socket& socket)>;

  Listener(boost::asio::io_context& io, HttpShared& shared, Door& door, Who who)
      : acceptor_(io), pause_(io), shared_(shared), door_(door), who_(std::move(who)) {}

  boost::system::error_code open(const typename Protocol::endpoint& endpoint, bool reuse_address) {
    boost::system::error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error && reuse_address) acceptor_.set_option(boost::asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    return error;
  }

  boost::system::error_code listen() {
    boost::system::error_code error;
    acceptor_.listen(boost::asio::socket_base::max_listen_connections, error);
    if (!error) accept();
    return error;
  }

  void close() {
    boost::system::error_code error;
    acceptor_.close(error);
    pause_.cancel(error);
  }

  typename Protocol::endpoint endpoint() const { return acceptor_.local_endpoint(); }

 private:
  static constexpr std::chrono::milliseconds kPause{100};

  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, Socket socket) {
      if (shared_.closing) return;
      if (error) {
        // Out of descriptors or memory: at once it would only fail again.
        pause_.expires_after(kPause);
        return pause_.async_wait([this](const boost::system::error_code&) {
          if (!shared_.closing) accept();
        });
      }
      const Peer peer = who_(socket);
      const auto session = HttpSession::make(std::move(socket), shared_, peer);
      if (door_.connections > kMaxConnections) {
        session->refuse(Status(Errc::busy, "too many connections to the control socket; try again"));
      } else {
        session->serve();
      }
      accept();
    });
  }

  typename Protocol::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  HttpShared& shared_;
  Door& door_;
  const Who who_;
};

}  // namespace pcache
