// The superblock: what a cache device is and how it is laid out.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "media/layout.h"
#include "media/meta_header.h"

namespace pcache {

struct Superblock {
  static constexpr std::uint32_t kMagic = 0x53434650;  // "PFCS"
  static constexpr std::array<char, 8> kSignature = {'p', 'c', 'a', 'c', 'h', 'e', 'f', 's'};

  MetaHeader header;
  std::array<char, 8> signature;
  std::uint32_t version;
  std::uint32_t reserved0;
  std::array<std::uint8_t, 16> uuid;
  std::array<char, 64> label;  // zero-terminated
  std::uint64_t size_bytes;
  std::uint64_t segment_size;
  std::uint32_t segment_count;
  std::uint32_t slots_per_segment;
  std::uint64_t first_segment;
  std::uint32_t next_device_id;  // ids are never used twice
  std::uint32_t reserved1;
  std::array<std::uint8_t, 3936> reserved;
};
static_assert(sizeof(Superblock) == kMediaPage);

// The tag that this superblock's formatting puts into each of its items: derived from the uuid.
std::uint32_t cache_tag_of(const Superblock& superblock);

enum class SuperblockCheck { ok, not_a_cache, other_version, damaged };

// Judges one copy on its own: signature, version, checksum, and that its numbers fit each other (not the device's
// size).
SuperblockCheck check_superblock(const Superblock& superblock);

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid);

}  // namespace pcache
