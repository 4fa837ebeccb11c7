#include "control/http_session.h"

#include <chrono>
#include <optional>
#include <string_view>
#include <utility>

#include "control/asio.h"

// After Asio's.
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "control/event_log.h"
#include "control/http_parser.h"
#include "control/http_view.h"
#include "control/version.h"

namespace pcache {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::generic::stream_protocol;
using boost::system::error_code;

// For the whole of the next request to come, and for a reply to be taken.
constexpr std::chrono::seconds kIdle{60};
// An empty line to those who follow events, or one whose machine is gone would never be missed.
constexpr std::chrono::seconds kHeartbeat{30};
constexpr int kMaxStreams = 16;
constexpr std::size_t kEventsAtOnce = 64;
constexpr const char* kEventsType = "application/x-ndjson";
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

class BeastSession final : public HttpSession, public std::enable_shared_from_this<BeastSession> {
 public:
  BeastSession(stream_protocol::socket socket, HttpShared& shared, Peer peer)
      : stream_(std::move(socket)),
        heartbeat_(stream_.get_executor()),
        shared_(shared),
        peer_(peer),
        door_(peer.by_network ? shared.network : shared.local) {
    ++door_.connections;
  }
  ~BeastSession() override {
    if (following_) --door_.streams;
    --door_.connections;
  }

