// What the offline commands print for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "pcache/inspect.h"

namespace pcache {

// Prints one JSON object to standard output, member by member and item by item: lists may be too long to be held.
// Nothing is printed before the first call.
class JsonStream {
 public:
  void member(const std::string& key, const nlohmann::json& value);
  // Items go to the list until another one, or a member, begins.
  void begin_list(const std::string& key);
  void item(const nlohmann::json& value);
  void end();

 private:
  void key(const std::string& name);
  void end_list();

  bool begun_ = false;
  bool in_list_ = false;
  bool has_items_ = false;
};

// The members that every object of this kind begins with: `schema` and `version`.
void begin_json(JsonStream& out);

nlohmann::json to_json(const Damage& damage);
nlohmann::json to_json(const CheckedLogicDev& device);
nlohmann::json to_json(const DumpedSuperblock& superblock);
nlohmann::json to_json(const DumpedDevice& device);
nlohmann::json to_json(const DumpedSegment& segment);
nlohmann::json to_json(const DumpedRecord& record);

}  // namespace pcache
