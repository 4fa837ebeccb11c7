#include "device/damage_teller.h"

#include <algorithm>
#include <string>

#include "base/units.h"

namespace pcache {
namespace {

const DeviceRecord* find_record(const std::vector<CacheDev::Device>& devices, std::uint32_t device_id) {
  for (const CacheDev::Device& device : devices) {
    if (device.record.device_id == device_id) return &device.record;
  }
  return nullptr;
}

std::string name_of(const std::vector<CacheDev::Device>& devices, std::uint32_t device_id) {
  const DeviceRecord* const record = find_record(devices, device_id);
  return record == nullptr ? "" : record->name.data();
}

}  // namespace

ByteRange range_of(std::uint64_t first_block, std::uint64_t count, std::uint64_t size_bytes) {
  const std::uint64_t begin = std::min(first_block * kBlockSize, size_bytes);
  return {begin, std::min(count * kBlockSize, size_bytes - begin)};
}

void DamageTeller::check_items(const CacheDev& cache_dev) {
  survey_items(cache_dev, [&](const ItemDamage& item) { tell_item(cache_dev, item); });
}

void DamageTeller::tell_item(const CacheDev& cache_dev, const ItemDamage& item) {
  Damage damage;
  damage.logic_dev = name_of(devices_, item.device_id);
  damage.cache_offset = item.damaged[0] ? item.slot.first : item.slot.second;
  damage.harmless = !item.lost || item.never_used;
  damage.dirty = !damage.harmless;
  std::string what;
  std::string effect;
  switch (item.item) {
    case ItemDamage::Item::superblock:
      damage.kind = DamageKind::superblock;
      what = "the superblock";
      break;
    case ItemDamage::Item::device_record:
      damage.kind = DamageKind::device_record;
      what = "the device record of place " + std::to_string(item.number);
      effect = "a logical device may be missing, with all its dirty data";
      break;
    case ItemDamage::Item::device_state:
      damage.kind = DamageKind::device_state;
      what = "the device state of place " + std::to_string(item.number);
      effect = "what of the logical device is dirty is not known";
      break;
    case ItemDamage::Item::segment_entry:
      damage.kind = DamageKind::segment_entry;
      what = "the table's entry of segment " + std::to_string(item.number);
      effect = item.never_used ? "nothing was ever stored in the segment"
                               : "dirty data of any logical device may be missing";
      break;
  }
  if (item.lost) {
    damage.detail = what + " is damaged in both copies: " + effect;
  } else {
    damage.detail = std::string(item.damaged[0] ? "the first" : "the second") + " copy of " + what +
                    " is damaged; the other one is right";
  }
  tell(damage);
  if (item.lost && item.item == ItemDamage::Item::segment_entry) tell_hidden(cache_dev, item);
}

// What the segment's own records say of it.
void DamageTeller::tell_hidden(const CacheDev& cache_dev, const ItemDamage& item) {
  survey_hidden(cache_dev, item.number, [&](const HiddenBlocks& hidden) {
    const DeviceRecord* const record = find_record(devices_, hidden.device_id);
    if (record == nullptr) return;
    std::uint64_t clean = 0;
    for (const CacheDev::Device& device : devices_) {
      const auto epoch = cache_dev.clean_epoch(device.place);
      if (device.record.device_id == hidden.device_id && epoch) clean = *epoch;
    }
    Damage damage;
    damage.kind = DamageKind::segment_entry;
    damage.logic_dev = record->name.data();
    damage.cache_offset = cache_dev.geometry().segment_offset(item.number);
    damage.range = range_of(hidden.first_block, hidden.count, record->size_bytes);
    damage.certain = false;
    damage.dirty = hidden.epoch > clean;
    damage.detail = "segment " + std::to_string(item.number) + ", whose entry is damaged, has data of it";
    tell(damage);
  });
}

void DamageTeller::check_segments(const CacheDev& cache_dev) {
  survey_items(cache_dev, [&](const ItemDamage& item) {
    if (item.lost && item.item == ItemDamage::Item::segment_entry) tell_item(cache_dev, item);
  });
}

void DamageTeller::check_log(CachedDevice& device) {
  for (const CachedDevice::LogDamage& log : device.log_damage()) tell_log(device, log);
}

void DamageTeller::check_cells(Cache& cache, CachedDevice& device) {
  survey_cells(cache, device, [&](const BlockDamage& blocks) {
    Damage damage;
    damage.logic_dev = device.name();
    damage.cache_offset = blocks.cache_offset;
    damage.range = range_of(blocks.first_block, blocks.count, device.size_bytes());
    switch (blocks.kind) {
      case BlockDamage::Kind::clean_cell:
        damage.kind = DamageKind::clean_data;
        damage.harmless = true;
        damage.detail = "cached data is damaged; the backing device has it too";
        break;
      case BlockDamage::Kind::dirty_cell:
        damage.kind = DamageKind::dirty_data;
        damage.dirty = true;
        damage.detail = "dirty data is damaged, and nothing else has it";
        break;
      case BlockDamage::Kind::lost:
        damage.kind = DamageKind::lost_data;
        damage.dirty = true;
        damage.detail = "dirty data was found damaged before, and is lost until it is written again";
        break;
    }
    tell(damage);
  });
}

void DamageTeller::tell_log(CachedDevice& device, const CachedDevice::LogDamage& log) {
  Damage damage;
  damage.kind = DamageKind::key_record;
  damage.logic_dev = device.name();
  damage.cache_offset = device.record_offset(log);
  damage.dirty = log.may_be_dirty;
  damage.harmless = !log.may_be_dirty;
  damage.certain = false;
  const std::string where =
      log.stream ? " of stream " + std::to_string(*log.stream) : std::string(" at the ends of the logs");
  damage.detail = std::to_string(log.count) + (log.count == 1 ? " key record" : " key records") + where +
                  (log.count == 1 ? " is" : " are") + " damaged or missing: " +
                  (log.may_be_dirty ? "dirty data may be lost, or older than it should be"
                                    : "older clean data is read from the backing device");
  std::uint64_t likely = 0;
  std::uint64_t first_block = 0;
  std::uint64_t blocks = 0;
  const auto tell_run = [&] {
    if (blocks == 0) return;
    damage.range = range_of(first_block, blocks, device.size_bytes());
    tell(damage);
  };
  device.visit_likely_blocks(log, [&](std::uint64_t block, std::uint64_t count) {
    ++likely;
    if (blocks != 0 && first_block + blocks == block) {
      blocks += count;
      return;
    }
    tell_run();
    first_block = block;
    blocks = count;
  });
  tell_run();
  if (likely >= log.count) return;
  damage.range.reset();
  if (likely != 0) damage.detail += "; of " + std::to_string(log.count - likely) + " it is not known which blocks";
  tell(damage);
}

const char* to_string(DamageKind kind) {
  switch (kind) {
    case DamageKind::superblock:
      return "superblock";
    case DamageKind::device_record:
      return "device_record";
    case DamageKind::device_state:
      return "device_state";
    case DamageKind::segment_entry:
      return "segment_entry";
    case DamageKind::key_record:
      return "key_record";
    case DamageKind::clean_data:
      return "clean_data";
    case DamageKind::dirty_data:
      return "dirty_data";
    case DamageKind::lost_data:
      return "lost_data";
    case DamageKind::backing:
      break;
  }
  return "backing";
}

}  // namespace pcache
