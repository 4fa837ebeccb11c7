#include "cli/inspect_json.h"

#include <cstdio>

#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

// What is not UTF-8 gets a replacement character: names and paths need not be. That standard output takes no more is
// found by whoever flushes it.
void put(const json& value) { std::fputs(value.dump(-1, ' ', false, json::error_handler_t::replace).c_str(), stdout); }

}  // namespace

void JsonStream::key(const std::string& name) {
  end_list();
  std::fputs(begun_ ? ",\n" : "{\n", stdout);
  begun_ = true;
  put(name);
  std::fputs(": ", stdout);
}

void JsonStream::member(const std::string& name, const json& value) {
  key(name);
  put(value);
}

void JsonStream::begin_list(const std::string& name) {
  key(name);
  std::fputs("[", stdout);
  in_list_ = true;
  has_items_ = false;
}

void JsonStream::item(const json& value) {
  std::fputs(has_items_ ? ",\n" : "\n", stdout);
  has_items_ = true;
  put(value);
}

void JsonStream::end_list() {
  if (in_list_) std::fputs("]", stdout);
  in_list_ = false;
}

void JsonStream::end() {
  end_list();
  std::fputs(begun_ ? "\n}\n" : "{}\n", stdout);
}

void begin_json(JsonStream& out) {
  out.member("schema", {{"major", 1}, {"minor", 0}});
  out.member("version", kVersion);
}

json to_json(const Damage& damage) {
  json value = {
      {"kind", to_string(damage.kind)}, {"logic_dev", damage.logic_dev}, {"cache_offset", damage.cache_offset},
      {"certain", damage.certain},      {"dirty", damage.dirty},         {"harmless", damage.harmless},
      {"detail", damage.detail}};
  if (damage.range) {
    value["offset"] = damage.range->offset;
    value["length"] = damage.range->length;
  }
  return value;
}

json to_json(const CheckedLogicDev& device) {
  return {{"name", device.name},
          {"size_bytes", device.size_bytes},
          {"backing", device.backing},
          {"failed", device.failed},
          {"detail", device.detail},
          {"dirty_bytes", device.dirty_bytes},
          {"cached_bytes", device.cached_bytes},
          {"lost_bytes", device.lost_bytes}};
}

}  // namespace pcache
