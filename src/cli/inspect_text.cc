#include "cli/inspect_text.h"

#include <sstream>

#include "base/size_text.h"
#include "cli/output.h"

namespace pcache {
namespace {

std::string range_text(const ByteRange& range) {
  return std::to_string(range.length) + " bytes from " + std::to_string(range.offset);
}

std::string hex(std::uint64_t value) {
  std::ostringstream out;
  out << "0x" << std::hex << value;
  return out.str();
}

// Nothing where all is well.
std::string copies_text(const CopyWords& copies) {
  if (copies[0] == "good" && copies[1] == "good") return "";
  return ", copies " + copies[0] + " and " + copies[1];
}

}  // namespace

std::string damage_text(const Damage& damage) {
  std::ostringstream out;
  out << (damage.harmless ? "damaged  " : "DAMAGED  ") << to_string(damage.kind);
  if (damage.cache_offset != 0 || damage.kind == DamageKind::superblock) {
    out << " at " << hex(damage.cache_offset);
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

std::string salvage_text(const SalvageReport& report, const std::string& name, const SalvageOptions& options) {
  std::ostringstream out;
  out << "image " << printable(options.image) << "  " << format_size(report.size_bytes) << " of logical device "
      << printable(name) << "\n";
  if (report.backing.empty()) {
    out << "  without its backing device: " << printable(report.backing_detail) << "\n";
  } else {
    out << "  backing " << printable(report.backing) << "\n";
  }
  out << "  " << format_size(report.dirty_bytes) << " that only the cache had, " << format_size(report.missing_bytes)
      << " missing\n";
  return out.str();
}

std::string dump_text(const DumpedSuperblock& s) {
  std::ostringstream out;
  out << "superblock  " << printable(s.path) << "\n"
      << "  version " << s.version << ", sequence " << s.sequence << copies_text(s.copies) << "\n"
      << "  label " << printable(s.label) << ", uuid " << s.uuid << ", tag " << hex(s.cache_tag) << "\n"
      << "  " << s.size_bytes << " bytes, " << s.segments << " segments of " << s.segment_size_bytes << " bytes from "
      << s.first_segment << " on, " << s.slots_per_segment << " slots each, next device id " << s.next_device_id
      << "\n";
  return out.str();
}

std::string dump_text(const DumpedDevice& d) {
  std::ostringstream out;
  out << "place " << d.place << "  ";
  if (!d.usable) {
    out << "DAMAGED";
  } else if (d.device_id == 0) {
    out << "free";
  } else {
    out << "device " << d.device_id << " " << printable(d.name);
  }
  out << ", sequence " << d.sequence << copies_text(d.copies) << "\n";
  if (d.device_id == 0) return out.str();
  out << "  " << d.size_bytes << " bytes, " << d.streams << " streams, clean epoch "
      << (d.clean_epoch ? std::to_string(*d.clean_epoch) : "unknown");
  if (d.closed_lsns) out << ", closed lsns " << *d.closed_lsns;
  out << copies_text(d.state_copies) << "\n"
      << "  backing " << printable(d.backing_path) << ", identity " << printable(d.backing_id) << "\n";
  return out.str();
}

std::string dump_text(const DumpedSegment& s) {
  std::ostringstream out;
  out << "segment " << s.segment << " at " << hex(s.offset) << "  ";
  if (s.usable) {
    out << (s.in_use ? "device " + std::to_string(s.device_id) + " stream " + std::to_string(s.stream) + " chain " +
                           std::to_string(s.chain) + " first lsn " + std::to_string(s.first_lsn)
                     : "free")
        << ", generation " << s.generation << ", sequence " << s.sequence;
  } else {
    out << "DAMAGED";
  }
  out << copies_text(s.copies) << "\n";
  return out.str();
}

std::string dump_text(const DumpedRecord& r) {
  std::ostringstream out;
  out << "record " << r.segment << "/" << r.slot << " at " << hex(r.offset) << "  " << (r.valid ? "" : "DAMAGED ")
      << "lsn " << r.lsn << " " << r.type << " block " << r.block;
  if (r.count != 1) out << " count " << r.count;
  out << " epoch " << r.epoch << " batch " << r.batch_pos << " crc " << hex(r.payload_crc) << "\n";
  return out.str();
}

}  // namespace pcache
