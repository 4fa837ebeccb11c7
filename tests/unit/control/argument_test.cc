#include "control/argument.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

using nlohmann::json;

const std::vector<Argument>& takes() {
  static const std::vector<Argument> arguments = {
      {"name", ArgKind::text, Need::required, "The thing"}, {"file", ArgKind::path, Need::optional, "Where"},
      {"size", ArgKind::size, Need::optional, "How large"}, {"count", ArgKind::number, Need::optional, "How many"},
      {"force", ArgKind::flag, Need::optional, "Whether"},  {"settings", ArgKind::settings, Need::optional, "How"},
  };
  return arguments;
}

TEST(Argument, WhatIsCheckedCanBeReadAndTheRestIsEmpty) {
  const json settings = {{"dirty_low", "5%"}};
  const auto args = check_args(
      "do", takes(),
      {{"name", "n"}, {"file", "/f"}, {"size", 4096U}, {"count", 0U}, {"force", true}, {"settings", settings}});
  ASSERT_TRUE(args.ok()) << args.status().message();
  EXPECT_EQ(args->text("name"), "n");
  EXPECT_EQ(args->text("file"), "/f");
  EXPECT_EQ(args->number("size"), 4096U);
  EXPECT_TRUE(args->has("count"));
  EXPECT_TRUE(args->flag("force"));
  EXPECT_EQ(args->settings().get(Setting::dirty_low), kPercent | 5);
  const auto least = check_args("do", takes(), {{"name", ""}});
  ASSERT_TRUE(least.ok());
  EXPECT_EQ(least->text("file"), "");
  EXPECT_EQ(least->number("count"), 0U);
  EXPECT_FALSE(least->has("count"));
  EXPECT_FALSE(least->flag("force"));
  EXPECT_TRUE(least->settings().empty());
}

// Whatever is wrong, the argument's name is in the text.
TEST(Argument, ErrorsNameTheArgument) {
  const json half = {{"dirty_low", 5}};
  const json unknown = {{"nonsense", "5"}};
  const json crossed = {{"dirty_low", "50%"}, {"dirty_high", "40%"}};
  const std::pair<json, const char*> bad[] = {
      {json::object(), "name"},
      {{{"name", 1}}, "name"},
      {{{"name", nullptr}}, "name"},
      {{{"name", "n"}, {"size", -1}}, "size"},
      {{{"name", "n"}, {"size", "4096"}}, "size"},
      {{{"name", "n"}, {"count", 1.5}}, "count"},
      {{{"name", "n"}, {"force", 1}}, "force"},
      {{{"name", "n"}, {"settings", "dirty_low=5%"}}, "settings"},
      {{{"name", "n"}, {"settings", half}}, "settings"},
      {{{"name", "n"}, {"settings", unknown}}, "nonsense"},
      {{{"name", "n"}, {"settings", crossed}}, "settings"},
      {{{"name", "n"}, {"colour", "red"}}, "colour"},
  };
  for (const auto& [given, named] : bad) {
    const auto args = check_args("do", takes(), given);
    ASSERT_FALSE(args.ok()) << given;
    EXPECT_EQ(args.status().code(), Errc::invalid) << given;
    EXPECT_NE(args.status().message().find(std::string("'") + named), std::string::npos) << args.status().message();
  }
  EXPECT_EQ(check_args("do", takes(), json::array()).status().code(), Errc::invalid);
  const std::vector<Argument> needs = {{"settings", ArgKind::settings, Need::required, "How"}};
  EXPECT_FALSE(check_args("do", needs, {{"settings", json::object()}}).ok()) << "nothing would be set";
}

TEST(Argument, WordsBecomeWhatTheCheckTakes) {
  const std::pair<std::size_t, const char*> good[] = {
      {0, "n"}, {1, "/f"}, {2, "64K"}, {3, "0"}, {4, "1"}, {4, "true"}, {5, "dirty_low=5%"}, {5, "mode=writearound"}};
  for (const auto& [index, word] : good) {
    const Argument& argument = takes()[index];
    const auto value = argument_from_word(argument, word, "it");
    ASSERT_TRUE(value.ok()) << argument.name << " " << value.status().message();
    json given = {{"name", "n"}};
    given[argument.name] = *value;
    EXPECT_TRUE(check_args("do", takes(), given).ok()) << argument.name;
  }
  EXPECT_EQ(*argument_from_word(takes()[2], "64K", "it"), 65536U);
  const std::pair<std::size_t, const char*> bad[] = {{2, "big"},  {2, ""},           {3, "-1"},
                                                     {3, "1x"},   {3, ""},           {4, "yes"},
                                                     {5, "mode"}, {5, "nonsense=1"}, {5, "mode=nonsense"}};
  for (const auto& [index, word] : bad) {
    const auto value = argument_from_word(takes()[index], word, "--it");
    ASSERT_FALSE(value.ok()) << word;
    EXPECT_EQ(value.status().code(), Errc::invalid);
    const bool says_which = index == 5 || value.status().message().starts_with("--it: ");
    EXPECT_TRUE(says_which && value.status().message().find("argument") == std::string::npos)
        << value.status().message();
  }
  const Status twice = argument_from_word(takes()[5], "dirty_low=1%,mode=writeback,dirty_low=2%", "--it").status();
  EXPECT_EQ(twice.message(), "setting dirty_low is given twice");
}

}  // namespace
}  // namespace pcache
