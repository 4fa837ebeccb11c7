// Boost.Beast's parser of requests with the limits of the control socket. Only for what speaks HTTP itself.
#pragma once

#include <boost/beast/http.hpp>
#include <string>

#include "control/http_message.h"

namespace pcache {

using HttpParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

// To be called once, before anything is parsed.
inline void limit(HttpParser& parser) {
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(kMaxMessageBytes);
}

inline HttpRequest to_request(const HttpParser::value_type& message) {
  const auto text = [](boost::beast::string_view view) { return std::string(view.data(), view.size()); };
  HttpRequest request{text(message.method_string()), text(message.target()),
                      text(message[boost::beast::http::field::accept]), message.body()};
  const auto host = message.find(boost::beast::http::field::host);
  if (host != message.end()) request.host = text(host->value());
  request.is_old = message.version() < 11;
  return request;
}

}  // namespace pcache
