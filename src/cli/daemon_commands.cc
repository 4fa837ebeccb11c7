#include "cli/daemon_commands.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <set>
#include <thread>

#include "cli/absolute.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/loop_device.h"
#include "cli/output.h"
#include "cli/replies_text.h"
#include "cli/stats_rate.h"
#include "cli/stats_text.h"
#include "cli/status_text.h"
#include "control/command_table.h"
#include "control/version.h"

namespace pcache {
namespace {

using nlohmann::json;

constexpr std::uint64_t kCheckMs = 3000;

// Those that the command line has in another form: umount waits for the daemon's end, version is the executable's own,
// stats-reset is an option of stats.
bool has_own_form(const std::string& name) {
  static const std::set<std::string> own = {"umount", "version", "stats-reset", "ping", "describe"};
  return own.contains(name);
}

std::string option_name(const Argument& argument) {
  if (argument.kind == ArgKind::settings) return "-o";
  std::string name = std::string("--") + argument.name;
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// What completion offers goes by it (completion_words.h).
std::string word_name(const Argument& argument) {
  if (argument.kind == ArgKind::settings) return "KEY=VALUE";
  if (argument.kind == ArgKind::keys) return "KEY";
  std::string name = argument.name;
  if (name == "cache") return "LABEL";
  if (name == "label") return "L";  // a new one
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

std::string type_name(const Argument& argument) {
  switch (argument.kind) {
    case ArgKind::size:
      return "S";
    case ArgKind::number:
      return "N";
    case ArgKind::settings:
      return "KEY=VALUE,...";
    default:
      return word_name(argument);
  }
}

std::string help_of(const Argument& argument) {
  const std::string fallback = argument.fallback;
  return argument.help + (fallback.empty() ? "" : "; default: " + fallback);
}

// What a command throws away, to be asked about; empty: nothing.
std::string what_is_lost(const std::string& command, const json& args) {
  if (command == "remove" && flag(args, "discard_dirty")) {
    return "What only the cache has of logical device " + text(args, "name") + " is thrown away";
  }
  if (command == "register" && flag(args, "format") && flag(args, "force")) return overwrites(text(args, "path"));
  return "";
}

// What a reply is for people. Most commands only do something.
std::string reply_text(const std::string& command, const json& args, const json& reply, bool histograms,
                       const OutputStyle& style) {
  if (command == "status") return status_text(reply, style);
  if (command == "stats" || command == "stats-reset") return stats_text(reply, histograms, style);
  if (command == "get") return settings_text(reply, style);
  if (command == "jobs") return jobs_text(reply, style);
  if (command == "segments") return segments_text(reply);
  if (command == "metrics") return text(reply, "text");
  if (command == "events") return events_text(reply, style);
  if (command == "remove" && args.contains("no_flush")) {
    return "logical device " + printable(text(args, "name")) +
           " is not exposed any more; what only the cache has of it stays there (see status)\n";
  }
  return "";
}

}  // namespace

DaemonCommands::DaemonCommands(CLI::App& app) {
  for (const Command& command : all_commands()) {
    if (!has_own_form(command.name)) add_form(app, command);
  }
}

void DaemonCommands::add_form(CLI::App& app, const Command& command) {
  Form& form = forms_.emplace_back();
  form.command = &command;
  form.app = app.add_subcommand(command.name, std::string(command.help) + "\n\nExample: pcachefs " + command.example);
  for (const Argument& argument : command.args) {
    Word& word = form.words.emplace_back();
    word.argument = &argument;
    const bool bare = argument.bare || argument.need == Need::required;
    if (argument.kind == ArgKind::flag) {
      word.option = form.app->add_flag(option_name(argument), word.on, help_of(argument));
      continue;
    }
    const std::string written = bare ? word_name(argument) : option_name(argument);
    if (bare && (argument.kind == ArgKind::settings || argument.kind == ArgKind::keys)) {
      word.option = form.app->add_option(written, word.values, help_of(argument));
    } else {
      word.option = form.app->add_option(written, word.value, help_of(argument));
    }
    if (!bare) word.option->type_name(type_name(argument));
    if (argument.need == Need::required) word.option->required();
  }
  const std::string name = command.name;
  if (name == "add") form.app->add_option("--mode", mode_, "The same as -o mode=M")->type_name("MODE");
  if (name == "status") {
    form.app->add_flag(
        "--check", check_,
        "For monitoring: one word and the reasons; the exit code is 0 (ok), 10 (warning) or 11 (critical)");
  }
  if (name == "stats") {
    form.app->add_flag("--hist", histograms_, "Show how many operations took how long");
    CLI::Option* reset = form.app->add_flag("--reset", reset_, "Begin anew, after printing");
    form.app->add_option("-i,--interval", interval_, "Show a line every so many seconds, of what happened in between")
        ->type_name("SEC [COUNT]")
        ->expected(1, 2)
        ->excludes(reset);
  }
  if (name == "events") form.app->add_flag("-f,--follow", follow_, "Go on with those to come");
}

const DaemonCommands::Form* DaemonCommands::given() const {
  for (const Form& form : forms_) {
    if (form.app->parsed()) return &form;
  }
  return nullptr;
}

Result<json> DaemonCommands::args_of(const Form& form) const {
  json args = json::object();
  for (const Word& word : form.words) {
    const Argument& argument = *word.argument;
    if (argument.kind == ArgKind::flag) {
      if (word.on) args[argument.name] = true;
      continue;
    }
    std::string given = word.value;
    for (const std::string& value : word.values) given += (given.empty() ? "" : ",") + value;
    if (argument.kind == ArgKind::settings && !mode_.empty()) given += (given.empty() ? "mode=" : ",mode=") + mode_;
    if (given.empty() && word.option->count() == 0) continue;
    auto value =
        argument_from_word(argument, argument.kind == ArgKind::path ? absolute(given) : given, word.option->get_name());
    if (!value) return value.status();
    args[argument.name] = std::move(*value);
  }
  return args;
}

int DaemonCommands::run_intervals(const std::string& mount, const std::string& name, const Printing& printing) const {
  RateArgs rates{name, 0, 0};
  const std::string& seconds = interval_.front();
  char* end = nullptr;
  rates.seconds = std::strtod(seconds.c_str(), &end);
  if (end == seconds.c_str() || *end != '\0' || !(rates.seconds >= 0.01 && rates.seconds <= 86400)) {
    return report(Status(Errc::invalid, "an interval is 0.01 to 86400 seconds, not '" + seconds + "'"));
  }
  if (interval_.size() > 1) {
    const std::string& count = interval_.back();
    const auto [rest, error] = std::from_chars(count.data(), count.data() + count.size(), rates.count);
    if (error != std::errc() || rest != count.data() + count.size() || rates.count == 0) {
      return report(Status(Errc::invalid, "how many lines is a number from 1 on, not '" + count + "'"));
    }
  }
  return run_rates(mount, rates, printing.style, printing.as_json);
}

namespace {

// Those that are known, and then those that come, each second.
int follow_events(const std::string& mount, std::uint64_t after, const DaemonCommands::Printing& printing) {
  OutputStyle style = printing.style;
  for (;;) {
    const auto reply = ask(mount, "events", {{"after", after}});
    if (!reply) return report(reply.status());
    const json events = list(*reply, "events");
    if (!events.empty()) {
      after = number(events.back(), "number");
      int code = 0;
      if (printing.as_json) {
        for (json event : events) {
          event["schema"] = schema_json();
          code = code != 0 ? code : print_json_line(event);
        }
      } else {
        code = print(events_text(*reply, style));
      }
      if (code != 0) return code;
      style.bare = true;  // one heading is enough
    }
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

// Monitoring has no time to wait, and for it a daemon that does not answer is none that is well.
Result<json> ask_for_check(const std::string& mount, const json& args) {
  const auto reply = ask(mount, "status", args, kCheckMs);
  if (reply || reply.status().code() != Errc::timed_out) return reply;
  return json{{"schema", schema_json()}, {"health", {{"level", "critical"}, {"reasons", {reply.status().message()}}}}};
}

}  // namespace

int DaemonCommands::run(const std::string& mount, const Printing& printing) const {
  const Form& form = *given();
  const bool as_json = printing.as_json;
  const std::string name = reset_ ? "stats-reset" : form.command->name;
  const auto args = args_of(form);
  if (!args) return report(args.status());
  if (name == "stats" && !interval_.empty() && !args->contains("name")) {
    return report(Status(Errc::invalid, "stats -i is of one logical device: name it"));
  }
  if (!interval_.empty()) return run_intervals(mount, text(*args, "name"), printing);
  if (follow_) return follow_events(mount, number(*args, "after"), printing);
  if (const std::string loss = what_is_lost(name, *args); !loss.empty()) {
    if (Status agreed = confirm(loss, printing.yes); !agreed.ok()) return report(agreed);
  }
  const auto reply = check_ ? ask_for_check(mount, *args) : ask_and_wait(mount, name, *args);
  if (!reply) return report(reply.status());
  if (!as_json) {
    for (const json& advice : list(*reply, "warnings")) warn(advice.is_string() ? advice.get<std::string>() : "");
  }
  if (name == "resize") {
    // Which also looks at the file, from which the kernel learns its size.
    const auto loop = grow_loop_device(text(*reply, "file"));
    if (!loop && loop.status().code() != Errc::not_found)
      warn(loop.status().message() + "; losetup --set-capacity does that");
  }
  if (check_) {
    const int code = as_json ? print_json(*reply) : print(health_text(*reply));
    return code != 0 ? code : health_exit_code(*reply);
  }
  return as_json ? print_json(*reply) : print(reply_text(name, *args, *reply, histograms_, printing.style));
}

}  // namespace pcache
