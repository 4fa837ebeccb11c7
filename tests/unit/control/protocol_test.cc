#include "control/protocol.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

TEST(Protocol, RequestSurvivesFormattingAndParsing) {
  const json args = {{"name", "d \"1\"\n"}, {"size", 18446744073709551615ULL}};
  const std::string line = format_request("add", args);
  EXPECT_EQ(line.back(), '\n');
  EXPECT_EQ(line.find('\n'), line.size() - 1) << "a message is one line";
  const auto request = parse_request(line);
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->command, "add");
  EXPECT_EQ(request->args, args);
}

TEST(Protocol, ArgsMayBeLeftOut) {
  const auto request = parse_request(R"({"command":"ping"})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->args, json::object());
}

TEST(Protocol, RefusesWhatIsNotARequest) {
  for (const char* line : {"", "x", "[]", "null", "{", "{}", R"({"command":1})", R"({"command":"a","args":[]})",
                           R"({"command":"a"} trailing)", "{\"command\":\"\xff\"}"}) {
    const auto request = parse_request(line);
    ASSERT_FALSE(request.ok()) << line;
    EXPECT_EQ(request.status().code(), Errc::invalid) << line;
  }
}

TEST(Protocol, RefusesDeepNestingWithoutRecursion) {
  const std::size_t depth = kMaxMessageBytes / 2 - 100;
  const std::string line =
      R"({"command":"ping","args":{"a":)" + std::string(depth, '[') + std::string(depth, ']') + "}}";
  const auto request = parse_request(line);
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(request.status().code(), Errc::invalid);
  EXPECT_TRUE(parse_request(R"({"command":"ping","args":{"a":[[[1]]]}})").ok());
}

TEST(Protocol, ADeeplyNestedReplyIsAFailure) {
  const std::size_t depth = 1'000'000;  // a reply may have 16 MiB
  const auto reply = parse_reply(R"({"ok":true,"result":)" + std::string(depth, '[') + std::string(depth, ']') + "}");
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.status().code(), Errc::failed);
}

TEST(Protocol, ReplyCarriesTheResult) {
  const auto reply = parse_reply(format_reply(json{{"a", 1}}));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(*reply, (json{{"a", 1}}));
}

TEST(Protocol, ReplyCarriesEveryKindOfFailure) {
  for (const Errc code : {Errc::failed, Errc::invalid, Errc::not_found, Errc::busy, Errc::dirty, Errc::integrity,
                          Errc::timed_out, Errc::no_daemon, Errc::permission, Errc::no_space}) {
    const auto reply = parse_reply(format_reply(Status(code, "why")));
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.status().code(), code);
    EXPECT_EQ(reply.status().message(), "why");
  }
}

TEST(Protocol, RepliesWithTextThatIsNotUtf8AreStillJson) {
  const auto reply = parse_reply(format_reply(Status(Errc::not_found, "no \xff\xfe")));
  EXPECT_EQ(reply.status().code(), Errc::not_found);
}

TEST(Protocol, SenselessRepliesAreFailures) {
  for (const char* line : {"", "x", "[]", "{}", R"({"ok":1})", R"({"ok":false})", R"({"ok":false,"code":"ok"})",
                           R"({"ok":false,"code":7,"message":[]})"}) {
    const auto reply = parse_reply(line);
    ASSERT_FALSE(reply.ok()) << line;
    EXPECT_EQ(reply.status().code(), Errc::failed) << line;
    EXPECT_FALSE(reply.status().message().empty()) << line;
  }
}

}  // namespace
}  // namespace pcache
