#include "segment/cache_dev.h"

#include <algorithm>
#include <array>

#include "base/units.h"
#include "segment/item_slots.h"
#include "segment/persist_readable.h"

namespace pcache {
namespace {

Status clear(PmemSpace& space, std::uint64_t offset, std::uint64_t length) {
  static constexpr std::array<std::byte, kMediaPage> kZeroes{};
  for (std::uint64_t done = 0; done < length; done += kMediaPage) {
    if (!space.write(offset + done, kZeroes.data(), std::min(kMediaPage, length - done))) {
      return Status(Errc::failed, space.path() + ": the cache device failed while it was formatted");
    }
  }
  return space.persist(offset, length);
}

}  // namespace

Result<Geometry> CacheDev::plan(const std::string& path, std::uint64_t size_bytes, std::uint64_t segment_size) {
  if (segment_size == 0) segment_size = default_segment_size(size_bytes);
  if (const auto geometry = compute_geometry(size_bytes, segment_size)) return *geometry;
  return Status(Errc::invalid, path + ": " + std::to_string(size_bytes) + " bytes do not hold " +
                                   std::to_string(kMinSegments) + " segments of " + std::to_string(segment_size) +
                                   " bytes; give a larger --size or a smaller --segment-size");
}

Status CacheDev::format(PmemSpace& space, const FormatParams& params) {
  const auto geometry = plan(space.path(), space.size(), params.segment_size);
  if (!geometry) return geometry.status();
  if (params.label.size() >= sizeof(Superblock::label)) {
    return Status(Errc::invalid, space.path() + ": the label is longer than 63 bytes");
  }

  if (Status status = clear(space, 0, 2 * kMediaPage); !status.ok()) return status;
  const std::uint64_t tables = geometry->first_segment - geometry->device_records;
  if (Status status = clear(space, geometry->device_records, tables); !status.ok()) return status;

  Superblock superblock{};
  superblock.signature = Superblock::kSignature;
  superblock.version = kMediaVersion;
  superblock.uuid = params.uuid;
  std::copy(params.label.begin(), params.label.end(), superblock.label.begin());
  superblock.size_bytes = geometry->size_bytes;
  superblock.segment_size = geometry->segment_size;
  superblock.segment_count = geometry->segment_count;
  superblock.slots_per_segment = geometry->slots_per_segment;
  superblock.first_segment = geometry->first_segment;
  superblock.next_device_id = 1;
  return store_dual(space, kSuperblockSlot, cache_tag_of(superblock), superblock);
}

Result<std::unique_ptr<CacheDev>> CacheDev::open(std::unique_ptr<PmemSpace> space, Access access) {
  const std::string& path = space->path();
  std::uint32_t other_version = 0;
  bool damaged = false;
  DualCopies<Superblock> copies;
  const std::array<std::uint64_t, 2> offsets{kSuperblockSlot.first, kSuperblockSlot.second};
  std::array<std::uint64_t, 2> sequences{};
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    Superblock copy;
    if (space->size() < offsets[i] + sizeof copy) continue;
    if (!space->read(offsets[i], &copy, sizeof copy)) {
      damaged = true;
      continue;
    }
    switch (check_superblock(copy)) {
      case SuperblockCheck::other_version:
        other_version = copy.version;
        break;
      case SuperblockCheck::ok:
        copies.states[i] = CopyState::good;
        sequences[i] = copy.header.sequence;
        if (!copies.item || copy.header.sequence > copies.item->header.sequence) copies.item = copy;
        break;
      case SuperblockCheck::damaged:
        damaged = true;
        break;
      case SuperblockCheck::not_a_cache:
        break;
    }
  }
  if (other_version != 0) {
    return Status(Errc::invalid, path + " has media format version " + std::to_string(other_version) +
                                     ", this pcachefs knows version " + std::to_string(kMediaVersion) + "; use " +
                                     (other_version > kMediaVersion ? "a newer" : "an older") + " pcachefs");
  }
  const std::optional<Superblock>& best = copies.item;
  if (!best) {
    if (damaged) return Status(Errc::integrity, path + ": both copies of the superblock are damaged");
    return Status(Errc::invalid, path + " is not a pcachefs cache device; make one with pcachefs format");
  }
  if (best->size_bytes > space->size()) {
    return Status(Errc::integrity, path + " was truncated: it had " + std::to_string(best->size_bytes) +
                                       " bytes when it was formatted and has " + std::to_string(space->size()) +
                                       " now");
  }
  const auto geometry = geometry_with(best->size_bytes, best->segment_size, best->first_segment);
  std::unique_ptr<CacheDev> cache_dev(new CacheDev(std::move(space), access, *best, *geometry));
  cache_dev->load_devices();
  if (access == Access::inspect) return cache_dev;
  // What a killed process stored and was read now may not be durable yet. Were one copy of an item changed before the
  // other one is, a power cut could tear both.
  if (Status status = persist_readable(*cache_dev->space_, 0, geometry->first_segment); !status.ok()) return status;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const bool older = copies.states[i] == CopyState::good && sequences[i] < best->header.sequence;
    if (older) copies.states[i] = CopyState::older;
  }
  cache_dev->repairs_ += repair_dual(*cache_dev->space_, kSuperblockSlot, copies);
  cache_dev->repair_copies();
  return cache_dev;
}

