// What the offline commands print for people. Texts that come from media are made printable.
#pragma once

#include <string>

#include "pcache/inspect.h"

namespace pcache {

std::string damage_text(const Damage& damage);
std::string check_text(const CheckReport& report);

std::string salvage_text(const SalvageReport& report, const std::string& name, const SalvageOptions& options);
std::string dump_text(const DumpedSuperblock& superblock);
std::string dump_text(const DumpedDevice& device);
std::string dump_text(const DumpedSegment& segment);
std::string dump_text(const DumpedRecord& record);

}  // namespace pcache
