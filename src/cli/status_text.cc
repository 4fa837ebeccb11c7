#include "cli/status_text.h"

#include <sstream>

#include "cli/json_fields.h"
#include "cli/output.h"

namespace pcache {
namespace {

using nlohmann::json;

// With one digit after the point.
std::string seconds(const json& object, const char* key) {
  const std::uint64_t tenths = (number(object, key) + 50) / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

std::string promise(const std::string& ack) {
  return ack == "durable" ? "an acknowledged write survives power loss"
                          : "an acknowledged write survives the daemon's death; power loss after the next flush";
}

std::string bare_status(const json& status) {
  std::string out;
  const auto add = [&out](const std::string& device, const json& fields) {
    for (const auto& [key, value] : fields.items()) {
      if (value.is_structured()) continue;
      const std::string shown = value.is_string() ? printable(text(fields, key.c_str())) : value.dump();
      out += device + "\t" + key + "\t" + (shown.empty() ? "-" : shown) + "\n";
    }
  };
  for (const json& cache : list(status, "cache_devs")) add(printable(text(cache, "label")), cache);
  for (const json& device : list(status, "logic_devs")) {
    add(printable(text(device, "cache_dev") + "/" + text(device, "name")), device);
  }
  return out;
}

}  // namespace

std::string status_text(const json& status, const OutputStyle& style) {
  if (style.bare) return bare_status(status);
  std::ostringstream out;
  const auto size = [&style](const json& object, const char* key) { return size_text(number(object, key), style); };
  const auto alarm = [&style](const char* word) { return alarm_text(std::string(word) + ": ", style); };
  if (text(status, "state") == "closing") out << "the mount is being taken down; what is under way ends first\n";
  for (const json& cache : list(status, "cache_devs")) {
    if (text(cache, "state") == "missing") {
      out << "cache device " << text(cache, "label") << "  " << text(cache, "path") << "  " << alarm("MISSING")
          << text(cache, "detail") << "\n";
      continue;
    }
    out << "cache device " << text(cache, "label") << "  " << text(cache, "path") << "\n"
        << "  size " << size(cache, "size_bytes") << ", " << number(cache, "segments_used") << " of "
        << number(cache, "segments") << " segments used (" << number(cache, "segments_clean")
        << " of them clean), granularity " << text(cache, "granularity") << "\n"
        << "  ack=" << text(cache, "ack") << ": " << promise(text(cache, "ack")) << "\n";
    if (text(cache, "state") == "failed") out << "  " << alarm("FAILED") << text(cache, "detail") << "\n";
    if (number(cache, "damaged_records") != 0) {
      out << "  " << alarm("DAMAGED") << number(cache, "damaged_records") << " key records\n";
    }
    if (number(cache, "repaired_copies") != 0) {
      out << "  repaired: " << number(cache, "repaired_copies") << " copies of metadata\n";
    }
    if (number(cache, "unrepaired_copies") != 0) {
      out << "  " << alarm("DAMAGED") << number(cache, "unrepaired_copies")
          << " copies of metadata cannot be written again\n";
    }
  }
  for (const json& device : list(status, "logic_devs")) {
    if (text(device, "state") == "missing") {
      out << "logical device " << text(device, "name") << "  " << text(device, "backing") << "  " << alarm("MISSING")
          << text(device, "detail") << "\n";
      continue;
    }
    const std::uint64_t hits = number(device, "read_hits");
    const std::uint64_t blocks = hits + number(device, "read_misses");
    out << "logical device " << text(device, "name") << "  " << size(device, "size_bytes") << "  "
        << state_text(text(device, "state"), style) << "  " << text(device, "mode")
        << (flag(device, "detached") ? ", detached from " : " on ") << text(device, "cache_dev") << "\n"
        << "  backing " << text(device, "backing") << "\n";
    if (!text(device, "pending_mode").empty()) {
      out << "  is being switched to " << text(device, "pending_mode") << "; " << size(device, "dirty_bytes")
          << " left\n";
    }
    if (!text(device, "detail").empty()) out << "  " << text(device, "detail") << "\n";
    out << "  dirty " << size(device, "dirty_bytes") << ", cached " << size(device, "cached_bytes") << ", read hits "
        << (blocks == 0 ? 0 : hits * 100 / blocks) << " % of " << blocks << " blocks, written back "
        << size(device, "written_back_bytes") << "\n"
        << "  read misses: " << number(device, "read_fills")
        << " blocks admitted; not admitted: " << number(device, "not_admitted_first_touch") << " on first touch, "
        << number(device, "not_admitted_sequential") << " sequential, " << number(device, "not_admitted_no_space")
        << " without space\n"
        << "  evicted " << size(device, "evicted_bytes")
        << "; kept since they were read again: " << size(device, "promoted_bytes") << " from probation, "
        << size(device, "relocated_bytes") << " from the log, " << number(device, "ghost_hits")
        << " blocks that came back\n";
    if (number(device, "oldest_dirty_ms") != 0) {
      out << "  oldest dirty data " << seconds(device, "oldest_dirty_ms");
      if (number(device, "clean_in_ms") != 0) out << ", all written back in " << seconds(device, "clean_in_ms");
      out << "\n";
    }
    if (number(device, "space_waits") != 0 || number(device, "throttled_ms") != 0) {
      out << "  writes waited " << seconds(device, "throttled_ms") << " for space, " << number(device, "space_waits")
          << " times with none left\n";
    }
    if (number(device, "lost_bytes") != 0)
      out << "  " << alarm("LOST") << size(device, "lost_bytes") << " of dirty data\n";
  }
  if (list(status, "cache_devs").empty()) out << "no cache device\n";
  return out.str();
}

}  // namespace pcache
