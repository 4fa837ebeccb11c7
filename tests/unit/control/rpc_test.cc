#include "control/rpc.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

TEST(Rpc, ARequestSurvivesFormattingAndParsing) {
  const json params = {{"name", "d \"1\"\n"}, {"size", 18446744073709551615ULL}};
  const ParsedRpc parsed = parse_rpc(format_rpc("add", params));
  ASSERT_TRUE(parsed.failure.status.ok()) << parsed.failure.status.message();
  EXPECT_EQ(parsed.request.method, "add");
  EXPECT_EQ(parsed.request.params, params);
  EXPECT_FALSE(parsed.request.id.is_null());
}

TEST(Rpc, ParamsMayBeLeftOutAndTheIdIsKept) {
  const ParsedRpc plain = parse_rpc(R"({"jsonrpc":"2.0","method":"ping","id":"x7"})");
  ASSERT_TRUE(plain.failure.status.ok());
  EXPECT_EQ(plain.request.params, json::object());
  EXPECT_EQ(plain.request.id, "x7");
  EXPECT_FALSE(plain.request.is_notification);
  EXPECT_TRUE(parse_rpc(R"({"jsonrpc":"2.0","method":"ping"})").request.is_notification);
  EXPECT_TRUE(parse_rpc(R"({"jsonrpc":"2.0","method":"ping","params":1})").request.is_notification);
  EXPECT_FALSE(parse_rpc(R"({"jsonrpc":"2.0","method":"ping","id":null})").request.is_notification);
  EXPECT_FALSE(parse_rpc(R"({"jsonrpc":"2.0","method":1})").request.is_notification) << "it is no request at all";
}

TEST(Rpc, RefusesWhatIsNotARequestWithTheNumberOfTheStandard) {
  const std::pair<const char*, int> bad[] = {
      {"", kRpcParseError},
      {"x", kRpcParseError},
      {"{", kRpcParseError},
      {"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", kRpcParseError},
      {R"({"jsonrpc":"2.0","method":"a"} trailing)", kRpcParseError},
      {"[]", kRpcInvalidRequest},
      {R"([{"jsonrpc":"2.0","method":"ping","id":1}])", kRpcInvalidRequest},
      {"null", kRpcInvalidRequest},
      {"{}", kRpcInvalidRequest},
      {R"({"method":"ping"})", kRpcInvalidRequest},
      {R"({"jsonrpc":"1.0","method":"ping"})", kRpcInvalidRequest},
      {R"({"jsonrpc":2.0,"method":"ping"})", kRpcInvalidRequest},
      {R"({"jsonrpc":"2.0","method":1})", kRpcInvalidRequest},
      {R"({"jsonrpc":"2.0","method":"ping","id":{}})", kRpcInvalidRequest},
      {R"({"jsonrpc":"2.0","method":"ping","id":1,"params":[1]})", kRpcBadParams},
  };
  for (const auto& [body, code] : bad) {
    const ParsedRpc parsed = parse_rpc(body);
    ASSERT_FALSE(parsed.failure.status.ok()) << body;
    EXPECT_EQ(parsed.failure.code, code) << body;
  }
  EXPECT_EQ(parse_rpc(R"({"jsonrpc":"2.0","method":1,"id":5})").request.id, 5) << "so that the failure finds its way";
}

TEST(Rpc, RefusesDeepNestingWithoutRecursion) {
  const std::size_t depth = 30'000;
  const std::string body =
      R"({"jsonrpc":"2.0","method":"ping","params":{"a":)" + std::string(depth, '[') + std::string(depth, ']') + "}}";
  EXPECT_EQ(parse_rpc(body).failure.code, kRpcInvalidRequest);
  EXPECT_TRUE(parse_rpc(R"({"jsonrpc":"2.0","method":"ping","params":{"a":[[[1]]]}})").failure.status.ok());
  const std::size_t deeper = 1'000'000;  // a reply may have 16 MiB
  const auto reply = parse_rpc_reply(R"({"result":)" + std::string(deeper, '[') + std::string(deeper, ']') + "}");
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.status().code(), Errc::failed);
}

TEST(Rpc, AReplyCarriesTheResult) {
  const std::string text = format_rpc_reply(7, json{{"a", 1}});
  EXPECT_EQ(json::parse(text), (json{{"jsonrpc", "2.0"}, {"id", 7}, {"result", {{"a", 1}}}}));
  const auto reply = parse_rpc_reply(text);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(*reply, (json{{"a", 1}}));
}

TEST(Rpc, AReplyCarriesEveryKindOfFailure) {
  for (const Errc code : {Errc::failed, Errc::invalid, Errc::not_found, Errc::busy, Errc::dirty, Errc::integrity,
                          Errc::timed_out, Errc::no_daemon, Errc::permission, Errc::no_space}) {
    const std::string text = format_rpc_reply("x", Status(code, "why"));
    EXPECT_EQ(json::parse(text)["error"]["message"], "why");
    EXPECT_EQ(json::parse(text)["error"]["code"],
              code == Errc::invalid ? kRpcBadParams : kRpcRefused - exit_code(code));
    const auto reply = parse_rpc_reply(text);
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.status().code(), code);
    EXPECT_EQ(reply.status().message(), "why");
  }
}

TEST(Rpc, RepliesWithTextThatIsNotUtf8AreStillJson) {
  const auto reply = parse_rpc_reply(format_rpc_reply(1, Status(Errc::not_found, "no \xff\xfe")));
  EXPECT_EQ(reply.status().code(), Errc::not_found);
}

TEST(Rpc, SenselessRepliesAreFailures) {
  for (const char* body : {"", "x", "[]", "{}", R"({"error":1})", R"({"error":{}})",
                           R"({"error":{"data":{"code":"ok"}}})", R"({"error":{"message":[],"data":7}})"}) {
    const auto reply = parse_rpc_reply(body);
    ASSERT_FALSE(reply.ok()) << body;
    EXPECT_EQ(reply.status().code(), Errc::failed) << body;
    EXPECT_FALSE(reply.status().message().empty()) << body;
  }
}

}  // namespace
}  // namespace pcache
