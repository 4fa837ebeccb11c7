#include "base/http_address.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

TEST(HttpAddress, IsLoopbackWhereNothingElseIsSaid) {
  struct Row {
    const char* text;
    const char* host;
    std::uint16_t port;
  };
  for (const Row& row : {Row{"9494", "127.0.0.1", 9494},
                         {":9494", "127.0.0.1", 9494},
                         {"0.0.0.0:80", "0.0.0.0", 80},
                         {"[::1]:9494", "::1", 9494},
                         {"[fe80::1%lo]:9494", "fe80::1%lo", 9494},
                         {"127.0.0.1:0", "127.0.0.1", 0}}) {
    const auto address = parse_http_address(row.text);
    ASSERT_TRUE(address.ok()) << row.text;
    EXPECT_EQ(address->host, row.host) << row.text;
    EXPECT_EQ(address->port, row.port) << row.text;
  }
  for (const char* bad : {"", ":", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "localhost:80",
                          "::1", "[::1]", "[]:80", "[:80", "127.1:80", "foo:bar", "foo:80", "1.2.3:80:90"}) {
    const auto address = parse_http_address(bad);
    ASSERT_FALSE(address.ok()) << bad;
    EXPECT_EQ(address.status().code(), Errc::invalid) << bad;
  }
}

}  // namespace
}  // namespace pcache
