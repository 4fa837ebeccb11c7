// What a command is given. One description an argument, by which every view (socket, command line, files) explains it,
// reads it from words, and checks it, with the same words where it is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pcache/result.h"
#include "pcache/settings.h"

namespace pcache {

enum class ArgKind : std::uint8_t {
  text,
  path,      // a text; what is typed relative to a directory is made absolute where it is typed
  size,      // a number of bytes; as a word "4096", "64K", "1.5G"
  number,    // whole, not negative
  flag,      // true or false; as a word also "1", "0"
  settings,  // {"KEY": VALUE, ...}, each a text or a number (setting_json.h); as a word "KEY=VALUE,..."
  keys,      // names of settings, ["KEY", ...]; as a word "KEY,..."
};

enum class Need : std::uint8_t { required, optional };

struct Argument {
  const char* name;
  ArgKind kind;
  Need need;
  const char* help;
  const char* fallback = "";  // what it is where it is left out, for people; empty: nothing
  bool bare = false;          // on the command line a word by itself, though optional; required ones always are
};

// "text", "path", ...
const char* to_string(ArgKind kind);

// Arguments that were checked. What was left out reads as empty, 0 or false.
class Args {
 public:
  bool has(const char* name) const { return values_.contains(name); }
  std::string text(const char* name) const;
  std::uint64_t number(const char* name) const;
  bool flag(const char* name) const;
  // Of the argument of kind `settings`.
  const Settings& settings() const { return settings_; }
  // Of the argument of kind `keys`.
  const SettingSet& keys() const { return keys_; }

 private:
  friend Result<Args> check_args(const std::string&, const std::vector<Argument>&, const nlohmann::json&);
  nlohmann::json values_ = nlohmann::json::object();
  Settings settings_;
  SettingSet keys_;
};

// Holds what `command` was given to what it takes. Errors: invalid, naming the argument: not an object; one that is
// missing, of another kind, or that the command does not take.
Result<Args> check_args(const std::string& command, const std::vector<Argument>& takes, const nlohmann::json& given);

// The value that a word gives an argument. Errors: invalid, beginning with `called`, what the argument is called where
// the word was given; of settings and keys, naming those.
Result<nlohmann::json> argument_from_word(const Argument& argument, const std::string& word, const std::string& called);

}  // namespace pcache
