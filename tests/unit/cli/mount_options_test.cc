#include "cli/mount_options.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

TEST(MountOptionsTest, WithoutTextEverythingStaysAsItIs) {
  for (const char* text : {"", ",", ",,"}) {
    MountArgs args;
    ASSERT_TRUE(parse_mount_options(text, args).ok()) << text;
    EXPECT_FALSE(args.options.ack.has_value());
    EXPECT_EQ(args.options.writeback_delay_ms, CacheOptions().writeback_delay_ms);
    EXPECT_EQ(args.options.dirty_high_percent, CacheOptions().dirty_high_percent);
    EXPECT_EQ(args.options.epoch_max_ms, CacheOptions().epoch_max_ms);
    EXPECT_FALSE(args.allow_other);
  }
}

TEST(MountOptionsTest, EachOptionSetsItsOwn) {
  MountArgs args;
  ASSERT_TRUE(
      parse_mount_options("ack=durable,writeback_delay_ms=0,dirty_high=95,epoch_max_ms=10,allow_other", args).ok());
  EXPECT_EQ(args.options.ack, Ack::durable);
  EXPECT_EQ(args.options.writeback_delay_ms, 0U);
  EXPECT_EQ(args.options.dirty_high_percent, 95U);
  EXPECT_EQ(args.options.epoch_max_ms, 10U);
  EXPECT_TRUE(args.allow_other);
}

TEST(MountOptionsTest, TheLastOfAKindCounts) {
  MountArgs args;
  ASSERT_TRUE(parse_mount_options("ack=durable,,epoch_max_ms=10,ack=flush,", args).ok());
  EXPECT_EQ(args.options.ack, Ack::flush);
  EXPECT_EQ(args.options.epoch_max_ms, 10U);
}

TEST(MountOptionsTest, EverythingElseIsInvalidAndNamed) {
  const std::pair<const char*, const char*> bad[] = {
      {"bogus", "bogus"},
      {"rw", "rw"},
      {"ack", "ack"},
      {"ack=", "ack"},
      {"ack=Durable", "Durable"},
      {"allow_other=1", "allow_other=1"},
      {"Allow_other", "Allow_other"},
      {"dirty_high", "dirty_high"},
      {"dirty_high=", "dirty_high"},
      {"dirty_high=50%", "50%"},
      {"dirty_high= 50", "dirty_high"},
      {"epoch_max_ms=-1", "-1"},
      {"epoch_max_ms=+1", "+1"},
      {"epoch_max_ms=0x10", "0x10"},
      {"epoch_max_ms=1.5", "1.5"},
      {"writeback_delay_ms=4294967296", "4294967296"},
      {"writeback_delay_ms=1=2", "1=2"},
      {"=1", "=1"},
      {" ack=flush", " ack=flush"},
      {"allow_other,dirty_high=5,nonsense=3", "nonsense=3"},
  };
  for (const auto& [text, named] : bad) {
    MountArgs args;
    const Status status = parse_mount_options(text, args);
    EXPECT_EQ(status.code(), Errc::invalid) << text;
    EXPECT_NE(status.message().find(named), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace pcache
