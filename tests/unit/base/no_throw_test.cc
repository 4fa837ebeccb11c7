#include "base/no_throw.h"

#include <gtest/gtest.h>

#include "pcache/result.h"

namespace pcache {
namespace {

TEST(NoThrow, PassesOnWhatIsReturned) {
  EXPECT_TRUE(no_throw("cannot", [] { return Status(); }).ok());
  EXPECT_EQ(no_throw("cannot", [] { return Status(Errc::busy, "it is"); }).message(), "it is");
  EXPECT_EQ(*no_throw("cannot", [] { return Result<int>(7); }), 7);
}

TEST(NoThrow, MakesAStatusThatSaysWhatFailed) {
  const auto memory = no_throw("cannot do it", []() -> Result<int> { throw std::bad_alloc(); });
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), Errc::failed);
  EXPECT_EQ(memory.status().message(), "cannot do it: out of memory");
  const Status thread = no_throw("cannot do it", []() -> Status {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  });
  EXPECT_EQ(thread.code(), Errc::failed);
  EXPECT_TRUE(thread.message().starts_with("cannot do it: ")) << thread.message();
}

}  // namespace
}  // namespace pcache
