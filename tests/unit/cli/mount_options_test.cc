#include "cli/mount_options.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

TEST(MountOptionsTest, WithoutTextEverythingStaysAsItIs) {
  for (const char* text : {"", ",", ",,"}) {
    MountArgs args;
    ASSERT_TRUE(parse_mount_options(text, args).ok()) << text;
    EXPECT_FALSE(args.options.ack.has_value());
    EXPECT_TRUE(args.options.settings.empty());
    EXPECT_EQ(args.options.epoch_max_ms, CacheOptions().epoch_max_ms);
    EXPECT_FALSE(args.allow_other);
  }
}

TEST(MountOptionsTest, EachOptionSetsItsOwn) {
  MountArgs args;
  ASSERT_TRUE(parse_mount_options("ack=durable,dirty_max_age=0,dirty_high=95%,epoch_max_ms=10,allow_other", args).ok());
  EXPECT_EQ(args.options.ack, Ack::durable);
  EXPECT_EQ(args.options.settings.get(Setting::dirty_max_age), 0U);
  EXPECT_EQ(args.options.settings.get(Setting::dirty_high), kPercent | 95);
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
      {"dirty_high=50", "50"},
      {"dirty_high=96%", "96%"},
      {"dirty_low=60%,dirty_high=50%", "dirty_low"},
      {"mode=writethrough", "mode"},
      {"dirty_high= 50", "dirty_high"},
      {"epoch_max_ms=-1", "-1"},
      {"epoch_max_ms=+1", "+1"},
      {"epoch_max_ms=0x10", "0x10"},
      {"epoch_max_ms=1.5", "1.5"},
      {"dirty_max_age=4294967296", "4294967296"},
      {"dirty_max_age=1=2", "1=2"},
      {"=1", "=1"},
      {" ack=flush", " ack=flush"},
      {"allow_other,dirty_high=5%,nonsense=3", "nonsense=3"},
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
