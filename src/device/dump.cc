// Telling what a cache device that is not mounted holds, item by item.

#include <algorithm>
#include <cstring>

#include "base/no_throw.h"
#include "device/open_to_inspect.h"
#include "media/key_record.h"
#include "media/segment_entry.h"
#include "pcache/inspect.h"
#include "segment/item_slots.h"
#include "segment/segment_pool.h"

namespace pcache {
namespace {

std::string word(CopyState state) {
  switch (state) {
    case CopyState::good:
      return "good";
    case CopyState::older:
      return "older";
    case CopyState::blank:
      return "blank";
    case CopyState::damaged:
      break;
  }
  return "damaged";
}

CopyWords words(const std::array<CopyState, 2>& states) { return {word(states[0]), word(states[1])}; }

std::string word(RecordType type) {
  switch (type) {
    case RecordType::write:
      return "write";
    case RecordType::clean:
      return "clean";
    case RecordType::zero:
      return "zero";
    case RecordType::lost:
      return "lost";
    case RecordType::filler:
      return "filler";
    case RecordType::gone:
      return "gone";
    case RecordType::none:
      break;
  }
  return "unknown";
}

bool all_blank(const std::array<CopyState, 2>& states) {
  return states[0] == CopyState::blank && states[1] == CopyState::blank;
}

// A text of a record that may not end.
template <std::size_t N>
std::string text(const std::array<char, N>& from) {
  return std::string(from.data(), strnlen(from.data(), N));
}

DumpedSuperblock superblock_of(const CacheDev& dev) {
  const auto copies = load_copies<Superblock>(dev.space(), kSuperblockSlot, dev.tag());
  DumpedSuperblock dumped;
  dumped.path = dev.space().path();
  dumped.copies = words(copies.states);
  if (!copies.item) return dumped;  // the medium failed since it was opened
  const Superblock& superblock = *copies.item;
  dumped.sequence = superblock.header.sequence;
  dumped.version = superblock.version;
  dumped.cache_tag = superblock.header.cache_tag;
  dumped.uuid = uuid_text(superblock.uuid);
  dumped.label = text(superblock.label);
  dumped.size_bytes = superblock.size_bytes;
  dumped.segment_size_bytes = superblock.segment_size;
  dumped.segments = superblock.segment_count;
  dumped.slots_per_segment = superblock.slots_per_segment;
  dumped.first_segment = superblock.first_segment;
  dumped.next_device_id = superblock.next_device_id;
  return dumped;
}

void dump_devices(const CacheDev& dev, const DumpVisitor& visitor) {
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    const auto record = load_copies<DeviceRecord>(dev.space(), device_record_slot(dev.geometry(), place), dev.tag());
    if (all_blank(record.states)) continue;
    const auto state = load_copies<DeviceState>(dev.space(), device_state_slot(dev.geometry(), place), dev.tag());
    DumpedDevice dumped;
    dumped.place = place;
    dumped.copies = words(record.states);
    dumped.state_copies = words(state.states);
    dumped.usable = record.item && dev.place_usable(place);
    if (record.item) {
      dumped.sequence = record.item->header.sequence;
      dumped.device_id = record.item->device_id;
      dumped.streams = record.item->streams;
      dumped.size_bytes = record.item->size_bytes;
      dumped.name = text(record.item->name);
      dumped.backing_id = text(record.item->backing_id);
      dumped.backing_path = text(record.item->backing_path);
    }
    if (const auto epoch = dev.clean_epoch(place); epoch && dumped.device_id != 0) {
      dumped.clean_epoch = *epoch;
      if (const auto closed = dev.closed(place)) dumped.closed_lsns = closed->next_lsns;
    }
    visitor.device(dumped);
  }
}

DumpedSegment segment_of(const CacheDev& dev, SegmentId id, const DualCopies<SegmentEntry>& entry) {
  DumpedSegment dumped;
  dumped.segment = id;
  dumped.offset = dev.geometry().segment_offset(id);
  dumped.copies = words(entry.states);
  dumped.usable = entry.item && is_sane(*entry.item);
  if (!entry.item) return dumped;
  dumped.sequence = entry.item->header.sequence;
  dumped.in_use = entry.item->state == SegmentState::log;
  dumped.generation = entry.item->generation;
  dumped.chain = entry.item->chain;
  dumped.first_lsn = entry.item->first_lsn;
  dumped.device_id = entry.item->device_id;
  dumped.stream = entry.item->stream;
  return dumped;
}

void dump_records(const CacheDev& dev, const DumpedSegment& segment, const DumpVisitor& visitor) {
  const Geometry& g = dev.geometry();
  for (std::uint32_t slot = 0; slot < g.slots_per_segment; ++slot) {
    KeyRecord record{};
    const std::uint64_t offset = g.record_offset(segment.segment, slot);
    const bool readable = dev.space().read(offset, &record, sizeof record);
    if (readable && is_blank<KeyRecord>(dev.space(), offset)) continue;
    const bool right = readable && is_intact(record);
    // Of an earlier life of the segment, or of an earlier formatting.
    if (right && (record.cache_tag != dev.tag() || record.generation != segment.generation)) continue;
    DumpedRecord dumped;
    dumped.segment = segment.segment;
    dumped.slot = slot;
    dumped.offset = offset;
    dumped.valid = right && record.lsn == segment.first_lsn + slot && record.device_id == segment.device_id &&
                   record.stream == segment.stream;
    dumped.lsn = record.lsn;
    dumped.generation = record.generation;
    dumped.type = is_void(record) ? "void" : word(record.type);
    dumped.block = record.block;
    dumped.count = record.count;
    dumped.epoch = record.epoch;
    dumped.device_id = record.device_id;
    dumped.stream = record.stream;
    dumped.payload_crc = record.payload_crc;
    dumped.batch_pos = record.batch_pos;
    visitor.record(dumped);
  }
}

Status dump(const std::string& path, const DumpVisitor& visitor) {
  const auto opened = open_to_inspect(path);
  if (!opened) return opened.status();
  const CacheDev& dev = **opened;
  const auto each_segment = [&](const auto& visit) {
    for (SegmentId id = 0; id < dev.geometry().segment_count; ++id) {
      const auto entry = load_copies<SegmentEntry>(dev.space(), segment_entry_slot(dev.geometry(), id), dev.tag());
      if (!all_blank(entry.states)) visit(segment_of(dev, id, entry));
    }
  };
  visitor.superblock(superblock_of(dev));
  dump_devices(dev, visitor);
  each_segment([&](const DumpedSegment& segment) { visitor.segment(segment); });
  each_segment([&](const DumpedSegment& segment) {
    if (segment.usable && segment.in_use) dump_records(dev, segment, visitor);
  });
  return Status();
}

}  // namespace

Status dump_cache_dev(const std::string& path, const DumpVisitor& visitor) {
  return no_throw("cannot dump " + path, [&] { return dump(path, visitor); });
}

}  // namespace pcache
