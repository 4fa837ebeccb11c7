#include "pcache/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace pcache {
namespace {

constexpr Errc kAll[] = {Errc::ok,        Errc::failed,     Errc::invalid,   Errc::not_found,
                         Errc::busy,      Errc::dirty,      Errc::integrity, Errc::timed_out,
                         Errc::no_daemon, Errc::permission, Errc::no_space};

TEST(Status, WordsReadBack) {
  for (const Errc code : kAll) EXPECT_EQ(errc_from_string(to_string(code)), code) << to_string(code);
  EXPECT_EQ(errc_from_string("no such word"), Errc::failed);
}

TEST(Status, ExitCodes) {
  const int codes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1};
  for (std::size_t i = 0; i < std::size(kAll); ++i) EXPECT_EQ(exit_code(kAll[i]), codes[i]) << to_string(kAll[i]);
  EXPECT_EQ(to_errno(Errc::ok), 0);
  for (const Errc code : kAll) EXPECT_EQ(to_errno(code) > 0, code != Errc::ok) << to_string(code);
}

TEST(Status, FromErrno) {
  const std::pair<int, Errc> cases[] = {
      {EACCES, Errc::permission}, {EPERM, Errc::permission}, {EROFS, Errc::permission},
      {ENOENT, Errc::not_found},  {EBUSY, Errc::busy},       {EEXIST, Errc::busy},
      {ENOSPC, Errc::no_space},   {EIO, Errc::failed},       {ETIMEDOUT, Errc::timed_out}};
  for (const auto& [error, code] : cases) {
    const Status status = Status::from_errno(error, "open x");
    EXPECT_EQ(status.code(), code) << error;
    EXPECT_EQ(status.message().rfind("open x: ", 0), 0U) << status.message();
  }
}

TEST(Status, Prefix) {
  EXPECT_TRUE(Status().with_prefix("a").ok());
  const Status status = Status(Errc::busy, "b").with_prefix("a");
  EXPECT_EQ(status.code(), Errc::busy);
  EXPECT_EQ(status.message(), "a: b");
}

}  // namespace
}  // namespace pcache
