#include "base/size_text.h"

#include <gtest/gtest.h>

#include <string>

#include "base/units.h"

namespace pcache {
namespace {

TEST(ParseSize, Accepts) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"1", 1},
      {"4096", 4096},
      {"512B", 512},
      {"64K", 64 * kKiB},
      {"64k", 64 * kKiB},
      {"64KB", 64 * kKiB},
      {"64kb", 64 * kKiB},
      {"64KiB", 64 * kKiB},
      {"1.5G", 3 * kGiB / 2},
      {".5K", 512},
      {"2TiB", 2048 * kGiB},
      {"3P", 3 * 1024 * 1024 * kGiB},
      {"7E", std::uint64_t{7} << 60},
      {"9223372036854775807", 9223372036854775807U},
  };
  for (const auto& [text, bytes] : cases) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size.ok()) << text << ": " << size.status().message();
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(ParseSize, Refuses) {
  for (const char* text : {"",
                           " ",
                           "K",
                           "-1",
                           "+1",
                           "0",
                           "0K",
                           "0.1",
                           "1.2.3",
                           ".",
                           "1X",
                           "1KX",
                           "1KiBB",
                           "1Bi",
                           "1 K",
                           " 1",
                           "1 ",
                           "1BB",
                           "0x10",
                           "1e3",
                           "8E",
                           "9223372036854775808",
                           "99999999999999999999999T",
                           "inf",
                           "nan",
                           "1,5K",
                           "12\n"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << "'" << text << "' gave " << *size;
    EXPECT_EQ(size.status().code(), Errc::invalid) << text;
    EXPECT_NE(size.status().message().find(text), std::string::npos) << text;
  }
}

TEST(FormatSize, PicksTheUnit) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1 KiB");
  EXPECT_EQ(format_size(1536), "1.5 KiB");
  EXPECT_EQ(format_size(10 * kMiB), "10 MiB");
  EXPECT_EQ(format_size(3 * kGiB / 2), "1.5 GiB");
  EXPECT_EQ(format_size(kGiB * 1024), "1 TiB");
  EXPECT_EQ(format_size(~std::uint64_t{0}), "16 EiB");
}

TEST(FormatSize, ReadsBack) {
  for (int shift = 10; shift < 63; ++shift) {
    std::string text = format_size(std::uint64_t{1} << shift);
    text.erase(text.find(' '), 1);
    const auto size = parse_size(text);
    ASSERT_TRUE(size.ok()) << text;
    EXPECT_EQ(*size, std::uint64_t{1} << shift) << text;
  }
}

}  // namespace
}  // namespace pcache
