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
  static constexpr int kMaxConnections = 64;  // to all addresses
  using Socket = typename Protocol::socket;
  // Whether who is at the other end may change things.
  using MayChange = std::function<bool(Socket& socket)>;

  Listener(boost::asio::io_context& io, HttpShared& shared, MayChange may_change)
      : acceptor_(io), pause_(io), shared_(shared), may_change_(std::move(may_change)) {}

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
      const bool may_change = may_change_(socket);
      const auto session = HttpSession::make(std::move(socket), shared_, may_change);
      if (shared_.connections > kMaxConnections) {
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
  const MayChange may_change_;
};

}  // namespace pcache
