// Where a mount is told to serve HTTP beside its unix socket.
#pragma once

#include <cstdint>
#include <string>

#include "pcache/result.h"

namespace pcache {

struct HttpAddress {
  std::string host;  // a number: "127.0.0.1", "::1"
  std::uint16_t port = 0;
};

// "ADDR:PORT", "[ADDR]:PORT", and ":PORT" or "PORT" for the loopback address; port 0: any that is free. Errors:
// invalid.
Result<HttpAddress> parse_http_address(const std::string& text);

}  // namespace pcache