CacheDev::CacheDev(std::unique_ptr<PmemSpace> space, Access access, const Superblock& superblock,
                   const Geometry& geometry)
    : space_(std::move(space)),
      access_(access),
      geometry_(geometry),
      tag_(cache_tag_of(superblock)),
      superblock_(superblock) {}

void CacheDev::load_devices() {
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    const auto record = load_copies<DeviceRecord>(*space_, device_record_slot(geometry_, place), tag_);
    if (record.item && (record.item->device_id == 0 || is_sane(*record.item))) {
      records_[place] = *record.item;
      was_used_[place] = record.item->device_id == 0;
    } else if (!record.never_stored()) {
      unusable_[place] = true;
      ++damaged_device_records_;
    }
    const auto state = load_dual<DeviceState>(*space_, device_state_slot(geometry_, place), tag_);
    if (state) states_[place] = *state;
    state_lost_[place] =
        records_[place].device_id != 0 && (!state || state->device_id != records_[place].device_id || !is_sane(*state));
    superblock_.next_device_id = std::max(superblock_.next_device_id, records_[place].device_id + 1);
  }
  reject_doubles();
}

// Of two records with the same id or name one is not what it should be; nothing tells which.
void CacheDev::reject_doubles() {
  std::array<bool, kMaxDevices> doubles{};
  for (std::uint32_t a = 0; a < kMaxDevices; ++a) {
    for (std::uint32_t b = 0; b < a; ++b) {
      if (records_[a].device_id == 0 || records_[b].device_id == 0) continue;
      if (records_[a].device_id == records_[b].device_id || records_[a].name == records_[b].name) {
        doubles[a] = doubles[b] = true;
      }
    }
  }
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    if (!doubles[place]) continue;
    records_[place] = DeviceRecord{};
    unusable_[place] = true;
    ++damaged_device_records_;
  }
}

// Persist order: one copy of one item after the other, each the one that does not count.
void CacheDev::repair_copies() {
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    if (unusable_[place]) continue;
    const DualSlot record_slot = device_record_slot(geometry_, place);
    repairs_ += repair_dual(*space_, record_slot, load_copies<DeviceRecord>(*space_, record_slot, tag_));
    if (state_lost_[place]) continue;
    const DualSlot state_slot = device_state_slot(geometry_, place);
    repairs_ += repair_dual(*space_, state_slot, load_copies<DeviceState>(*space_, state_slot, tag_));
  }
}

bool CacheDev::any_superblock_readable() const {
  MetaHeader header;
  return space_->read(kSuperblockSlot.first, &header, sizeof header) ||
         space_->read(kSuperblockSlot.second, &header, sizeof header);
}

Result<Geometry> CacheDev::plan_size(std::uint64_t size_bytes) const {
  const std::string& path = space_->path();
  const auto planned = geometry_with(size_bytes, geometry_.segment_size, geometry_.first_segment);
  if (!planned) {
    return Status(Errc::invalid, path + ": " + std::to_string(size_bytes) + " bytes do not hold " +
                                     std::to_string(kMinSegments) + " segments of " +
                                     std::to_string(geometry_.segment_size) + " bytes");
  }
  if ((size_bytes - geometry_.first_segment) / geometry_.segment_size > growth_limit()) {
    return Status(Errc::invalid,
                  path + ": there is room in its tables, and in memory, for " + std::to_string(growth_limit()) +
                      " segments of " + std::to_string(geometry_.segment_size) + " bytes; " +
                      (growth_limit() < geometry_.segment_limit ? "mount it anew to go on from here"
                                                                : "a larger cache device has to be formatted"));
  }
  return *planned;
}

std::uint32_t CacheDev::growth_limit() const {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::uint64_t{kGrowth} * geometry_.segment_count, geometry_.segment_limit));
}

Status CacheDev::set_size(const Geometry& geometry) {
  const std::lock_guard lock(mutex_);
  Superblock superblock = superblock_;
  superblock.size_bytes = geometry.size_bytes;
  superblock.segment_count = geometry.segment_count;
  const Status status = store_dual(*space_, kSuperblockSlot, tag_, superblock);
  if (status.ok()) superblock_ = superblock;
  return status;
}

std::uint64_t CacheDev::size_bytes() const {
  const std::lock_guard lock(mutex_);
  return superblock_.size_bytes;
}

Status CacheDev::store_superblock() { return store_dual(*space_, kSuperblockSlot, tag_, superblock_); }

