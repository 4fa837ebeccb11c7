#include "cli/inspect_text.h"

#include <iomanip>
#include <sstream>

#include "base/size_text.h"
#include "cli/output.h"

namespace pcache {
namespace {

std::string range_text(const ByteRange& range) {
  return std::to_string(range.length) + " bytes from " + std::to_string(range.offset);
}

}  // namespace

std::string damage_text(const Damage& damage) {
  std::ostringstream out;
  out << (damage.harmless ? "damaged  " : "DAMAGED  ") << to_string(damage.kind);
  if (damage.cache_offset != 0 || damage.kind == DamageKind::superblock) {
    out << " at 0x" << std::hex << damage.cache_offset << std::dec;
  }
  out << ": " << printable(damage.detail) << "\n";
  if (!damage.logic_dev.empty()) {
    out << "  logical device " << printable(damage.logic_dev);
    if (damage.range) out << ": " << (damage.certain ? "" : "probably ") << range_text(*damage.range);
    out << (damage.dirty ? ", dirty" : ", clean") << "\n";
  }
  return out.str();
}

std::string check_text(const CheckReport& report) {
  std::ostringstream out;
  out << "cache device " << printable(report.label) << "  " << printable(report.path) << "  "
      << format_size(report.size_bytes) << ", " << (report.closed_in_order ? "closed in order" : "not closed in order")
      << "\n";
  for (const CheckedLogicDev& device : report.logic_devs) {
    out << "logical device " << printable(device.name) << "  " << format_size(device.size_bytes) << "  "
        << (device.failed ? "failed" : "usable") << "\n"
        << "  backing " << printable(device.backing) << "\n"
        << "  dirty " << format_size(device.dirty_bytes) << ", cached " << format_size(device.cached_bytes);
    if (device.lost_bytes != 0) out << ", LOST " << format_size(device.lost_bytes);
    out << "\n";
    if (!device.detail.empty()) out << "  " << printable(device.detail) << "\n";
  }
  out << (report.damages == 0 ? "no damage\n" : "");
  return out.str();
}

}  // namespace pcache
