#include "media/superblock.h"

#include <cstdio>

namespace pcache {

std::uint32_t cache_tag_of(const Superblock& superblock) {
  return crc32c(superblock.uuid.data(), superblock.uuid.size());
}

SuperblockCheck check_superblock(const Superblock& superblock) {
  if (superblock.signature != Superblock::kSignature) {
    return superblock.header.magic == Superblock::kMagic ? SuperblockCheck::damaged : SuperblockCheck::not_a_cache;
  }
  if (!is_valid(superblock, cache_tag_of(superblock), 0)) return SuperblockCheck::damaged;
  if (superblock.version == 0) return SuperblockCheck::damaged;
  if (superblock.version != kMediaVersion) return SuperblockCheck::other_version;
  const auto geometry = geometry_with(superblock.size_bytes, superblock.segment_size, superblock.first_segment);
  const bool fits = geometry && geometry->segment_count == superblock.segment_count &&
                    geometry->slots_per_segment == superblock.slots_per_segment && superblock.next_device_id >= 1 &&
                    superblock.next_device_id <= kMaxDeviceId && superblock.label.back() == '\0';
  return fits ? SuperblockCheck::ok : SuperblockCheck::damaged;
}

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", uuid[i]);
    text += digits;
  }
  return text;
}

}  // namespace pcache
