#include "base/http_address.h"

#include <arpa/inet.h>

#include <charconv>

namespace pcache {

namespace {

// Behind % an address of IPv6 may have the interface that it is of.
bool is_number(const std::string& host) {
  in_addr four{};
  in6_addr six{};
  return inet_pton(AF_INET, host.c_str(), &four) == 1 ||
         inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &six) == 1;
}

}  // namespace

Result<HttpAddress> parse_http_address(const std::string& text) {
  const Status wrong(Errc::invalid, "'" + text +
                                        "' is not of the form ADDR:PORT, where ADDR is a numeric address; "
                                        "write 127.0.0.1:9494, [::1]:9494, or 9494 for this machine alone");
  HttpAddress address{"127.0.0.1", 0};
  const std::size_t colon = text.rfind(':');
  const std::string port = colon == std::string::npos ? text : text.substr(colon + 1);
  if (colon != std::string::npos && colon != 0) address.host = text.substr(0, colon);
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (address.host.find(':') != std::string::npos) {
    return wrong;  // of "::1" nobody knows whether 1 is the port
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size()) return wrong;
  if (!is_number(address.host)) return wrong;
  return address;
}

}  // namespace pcache