std::vector<CacheDev::Device> CacheDev::devices() const {
  const std::lock_guard lock(mutex_);
  std::vector<Device> devices;
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    if (records_[place].device_id != 0) devices.push_back({place, records_[place]});
  }
  return devices;
}

bool CacheDev::was_removed(std::uint32_t device_id) const {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    if (was_used_[place] && states_[place].device_id == device_id) return true;
  }
  return false;
}

Result<std::uint32_t> CacheDev::add_device(DeviceRecord& record) {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t place = 0; place < kMaxDevices; ++place) {
    if (records_[place].device_id != 0 || unusable_[place]) continue;
    if (superblock_.next_device_id >= kMaxDeviceId) {
      return Status(Errc::no_space, space_->path() + " has no device id left; format it anew");
    }
    record.device_id = superblock_.next_device_id++;
    if (Status status = store_superblock(); !status.ok()) return status;

    DeviceState& state = states_[place];
    state.device_id = record.device_id;
    state.clean_epoch = 0;
    state.closed = 0;
    if (Status status = store_dual(*space_, device_state_slot(geometry_, place), tag_, state); !status.ok())
      return status;
    state_lost_[place] = false;

    record.header.sequence = records_[place].header.sequence;
    if (Status status = store_device(place, record); !status.ok()) return status;
    was_used_[place] = false;
    return place;
  }
  return Status(Errc::no_space, space_->path() + " holds " + std::to_string(kMaxDevices) +
                                    " logical devices already; remove one or add another cache device");
}

Status CacheDev::set_settings(std::uint32_t place, const Settings& settings, std::optional<bool> detached) {
  const std::lock_guard lock(mutex_);
  DeviceRecord record = records_[place];
  store_settings(record, settings);
  if (detached) set_flag(record, DeviceRecord::kDetached, *detached);
  return store_device(place, record);
}

Status CacheDev::set_parked(std::uint32_t place, bool parked) {
  return store_flag(place, DeviceRecord::kParked, parked);
}

Status CacheDev::set_bypassed(std::uint32_t place, bool bypassed) {
  return store_flag(place, DeviceRecord::kBypassed, bypassed);
}

bool CacheDev::bypassed(std::uint32_t place) const {
  const std::lock_guard lock(mutex_);
  return is_bypassed(records_[place]);
}

Status CacheDev::store_flag(std::uint32_t place, std::uint32_t flag, bool on) {
  const std::lock_guard lock(mutex_);
  DeviceRecord record = records_[place];
  set_flag(record, flag, on);
  return store_device(place, record);
}

Status CacheDev::store_device(std::uint32_t place, DeviceRecord& record) {
  const Status status = store_dual(*space_, device_record_slot(geometry_, place), tag_, record);
  if (status.ok()) records_[place] = record;
  return status;
}

Status CacheDev::store_state(std::uint32_t place, DeviceState& state) {
  const Status status = store_dual(*space_, device_state_slot(geometry_, place), tag_, state);
  if (status.ok()) states_[place] = state;
  return status;
}

Status CacheDev::remove_device(std::uint32_t place) {
  const std::lock_guard lock(mutex_);
  DeviceRecord empty{};
  empty.header.sequence = records_[place].header.sequence;
  if (Status status = store_device(place, empty); !status.ok()) return status;
  was_used_[place] = true;
  return Status();
}

Status CacheDev::set_device_size(std::uint32_t place, std::uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  DeviceRecord record = records_[place];
  record.size_bytes = size_bytes;
  return store_device(place, record);
}

Result<std::uint64_t> CacheDev::clean_epoch(std::uint32_t place) const {
  const std::lock_guard lock(mutex_);
  if (state_lost_[place]) {
    return Status(Errc::integrity, space_->path() + ": both copies of the dirty tail of logical device " +
                                       std::string(records_[place].name.data()) + " are damaged");
  }
  return states_[place].clean_epoch;
}

Status CacheDev::set_clean_epoch(std::uint32_t place, std::uint64_t epoch) {
  const std::lock_guard lock(mutex_);
  DeviceState state = states_[place];
  state.clean_epoch = epoch;
  return store_state(place, state);
}

std::optional<CacheDev::Closed> CacheDev::closed(std::uint32_t place) const {
  const std::lock_guard lock(mutex_);
  const DeviceState& state = states_[place];
  if (state_lost_[place] || state.closed == 0) return std::nullopt;
  return Closed{state.closed_first_lsns, state.closed_next_lsns};
}

Status CacheDev::set_closed(std::uint32_t place, const std::optional<Closed>& closed) {
  const std::lock_guard lock(mutex_);
  DeviceState state = states_[place];
  state.closed = closed ? 1 : 0;
  state.closed_first_lsns = closed ? closed->first_lsns : 0;
  state.closed_next_lsns = closed ? closed->next_lsns : 0;
  return store_state(place, state);
}

}  // namespace pcache
