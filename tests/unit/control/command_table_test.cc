#include "control/command_table.h"

#include <gtest/gtest.h>

#include <set>

namespace pcache {
namespace {

using nlohmann::json;

TEST(CommandTable, SaysWhoMayCallAndWhatTakesLong) {
  struct Row {
    const char* name;
    Caller caller;
    Pace pace;
  };
  const Row rows[] = {
      {"register", Caller::owner, Pace::slow},
      {"unregister", Caller::owner, Pace::slow},
      {"add", Caller::owner, Pace::slow},
      {"remove", Caller::owner, Pace::job},
      {"set", Caller::owner, Pace::job},
      {"unset", Caller::owner, Pace::job},
      {"get", Caller::anyone, Pace::at_once},
      {"status", Caller::anyone, Pace::at_once},
      {"stats", Caller::anyone, Pace::at_once},
      {"stats-reset", Caller::owner, Pace::at_once},
      {"flush", Caller::owner, Pace::job},
      {"drain", Caller::owner, Pace::job},
      {"detach", Caller::owner, Pace::job},
      {"attach", Caller::owner, Pace::job},
      {"resize", Caller::owner, Pace::slow},
      {"grow", Caller::owner, Pace::slow},
      {"shrink", Caller::owner, Pace::job},
      {"jobs", Caller::anyone, Pace::at_once},
      {"cancel", Caller::owner, Pace::at_once},
      {"events", Caller::anyone, Pace::at_once},
      {"segments", Caller::anyone, Pace::slow},
      {"metrics", Caller::anyone, Pace::at_once},
      {"ping", Caller::anyone, Pace::at_once},
      {"version", Caller::anyone, Pace::at_once},
      {"describe", Caller::anyone, Pace::at_once},
      {"umount", Caller::owner, Pace::at_once},
  };
  for (const Row& row : rows) {
    const Command* command = find_command(row.name);
    ASSERT_NE(command, nullptr) << row.name;
    EXPECT_EQ(command->caller, row.caller) << row.name;
    EXPECT_EQ(command->pace, row.pace) << row.name;
  }
  EXPECT_EQ(all_commands().size(), std::size(rows)) << "a command is in the table and not here";
  EXPECT_EQ(find_command("format"), nullptr);
  EXPECT_EQ(find_command(""), nullptr);
}

// What comes after an optional word on a command line could not be told from it.
TEST(CommandTable, CanBeTyped) {
  std::set<std::string> names;
  for (const Command& command : all_commands()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_EQ(std::string(command.example).rfind(command.name, 0), 0U) << command.name;
    EXPECT_NE(std::string(command.help), "") << command.name;
    bool optional_word = false;
    std::set<std::string> arguments;
    for (const Argument& argument : command.args) {
      EXPECT_TRUE(arguments.insert(argument.name).second) << command.name << " " << argument.name;
      EXPECT_NE(std::string(argument.help), "") << command.name << " " << argument.name;
      EXPECT_FALSE(optional_word && argument.need == Need::required) << command.name << " " << argument.name;
      optional_word = optional_word || argument.bare;
    }
  }
}

TEST(CommandTable, DescribesItself) {
  const json commands = describe_commands().at("commands");
  ASSERT_EQ(commands.size(), all_commands().size());
  for (const json& command : commands) {
    if (command.at("name") != "add") continue;
    EXPECT_EQ(command.at("changes"), true);
    EXPECT_EQ(command.at("pace"), "slow");
    const json expected = {{"name", "size"},
                           {"kind", "size"},
                           {"required", false},
                           {"help", "Size that the backing device must have"},
                           {"default", "whatever it has"}};
    EXPECT_EQ(command.at("args").at(3), expected);
  }
}

}  // namespace
}  // namespace pcache
