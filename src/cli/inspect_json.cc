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
  out.member("schema", schema_json());
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

json to_json(const DumpedSuperblock& s) {
  return {{"path", s.path},
          {"copies", s.copies},
          {"sequence", s.sequence},
          {"version", s.version},
          {"cache_tag", s.cache_tag},
          {"uuid", s.uuid},
          {"label", s.label},
          {"size_bytes", s.size_bytes},
          {"segment_size_bytes", s.segment_size_bytes},
          {"segments", s.segments},
          {"slots_per_segment", s.slots_per_segment},
          {"first_segment", s.first_segment},
          {"next_device_id", s.next_device_id}};
}

json to_json(const DumpedDevice& d) {
  json value = {{"place", d.place},
                {"copies", d.copies},
                {"sequence", d.sequence},
                {"usable", d.usable},
                {"device_id", d.device_id},
                {"streams", d.streams},
                {"size_bytes", d.size_bytes},
                {"name", d.name},
                {"backing_id", d.backing_id},
                {"backing_path", d.backing_path},
                {"state_copies", d.state_copies},
                {"clean_epoch", nullptr},
                {"closed_lsns", nullptr}};
  if (d.clean_epoch) value["clean_epoch"] = *d.clean_epoch;
  if (d.closed_lsns) value["closed_lsns"] = *d.closed_lsns;
  return value;
}

json to_json(const DumpedSegment& s) {
  return {{"segment", s.segment},       {"offset", s.offset}, {"copies", s.copies},
          {"sequence", s.sequence},     {"usable", s.usable}, {"in_use", s.in_use},
          {"generation", s.generation}, {"chain", s.chain},   {"first_lsn", s.first_lsn},
          {"device_id", s.device_id},   {"stream", s.stream}};
}

json to_json(const DumpedRecord& r) {
  return {{"segment", r.segment},
          {"slot", r.slot},
          {"offset", r.offset},
          {"valid", r.valid},
          {"lsn", r.lsn},
          {"generation", r.generation},
          {"type", r.type},
          {"block", r.block},
          {"count", r.count},
          {"epoch", r.epoch},
          {"device_id", r.device_id},
          {"stream", r.stream},
          {"payload_crc", r.payload_crc},
          {"batch_pos", r.batch_pos}};
}

}  // namespace pcache
