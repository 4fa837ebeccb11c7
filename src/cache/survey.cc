#include "cache/survey.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

#include "media/key_record.h"
#include "segment/item_slots.h"

namespace pcache {
namespace {

// Puts neighbours together: report() gets each run once.
template <typename Run>
class Runs {
 public:
  using Same = bool (*)(const Run& run, const Run& next);
  Runs(const std::function<void(const Run&)>& report, Same same) : report_(report), same_(same) {}
  ~Runs() {
    if (open_) report_(*open_);
  }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  void add(const Run& next) {
    if (open_ && open_->first_block + open_->count == next.first_block && same_(*open_, next)) {
      open_->count += next.count;
      return;
    }
    if (open_) report_(*open_);
    open_ = next;
  }

 private:
  const std::function<void(const Run&)>& report_;
  const Same same_;
  std::optional<Run> open_;
};

template <typename T>
std::optional<ItemDamage> damage_of(ItemDamage::Item item, std::uint32_t number, DualSlot slot,
                                    const DualCopies<T>& copies, bool makes_sense, bool was_stored = false) {
  if (copies.never_stored() && !was_stored) return std::nullopt;
  ItemDamage damage;
  damage.item = item;
  damage.number = number;
  damage.slot = slot;
  damage.lost = !copies.item || !makes_sense;
  for (std::size_t i = 0; i < damage.damaged.size(); ++i) {
    damage.damaged[i] = damage.lost || copies.states[i] == CopyState::damaged;
  }
  if (!damage.damaged[0] && !damage.damaged[1]) return std::nullopt;
  return damage;
}

}  // namespace

void survey_items(const CacheDev& cache_dev, const std::function<void(const ItemDamage&)>& report) {
  const PmemSpace& space = cache_dev.space();
  const Geometry& g = cache_dev.geometry();
  const std::uint32_t tag = cache_dev.tag();
  const auto superblock = load_copies<Superblock>(space, kSuperblockSlot, tag);
  if (const auto damage = damage_of(ItemDamage::Item::superblock, 0, kSuperblockSlot, superblock, true)) {
    report(*damage);
  }
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    const DualSlot slot = device_record_slot(g, place);
    const auto record = load_copies<DeviceRecord>(space, slot, tag);
    const bool usable = cache_dev.place_usable(place);
    auto damage = damage_of(ItemDamage::Item::device_record, place, slot, record, usable);
    if (damage) {
      if (record.item) damage->device_id = record.item->device_id;
      report(*damage);
    }
    // A place that was never used has no state, and one that became free again an old one.
    if (!usable || !record.item || record.item->device_id == 0) continue;
    const DualSlot state_slot = device_state_slot(g, place);
    const auto state = load_copies<DeviceState>(space, state_slot, tag);
    damage = damage_of(ItemDamage::Item::device_state, place, state_slot, state, cache_dev.clean_epoch(place).ok());
    if (damage) {
      damage->device_id = record.item->device_id;
      report(*damage);
    }
  }
  for (std::uint32_t id = 0; id < g.segment_count; ++id) {
    const DualSlot slot = segment_entry_slot(g, id);
    const auto entry = load_copies<SegmentEntry>(space, slot, tag);
    auto damage = damage_of(ItemDamage::Item::segment_entry, id, slot, entry, entry.item && is_sane(*entry.item),
                            entry.never_stored() && holds_records(cache_dev, id));
    if (!damage) continue;
    if (!damage->lost && entry.item->state == SegmentState::log) damage->device_id = entry.item->device_id;
    damage->never_used = !entry.item && was_never_used(cache_dev, id);
    report(*damage);
  }
}

void survey_cells(Cache& cache, CachedDevice& device, const std::function<void(const BlockDamage&)>& report) {
  const Geometry& g = cache.cache_dev().geometry();
  Runs<BlockDamage> runs(report, [](const BlockDamage& run, const BlockDamage& next) { return run.kind == next.kind; });
  device.visit_blocks([&](std::uint64_t block, const CachedDevice::BlockState& state) {
    const std::uint64_t offset = g.cell_offset(state.slot / g.slots_per_segment, state.slot % g.slots_per_segment);
    if (state.kind == CachedDevice::BlockState::Kind::lost) {
      runs.add({BlockDamage::Kind::lost, block, 1, offset});
      return;
    }
    std::array<std::byte, kBlockSize> cell;
    if (device.read_cell(state.slot, state.crc, cell.data())) return;
    runs.add({state.dirty ? BlockDamage::Kind::dirty_cell : BlockDamage::Kind::clean_cell, block, 1, offset});
  });
}

