// The commands of the daemon's table on the command line: each is a subcommand of its name, its required arguments are
// words, the others options.
#pragma once

#include <CLI/CLI.hpp>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/table.h"
#include "control/command.h"
#include "pcache/result.h"

namespace pcache {

class DaemonCommands {
 public:
  explicit DaemonCommands(CLI::App& app);
  DaemonCommands(const DaemonCommands&) = delete;
  DaemonCommands& operator=(const DaemonCommands&) = delete;

  // Whether one of them was given.
  bool parsed() const { return given() != nullptr; }
  // Asks the daemon of `mount`, prints what it answers, waits for its job. Returns the exit code.
  struct Printing {
    bool as_json = false;
    OutputStyle style;
    bool yes = false;  // nothing is asked
  };
  int run(const std::string& mount, const Printing& printing) const;

 private:
  struct Word {
    const Argument* argument = nullptr;
    CLI::Option* option = nullptr;
    std::string value;
    std::vector<std::string> values;  // where it may be several words
    bool on = false;                  // a flag's
  };
  struct Form {
    const Command* command = nullptr;
    CLI::App* app = nullptr;
    std::deque<Word> words;  // CLI11 keeps pointers to them
  };

  void add_form(CLI::App& app, const Command& command);
  const Form* given() const;
  Result<nlohmann::json> args_of(const Form& form) const;
  int run_intervals(const std::string& mount, const std::string& name, const Printing& printing) const;

  std::deque<Form> forms_;
  // What the command line has beyond the table.
  std::string mode_;
  bool histograms_ = false;
  bool reset_ = false;
  bool check_ = false;
  std::vector<std::string> interval_;  // seconds, and how many
  bool follow_ = false;
};

}  // namespace pcache
