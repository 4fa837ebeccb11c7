#include "control/status_json.h"

#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

json to_json(const CacheDevStats& s) {
  return {{"path", s.path},
          {"uuid", s.uuid},
          {"label", s.label},
          {"size_bytes", s.size_bytes},
          {"segment_size_bytes", s.segment_size_bytes},
          {"segments", s.segments},
          {"segments_used", s.segments_used},
          {"granularity", s.granularity},
          {"ack", s.ack},
          {"stored_bytes", s.stored_bytes},
          {"index_bytes", s.index_bytes},
          {"damaged_records", s.damaged_records},
          {"repaired_copies", s.repaired_copies},
          {"unrepaired_copies", s.unrepaired_copies}};
}

json to_json(const std::vector<ByteRange>& ranges) {
  json list = json::array();
  for (const ByteRange& range : ranges) list.push_back({{"offset", range.offset}, {"length", range.length}});
  return list;
}

json to_json(const LogicDevStats& s) {
  return {{"name", s.name},
          {"size_bytes", s.size_bytes},
          {"backing", s.backing},
          {"cache_dev", s.cache_dev},
          {"mode", s.mode},
          {"state", s.state},
          {"detail", s.detail},
          {"dirty_bytes", s.dirty_bytes},
          {"cached_bytes", s.cached_bytes},
          {"reads", s.reads},
          {"read_bytes", s.read_bytes},
          {"read_hits", s.read_hits},
          {"read_misses", s.read_misses},
          {"read_fills", s.read_fills},
          {"partial_hits", s.partial_hits},
          {"not_admitted_first_touch", s.not_admitted_first_touch},
          {"not_admitted_sequential", s.not_admitted_sequential},
          {"not_admitted_no_space", s.not_admitted_no_space},
          {"writes", s.writes},
          {"write_bytes", s.write_bytes},
          {"flushes", s.flushes},
          {"discards", s.discards},
          {"written_back_bytes", s.written_back_bytes},
          {"writeback_errors", s.writeback_errors},
          {"space_waits", s.space_waits},
          {"evicted_bytes", s.evicted_bytes},
          {"relocated_bytes", s.relocated_bytes},
          {"promoted_bytes", s.promoted_bytes},
          {"ghost_hits", s.ghost_hits},
          {"checksum_errors", s.checksum_errors},
          {"lost_bytes", s.lost_bytes},
          {"lost_ranges", to_json(s.lost_ranges)},
          {"bad_cells", s.bad_cells},
          {"epoch", s.epoch},
          {"clean_epoch", s.clean_epoch}};
}

}  // namespace

json status_to_json(const StatusReport& report, const std::string& mount_point) {
  json status = {{"schema", {{"major", 1}, {"minor", 0}}},
                 {"version", kVersion},
                 {"mount", mount_point},
                 {"cache_devs", json::array()},
                 {"logic_devs", json::array()}};
  for (const CacheDevStats& stats : report.cache_devs) status["cache_devs"].push_back(to_json(stats));
  for (const LogicDevStats& stats : report.logic_devs) status["logic_devs"].push_back(to_json(stats));
  return status;
}

}  // namespace pcache