  void serve() override {
    parser_.emplace();
    limit(*parser_);
    is_head_ = false;
    is_old_ = false;
    stream_.expires_after(kIdle);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](const error_code& error, std::size_t) { self->on_header(error); });
  }

  void refuse(const Status& status) override { write(refusal(503, status), false); }

  void events_came() override { send_events(); }

 private:
  // Some clients send a longer body only when they are told to.
  void on_header(const error_code& error) {
    if (error) return on_request(error);
    is_head_ = parser_->get().method() == http::verb::head;
    is_old_ = parser_->get().version() < 11;
    const auto expected = parser_->get()[http::field::expect];
    if (expected.empty() || is_old_) return read_body();
    if (!beast::iequals(expected, "100-continue")) {
      return write(refusal(417, Status(Errc::invalid, "only 100-continue can be expected")), false);
    }
    asio::async_write(stream_, asio::buffer(kContinue),
                      [self = shared_from_this()](const error_code& bad, std::size_t) {
                        if (!bad) self->read_body();
                      });
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](const error_code& error, std::size_t) { self->on_request(error); });
  }

  void on_request(const error_code& error) {
    if (error == http::error::body_limit) {
      return write(refusal(413, Status(Errc::invalid,
                                       "the request is longer than " + std::to_string(kMaxMessageBytes) + " bytes")),
                   false);
    }
    if (error == http::error::header_limit) {
      return write(refusal(431, Status(Errc::invalid, "the request's header is longer than " +
                                                          std::to_string(kMaxHeaderBytes) + " bytes")),
                   false);
    }
    if (error == http::error::end_of_stream || error == http::error::partial_message) return;
    if (error.category() == make_error_code(http::error::bad_method).category()) {
      return write(refusal(400, Status(Errc::invalid, "the request is not HTTP/1.1: " + error.message())), false);
    }
    if (error) return;  // the other end is gone, or was silent for too long
    if (shared_.closing) {
      return write(refusal(503, Status(Errc::no_daemon, "this pcachefs is ending; nothing was begun")), false);
    }
    HttpRequest request = to_request(parser_->get());
    if (peer_.by_network && !is_named_well(request, peer_.is_local)) {
      return write(refusal(403, Status(Errc::permission,
                                       "over the network this server is asked by a numeric address, by "
                                       "localhost or by this machine's own name")),
                   false);
    }
    if (is_head_) request.method = "GET";
    HttpAnswer answered = answer(shared_.context, request, peer_.may_change);
    const bool go_on = parser_->get().keep_alive();
    if (auto* reply = std::get_if<HttpReply>(&answered)) {
      if (request.method == "POST") shared_.something_done();
      return write(std::move(*reply), go_on);
    }
    if (const auto* stream = std::get_if<EventStream>(&answered)) {
      return is_head_ ? write({200, kEventsType, ""}, go_on) : begin_events(*stream);
    }
    auto later = std::get<LaterReply>(std::move(answered));
    asio::io_context& where = later.only_looks ? shared_.lookers : shared_.workers;
    asio::post(where, [self = shared_from_this(), later = std::move(later), go_on] {
      HttpReply reply = later.make();
      self->shared_.something_done();
      asio::post(self->stream_.get_executor(),
                 [self, reply = std::move(reply), go_on]() mutable { self->write(std::move(reply), go_on); });
    });
  }

  void write(HttpReply reply, bool go_on) {
    response_.emplace();
    response_->version(is_old_ ? 10 : 11);
    response_->result(reply.status);
    response_->keep_alive(go_on);
    response_->set(http::field::server, std::string("pcachefs/") + kVersion);
    response_->set(http::field::cache_control, "no-store");
    if (!reply.allow.empty()) response_->set(http::field::allow, reply.allow);
    if (!reply.type.empty()) response_->set(http::field::content_type, reply.type);
    response_->body() = std::move(reply.body);
    response_->prepare_payload();
    stream_.expires_after(kIdle);
    const auto written = [self = shared_from_this(), go_on](const error_code& error, std::size_t) {
      if (!error && go_on) return self->serve();
      error_code ignored;
      self->stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    };
    if (!is_head_) return http::async_write(stream_, *response_, written);
    head_.emplace(*response_);
    http::async_write_header(stream_, *head_, written);
  }

  void begin_events(const EventStream& stream) {
    if (stream.follow && door_.streams >= kMaxStreams) {
      return write(refusal(503, Status(Errc::busy, std::to_string(kMaxStreams) + " clients follow the events already")),
                   false);
    }
    after_ = stream.after;
    instance_ = stream.instance;
    if (stream.follow) {
      ++door_.streams;
      following_ = true;
      std::erase_if(shared_.following, [](const auto& other) { return other.expired(); });
      shared_.following.push_back(weak_from_this());
    }
    header_.emplace();
    header_->version(is_old_ ? 10 : 11);
    header_->result(http::status::ok);
    header_->set(http::field::content_type, kEventsType);
    header_->set(http::field::cache_control, "no-store");
    header_->keep_alive(false);
    if (!is_old_) header_->chunked(true);  // else the connection's end is that of the stream
    serializer_.emplace(*header_);
    writing_ = true;
    stream_.expires_after(kIdle);
    http::async_write_header(stream_, *serializer_, [self = shared_from_this()](const error_code& error, std::size_t) {
      if (error) return;
      self->writing_ = false;
      if (self->following_) {
        self->notice_end();
        self->wait_for_heartbeat();
      }
      self->send_events();
    });
  }

  // Whoever follows sends nothing more: what comes is the end of the connection.
  void notice_end() {
    stream_.expires_never();
    stream_.async_read_some(asio::buffer(ignored_), [self = shared_from_this()](const error_code& error, std::size_t) {
      if (!error) return self->notice_end();
      self->heartbeat_.cancel();
      self->stream_.close();
      self->ended_ = true;
    });
  }

  void wait_for_heartbeat() {
    heartbeat_.expires_after(kHeartbeat);
    heartbeat_.async_wait([self = shared_from_this()](const error_code& error) {
      if (error || self->ended_) return;
      if (!self->writing_) self->send("\n");
      self->wait_for_heartbeat();
    });
  }

  void send_events() {
    if (writing_ || ended_ || !serializer_) return;
    std::string lines;
    for (const LoggedEvent& event : shared_.context.events.after(after_, kEventsAtOnce, instance_)) {
      nlohmann::json line = to_json(event);
      line["schema"] = schema_json();
      lines += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
      after_ = event.number;
      instance_ = event.instance;
    }
    if (!lines.empty()) return send(std::move(lines));
    if (following_) return;
    ended_ = true;
    if (is_old_) return stream_.close();
    asio::async_write(stream_, http::make_chunk_last(),
                      [self = shared_from_this()](const error_code&, std::size_t) { self->stream_.close(); });
  }

  void send(std::string lines) {
    lines_ = std::move(lines);
    writing_ = true;
    stream_.expires_after(kIdle);
    const auto written = [self = shared_from_this()](const error_code& error, std::size_t) {
      self->writing_ = false;
      if (!error) return self->send_events();
      self->ended_ = true;
      self->heartbeat_.cancel();
      self->stream_.close();
    };
    if (is_old_) return asio::async_write(stream_, asio::buffer(lines_), written);
    asio::async_write(stream_, http::make_chunk(asio::buffer(lines_)), written);
  }

  beast::basic_stream<stream_protocol> stream_;
  asio::steady_timer heartbeat_;
  HttpShared& shared_;
  const Peer peer_;
  Door& door_;
  beast::flat_buffer buffer_{kMaxHeaderBytes + kMaxMessageBytes};
  std::optional<HttpParser> parser_;
  std::optional<http::response<http::string_body>> response_;
  std::optional<http::response_serializer<http::string_body>> head_;  // of a response without its body
  bool is_head_ = false;                                              // of the request: HEAD
  bool is_old_ = false;                                               // HTTP/1.0

  // Of a stream of events.
  std::optional<http::response<http::empty_body>> header_;
  std::optional<http::response_serializer<http::empty_body>> serializer_;
  std::uint64_t after_ = 0;
  std::uint64_t instance_ = 0;
  bool following_ = false;
  bool writing_ = false;
  bool ended_ = false;
  std::string lines_;
  char ignored_[64];
};

}  // namespace

std::shared_ptr<HttpSession> HttpSession::make(stream_protocol::socket socket, HttpShared& shared, Peer peer) {
  return std::make_shared<BeastSession>(std::move(socket), shared, peer);
}

}  // namespace pcache