void survey_hidden(const CacheDev& cache_dev, SegmentId segment,
                   const std::function<void(const HiddenBlocks&)>& report) {
  const Geometry& g = cache_dev.geometry();
  const auto each_record = [&](const std::function<void(const KeyRecord&)>& visit) {
    for (std::uint32_t slot = 0; slot < g.slots_per_segment; ++slot) {
      KeyRecord record;
      if (!cache_dev.space().read(g.record_offset(segment, slot), &record, sizeof record)) continue;
      if (record.crc != record_crc(record) || record.cache_tag != cache_dev.tag()) continue;
      if (record.type < RecordType::write || record.type >= RecordType::filler) continue;
      if (record.block >= kMaxDeviceBytes / kBlockSize || record.count > kMaxDeviceBytes / kBlockSize) continue;
      visit(record);
    }
  };
  std::uint64_t generation = 0;
  each_record([&](const KeyRecord& record) { generation = std::max(generation, record.generation); });
  Runs<HiddenBlocks> runs(report, [](const HiddenBlocks& run, const HiddenBlocks& next) {
    return run.device_id == next.device_id && run.epoch == next.epoch;
  });
  each_record([&](const KeyRecord& record) {
    if (record.generation == generation) runs.add({record.device_id, record.epoch, record.block, record.count});
  });
}

CachedDevice::BlockState CachedDevice::block_state(std::uint64_t block) {
  using Kind = BlockState::Kind;
  Stream& stream = stream_of(block);
  const std::lock_guard lock(stream.lock);
  const SlotId slot = stream.index.find(block);
  if (slot == kNoSlot) return {stream.zeros.contains(block) ? Kind::zero : Kind::absent};
  const SlotKey key = cache_.slots().key(slot);
  return {key.type == SlotType::lost ? Kind::lost : Kind::cell, key.dirty, slot, cache_.slots().value(slot)};
}

void CachedDevice::visit_blocks(const std::function<void(std::uint64_t block, const BlockState& state)>& visit) {
  for (const auto& stream : streams_) {
    for (const StreamLog::Segment& segment : stream->log.segments()) {
      const std::uint64_t stop = std::min(stream->log.end_lsn(segment), stream->log.next_lsn());
      for (std::uint64_t lsn = segment.first_lsn; lsn < stop; ++lsn) {
        const SlotKey key = cache_.slots().key(stream->log.slot_of(lsn));
        if (key.linked) visit(key.block, block_state(key.block));
      }
    }
  }
}

std::uint64_t CachedDevice::record_offset(const LogDamage& damage) const {
  if (!damage.stream || *damage.stream >= streams_.size()) return 0;
  const StreamLog& log = streams_[*damage.stream]->log;
  for (const StreamLog::Segment& segment : log.segments()) {
    if (damage.first_lsn < segment.first_lsn || damage.first_lsn >= log.end_lsn(segment)) continue;
    return cache_.cache_dev().geometry().record_offset(
        segment.id, static_cast<std::uint32_t>(damage.first_lsn - segment.first_lsn));
  }
  return 0;
}

void CachedDevice::visit_likely_blocks(const LogDamage& damage,
                                       const std::function<void(std::uint64_t block, std::uint64_t count)>& visit) {
  const Geometry& g = cache_.cache_dev().geometry();
  for (std::uint32_t i = 0; i < streams_.size(); ++i) {
    if (damage.stream.value_or(i) != i) continue;
    const StreamLog& log = streams_[i]->log;
    for (const StreamLog::Segment& segment : log.segments()) {
      // Without a stream: what lies behind the ends of the logs.
      const std::uint64_t begin = std::max(segment.first_lsn, damage.stream ? damage.first_lsn : log.next_lsn());
      const std::uint64_t end =
          damage.stream ? std::min(log.end_lsn(segment), damage.first_lsn + damage.count) : log.end_lsn(segment);
      for (std::uint64_t lsn = begin; lsn < end; ++lsn) {
        KeyRecord record;
        const std::uint64_t offset = g.record_offset(segment.id, static_cast<std::uint32_t>(lsn - segment.first_lsn));
        if (!cache_.cache_dev().space().read(offset, &record, sizeof record)) continue;
        const bool in_place = record.cache_tag == cache_.cache_dev().tag() && record.lsn == lsn &&
                              record.generation == segment.generation && record.device_id == device_id_ &&
                              record.stream == i;
        // One with a right checksum is damaged in that it does not belong to this stream.
        if (!in_place || record.block >= blocks()) continue;
        if (stream_number(record.block) != i && record.crc != record_crc(record)) continue;
        const bool is_range = record.type == RecordType::zero || record.type == RecordType::gone;
        const std::uint64_t count = is_range ? record.count : 1;
        visit(record.block, std::clamp<std::uint64_t>(count, 1, blocks() - record.block));
      }
    }
  }
}

}  // namespace pcache
