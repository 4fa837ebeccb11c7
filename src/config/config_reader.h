// Makes a Config of TOML tables, and says what is wrong in them, where.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <map>
#include <string>

#include "pcache/config.h"

namespace pcache {

// add() takes one file after the other, then finish() looks at what they say together.
class ConfigReader {
 public:
  void add(const std::string& file, const std::string& text);
  ConfigReading finish();

 private:
  ConfigPlace place_of(const toml::node& node) const;
  ConfigPlace place_of(const toml::key& key) const;
  void error(ConfigPlace place, std::string message);

  void read_mount(const toml::key& key, const toml::node& node);
  void read_cache_dev(const toml::key& key, const toml::node& node);
  void read_logic_dev(const toml::key& key, const toml::node& node);
  void read_setting(const toml::key& key, const toml::node& node, Settings& settings);
  template <typename Read>
  void for_each(const char* what, const toml::node& node, Read read);
  // Each returns whether it was as it should be.
  bool read_text(const toml::key& key, const toml::node& node, std::string& out);
  // Also an error: the path of something else, whatever it is called.
  bool read_path(const toml::key& key, const toml::node& node, std::string& out);
  // A number, or a text that stands for one.
  bool read_word(const toml::key& key, const toml::node& node, std::string& out);
  void look_at_logic_devs();
  // Whether nothing that is `same` was there before; else that is an error of `what`.
  bool is_first(const std::string& what, const ConfigPlace& place) { return is_first(what, what, place); }
  bool is_first(const std::string& what, const std::string& same, const ConfigPlace& place);

  std::string file_;
  std::map<std::string, ConfigPlace> seen_;  // "cache device fast", "backing /dev/x": where
  ConfigReading reading_;
};

}  // namespace pcache
