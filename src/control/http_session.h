// One connection to the control socket.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "control/asio.h"
#include "control/command.h"
#include "pcache/status.h"

namespace pcache {

class HttpSession;

// Who comes in by one way; what is taken there leaves the other way alone.
struct Door {
  std::atomic<int> connections{0};
  int streams = 0;  // of events
};

// Who is at the other end of a connection.
struct Peer {
  bool may_change = false;
  bool by_network = false;
  bool is_local = true;  // on this machine
};

// What the connections share; outlives them. For the I/O thread, where nothing else is said.
struct HttpShared {
  HttpShared(const CommandContext& commands, boost::asio::io_context& slow, boost::asio::io_context& looking,
             std::function<void()> done)
      : context(commands), workers(slow), lookers(looking), something_done(std::move(done)) {}

  const CommandContext& context;
  boost::asio::io_context& workers;      // where what may wait for I/O runs
  boost::asio::io_context& lookers;      // where what only looks runs, which no command keeps waiting
  std::function<void()> something_done;  // a command has ended; on any thread
  Door local;                            // the unix socket
  Door network;
  std::vector<std::weak_ptr<HttpSession>> following;
  bool closing = false;  // no further command is begun
};

// Serves the requests of a connection one after the other, until the other end goes or is silent for too long. Who is
// at the other end is found out at its beginning.
class HttpSession {
 public:
  static std::shared_ptr<HttpSession> make(boost::asio::generic::stream_protocol::socket socket, HttpShared& shared,
                                           Peer peer);
  virtual ~HttpSession() = default;

  virtual void serve() = 0;
  // Answers the first request with that, whatever it is, and ends.
  virtual void refuse(const Status& status) = 0;
  // There may be new events to follow.
  virtual void events_came() = 0;
};

}  // namespace pcache
