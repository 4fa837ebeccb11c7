// What commands and options a command line has.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace pcache {

// Those that people are told of: others are in no group.
inline std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

// What a command takes: words by themselves, or options.
inline std::vector<const CLI::Option*> options_of(const CLI::App& command, bool words) {
  return command.get_options(
      [words](const CLI::Option* option) { return option->get_positional() == words && !option->get_group().empty(); });
}

inline bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// "-o", "--output": as they are typed.
inline std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

}  // namespace pcache
