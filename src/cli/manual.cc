#include "cli/manual.h"

#include <string_view>

#include "base/setting_help.h"
#include "cli/command_walk.h"

namespace pcache {
namespace {

// Nothing in it is markup.
std::string plain(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\*_#`[]<>|.~+").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string option_names(const CLI::Option& option) {
  std::string names;
  const auto add = [&names](const std::string& name) { names += (names.empty() ? "*" : ", *") + plain(name) + "*"; };
  for (const std::string& name : names_of(option)) add(name);
  return names + (takes_value(option) ? " _" + plain(option.get_type_name()) + "_" : "");
}

std::string options_text(const std::vector<const CLI::Option*>& options) {
  std::string text;
  for (const CLI::Option* option : options) {
    text += option_names(*option) + "\n\t" + plain(option->get_description()) + "\n\n";
  }
  return text;
}

std::string synopsis(const CLI::App& command, const std::string& before) {
  std::string text = before + " " + command.get_name();
  for (const CLI::Option* word : options_of(command, true)) {
    text += word->get_required() ? " " + word->get_name() : " [" + word->get_name() + "]";
  }
  return text;
}

// The texts of help end with an example, of which the command is the rest of the line.
std::string command_text(const CLI::App& command, const std::string& before) {
  static const std::string kExample = "\n\nExample: ";
  const std::string help = command.get_description();
  const std::size_t example = help.find(kExample);
  std::string text = "## " + synopsis(command, before) + "\n\n" + plain(help.substr(0, example)) + ".\n\n";
  for (const CLI::Option* word : options_of(command, true)) {
    text += "_" + plain(word->get_name()) + "_\n\t" + plain(word->get_description()) + "\n\n";
  }
  std::vector<const CLI::Option*> options = options_of(command, false);
  std::erase_if(options, [](const CLI::Option* option) { return option->check_name("--help"); });
  text += options_text(options);
  if (example != std::string::npos) text += "Example: *" + plain(help.substr(example + kExample.size())) + "*\n\n";
  return text;
}

}  // namespace

std::string settings_manual_text() {
  std::string text;
  for (const SettingInfo& info : all_settings()) {
    text += "*" + plain(info.name) + "*\n\t" + plain(setting_help(info.setting)) + " It is " +
            plain(setting_rule(info.setting)) + "; default: " + plain(format_setting(info.setting, info.standard)) +
            plain(".") + "\n\n";
  }
  return text;
}

std::string manual_text(const CLI::App& app) {
  std::string text = "# COMMANDS\n\n";
  for (const CLI::App* command : commands_of(app)) {
    const auto below = commands_of(*command);
    if (below.empty()) text += command_text(*command, "pcachefs");
    for (const CLI::App* one : below) text += command_text(*one, "pcachefs " + command->get_name());
  }
  return text + "# OPTIONS OF ALL COMMANDS\n\n" + options_text(options_of(app, false));
}

}  // namespace pcache
