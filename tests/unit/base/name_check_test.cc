#include <gtest/gtest.h>

#include "pcache/device_manager.h"

namespace pcache {
namespace {

TEST(NameCheckTest, FileNamesOfAllKindsAreAllowed) {
  for (const std::string& name :
       {std::string("a"), std::string("db"), std::string("..."), std::string(".hidden"), std::string("pcache"),
        std::string(".pcache2"), std::string("with space"), std::string("-f"), std::string("a:b*c?\\\"'"),
        std::string("Größe"), std::string("\xff\xfe"), std::string(255, 'n')}) {
    EXPECT_TRUE(check_logic_dev_name(name).ok()) << name;
  }
}

TEST(NameCheckTest, TheErrorSaysWhichRuleWasBroken) {
  const std::pair<std::string, const char*> bad[] = {
      {"", "empty"},           {std::string(256, 'n'), "256"},
      {".", "reserved"},       {"..", "reserved"},
      {".pcache", "reserved"}, {"/", "slash"},
      {"a/b", "slash"},        {"a/", "slash"},
      {"a\nb", "control"},     {"\t", "control"},
      {"a\x7f", "control"},    {std::string("a\0b", 3), "control"},
  };
  for (const auto& [name, rule] : bad) {
    const Status status = check_logic_dev_name(name);
    EXPECT_EQ(status.code(), Errc::invalid) << name;
    EXPECT_NE(status.message().find(rule), std::string::npos) << status.message();
  }
}

// A message is one line for a person, whatever the name was.
TEST(NameCheckTest, TheErrorDoesNotRepeatAnEndlessName) {
  EXPECT_LT(check_logic_dev_name(std::string(100'000, 'n')).message().size(), 300U);
}

}  // namespace
}  // namespace pcache
