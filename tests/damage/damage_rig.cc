#include "tests/damage/damage_rig.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/units.h"
#include "media/segment_entry.h"
#include "tests/support/engine_rig.h"

namespace pcache {
namespace {

constexpr std::array<std::uint8_t, 16> kUuid = {4, 4, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr std::uint64_t kSegmentBytes = 256 * kKiB;
constexpr std::uint64_t kSectors = kBlockSize / 512;  // of a block

// The image as a medium: what is stored is durable, and can be taken back.
class ImageSpace final : public PmemSpace {
 public:
  ImageSpace(UndoImage& image, Granularity granularity) : image_(image), granularity_(granularity) {}

  std::size_t size() const override { return image_.size(); }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return image_.data(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override {
    check(offset, length);
    image_.store(offset, source, length);
    return true;
  }
  void drain() override {}
  Status persist(std::size_t offset, std::size_t length) override {
    check(offset, length);
    return Status();
  }
  void prefault(std::size_t, std::size_t) override {}
  bool read(std::size_t offset, void* destination, std::size_t length) const override {
    check(offset, length);
    std::memcpy(destination, image_.data() + offset, length);
    return true;
  }

 private:
  void check(std::size_t offset, std::size_t length) const {
    if (offset > size() || length > size() - offset) std::abort();  // the engine left the medium
  }

  UndoImage& image_;
  const Granularity granularity_;
  const std::string path_ = "damaged";
};

void must(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "damage rig: %s\n", what.c_str());
  std::abort();
}

std::uint64_t below(std::mt19937_64& random, std::uint64_t limit) { return random() % limit; }

std::uint64_t value_at(const std::byte* sector) {
  std::uint64_t value = 0;
  std::memcpy(&value, sector, sizeof value);
  return value;
}

bool has_payload(const KeyRecord& record) {
  return record.type == RecordType::write || record.type == RecordType::clean;
}

std::vector<std::byte> noise(std::mt19937_64& random, std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

}  // namespace

void UndoImage::store(std::size_t offset, const void* source, std::size_t length) {
  if (marked_) saved_.push_back({offset, {bytes_.data() + offset, bytes_.data() + offset + length}});
  std::memcpy(bytes_.data() + offset, source, length);
}

void UndoImage::roll_back() {
  for (auto saved = saved_.rbegin(); saved != saved_.rend(); ++saved) {
    std::memcpy(bytes_.data() + saved->offset, saved->content.data(), saved->content.size());
  }
  saved_.clear();
  marked_ = false;
}

std::string DamageShape::name() const {
  return std::string(to_string(granularity)) + (ending == Ending::closed ? "_closed" : "_killed") +
         (windows > 1 ? "_streams" : "");
}

void PrintTo(const DamageShape& shape, std::ostream* out) { *out << shape.name(); }

DamageRig::DamageRig(const DamageShape& shape, std::uint64_t seed)
    : shape_(shape),
      device_bytes_(((shape.windows - 1) * kWindowBlocks + kHotBlocks / shape.windows) * kBlockSize - 512),
      image_(shape.windows > 1 ? 10 * kMiB : 4 * kMiB),
      backing_(std::make_shared<BackingImage>(device_bytes_)),
      latest_(kHotBlocks * kSectors) {
  std::mt19937_64 random(seed);
  {
    ImageSpace space(image_, shape_.granularity);
    must(CacheDev::format(space, {kUuid, "damage", kSegmentBytes}).ok(), "it cannot be formatted");
  }
  make_history(random);
  before_.assign(image_.data(), image_.data() + image_.size());
  backing_before_ = *backing_;
  read_log();
  bool forgotten = false;
  must(expected(forgotten, false) == latest_ && !forgotten,
       "the log does not say what was written, seed " + std::to_string(seed) + " of " + shape_.name());
}

std::uint64_t DamageRig::block_of(std::uint64_t hot) const {
  const std::uint64_t per_window = kHotBlocks / shape_.windows;
  return hot / per_window * kWindowBlocks + hot % per_window;
}

std::optional<std::uint64_t> DamageRig::hot_of(std::uint64_t block) const {
  const std::uint64_t per_window = kHotBlocks / shape_.windows;
  if (block % kWindowBlocks >= per_window) return std::nullopt;
  return block / kWindowBlocks * per_window + block % kWindowBlocks;
}

std::size_t DamageRig::bytes_of(std::uint64_t hot) const {
  return std::min<std::size_t>(kBlockSize, device_bytes_ - block_of(hot) * kBlockSize);
}

std::vector<std::byte> DamageRig::new_content(std::uint64_t length) {
  std::vector<std::byte> content(length);
  for (std::uint64_t at = 0; at < length; at += 512) {
    const std::uint64_t value = next_value_++ * 0x9e3779b97f4a7c15;  // never 0, which is what discards leave
    for (std::uint64_t word = 0; word < 512; word += sizeof value) {
      std::memcpy(&content[at + word], &value, sizeof value);
    }
  }
  return content;
}

DamageRig::Engine DamageRig::open(bool add) {
  Engine engine;
  auto cache_dev = CacheDev::open(std::make_unique<ImageSpace>(image_, shape_.granularity));
  if (!cache_dev) return {nullptr, nullptr, cache_dev.status().message()};
  auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
  if (!cache) return {nullptr, nullptr, cache.status().message()};
  engine.cache = std::move(*cache);
  const auto held = engine.cache->cache_dev().devices();
  if (held.empty() && !add) return {std::move(engine.cache), nullptr, "there is no logical device"};
  auto backing = std::make_unique<FakeBackingDev>(backing_);
  // A device manager looks at the size before it attaches.
  if (!held.empty() && held.front().record.size_bytes != device_bytes_) {
    return {std::move(engine.cache), nullptr, "the size of the logical device is another"};
  }
  auto device = held.empty() ? engine.cache->add("dev", std::move(backing))
                             : engine.cache->attach(held.front(), std::move(backing));
  if (!device) return {std::move(engine.cache), nullptr, device.status().message()};
  engine.device = std::move(*device);
  return engine;
}

// --- History

void DamageRig::make_history(std::mt19937_64& random) {
  const std::uint64_t per_window = kHotBlocks / shape_.windows;
  for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
    const auto content = new_content(bytes_of(hot));
    std::copy(content.begin(), content.end(),
              backing_->current.begin() + static_cast<std::ptrdiff_t>(block_of(hot) * kBlockSize));
    for (std::size_t at = 0; at < content.size(); at += 512)
      latest_[hot * kSectors + at / 512] = value_at(&content[at]);
  }
  backing_->durable = backing_->current;
  Engine engine = open(true);
  must(engine.device != nullptr, engine.error);
  const auto change = [&](std::uint64_t first_sector, const std::vector<std::byte>& content) {
    for (std::size_t at = 0; at < content.size(); at += 512) {
      latest_[first_sector + at / 512] = value_at(&content[at]);
    }
  };
  const std::uint64_t steps = 20 + below(random, 120);
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (int i = 0; i < 50 && engine.cache->pool().free_count() < engine.cache->reserve() + 2; ++i) {
      engine.device->drain(0);
      engine.cache->reclaim_step();
    }
    // A run of sectors inside the hot blocks of one window.
    const std::uint64_t window = below(random, shape_.windows);
    const std::uint64_t unit = below(random, 3) == 0 ? 1 : kSectors;
    const std::uint64_t end = (window + 1 == shape_.windows ? device_bytes_ / 512 : ~std::uint64_t{0}) / unit;
    const std::uint64_t window_first = window * kWindowBlocks * kSectors / unit;
    const std::uint64_t window_end = std::min(end, window_first + per_window * kSectors / unit);
    const std::uint64_t first = window_first + below(random, window_end - window_first);
    const std::uint64_t count = std::min(window_end - first, 1 + below(random, 20));
    const std::uint64_t hot_sector = *hot_of(first * unit / kSectors) * kSectors + first * unit % kSectors;
    Outcome outcome;
    switch (below(random, 16)) {
      case 0:
        change(hot_sector, std::vector<std::byte>(count * unit * 512));
        engine.device->discard(first * unit * 512, count * unit * 512, outcome.completion());
        must(outcome.error == 0, "a discard failed");
        break;
      case 1:
        engine.device->flush(outcome.completion());
        must(outcome.error == 0, "a flush failed");
        break;
      case 2:
        must(engine.cache->commit({engine.device.get()}).ok(), "a commit failed");
        engine.device->writeback_step();
        break;
      case 3:
        for (const auto& victim : engine.device->victims()) {
          if (victim.clean) engine.device->reclaim_front(victim.stream);
        }
        break;
      case 4: {
        std::vector<std::byte> buffer(count * unit * 512);
        engine.device->read(first * unit * 512, buffer, outcome.completion());
        must(outcome.error == 0, "a read failed");
        break;
      }
      case 5:
        if (below(random, 3) == 0) {
          engine.device.reset();
          engine.cache.reset();
          engine = open(false);
          must(engine.device != nullptr && !engine.device->failed(), "it does not open again");
        }
        break;
      default: {
        const auto content = new_content(count * unit * 512);
        change(hot_sector, content);
        engine.device->write(first * unit * 512, content, outcome.completion());
        must(outcome.error == 0, "a write failed");
      }
    }
  }
  if (shape_.ending == Ending::closed) return;
  // Killed: what the end of the engine writes is taken back.
  image_.mark();
  const BackingImage backing(*backing_);
  engine.device.reset();
  engine.cache.reset();
  image_.roll_back();
  *backing_ = backing;
}

// The log as it is on the medium, without the engine's help.
void DamageRig::read_log() {
  auto opened = CacheDev::open(std::make_unique<ImageSpace>(image_, shape_.granularity), CacheDev::Access::inspect);
  must(opened.ok(), "it does not open");
  CacheDev& cache_dev = **opened;
  geometry_ = cache_dev.geometry();
  tag_ = cache_dev.tag();
  const auto device = cache_dev.devices().front();
  clean_epoch_ = *cache_dev.clean_epoch(device.place);
  logs_.assign(device.record.streams, {});
  auto segments = SegmentPool(cache_dev).in_use();
  std::sort(segments.begin(), segments.end(),
            [](const auto& a, const auto& b) { return a.entry.chain < b.entry.chain; });
  std::vector<std::uint32_t> heads(logs_.size());
  for (const auto& [id, entry] : segments) {
    heads[entry.stream] = id;
    for (std::uint32_t slot = 0; slot < geometry_.slots_per_segment; ++slot) {
      Logged logged;
      logged.record_offset = geometry_.record_offset(id, slot);
      logged.cell_offset = geometry_.cell_offset(id, slot);
      logged.segment = id;
      std::memcpy(&logged.record, image_.data() + logged.record_offset, sizeof logged.record);
      if (logged.record.crc != record_crc(logged.record) || logged.record.lsn != entry.first_lsn + slot ||
          logged.record.generation != entry.generation) {
        continue;
      }
      Log& log = logs_[entry.stream];
      must(log.empty() || log.back().record.lsn + 1 == logged.record.lsn, "the log has a hole without damage");
      log.push_back(logged);
    }
  }
  for (std::size_t i = 0; i < logs_.size(); ++i) {
    for (Logged& logged : logs_[i]) logged.in_head = logged.segment == heads[i];
  }
}

// --- Damage

std::vector<std::byte> DamageRig::bytes_at(std::uint64_t offset, std::size_t length) const {
  return {image_.data() + offset, image_.data() + offset + length};
}

void DamageRig::store(std::uint64_t offset, const std::vector<std::byte>& bytes) {
  image_.store(offset, bytes.data(), std::min<std::size_t>(bytes.size(), image_.size() - offset));
}

const DamageRig::Logged* DamageRig::some_record(std::mt19937_64& random) const {
  const Log& log = logs_[below(random, logs_.size())];
  if (log.empty()) return nullptr;
  // The ends of logs are where damage and crashes are hardest to tell apart.
  const std::size_t tail = std::min<std::size_t>(log.size(), 12);
  return below(random, 2) == 0 ? &log[below(random, log.size())] : &log[log.size() - 1 - below(random, tail)];
}

// Mostly where something is.
std::uint64_t DamageRig::some_offset(std::mt19937_64& random) const {
  const std::uint64_t table = geometry_.segment_count * kRecordSize;
  switch (below(random, 10)) {
    case 0:
      return below(random, image_.size());
    case 1:
      return below(random, 2 * kMediaPage);
    case 2:
      return (below(random, 2) == 0 ? geometry_.device_records : geometry_.device_records_copy) +
             below(random, kMediaPage);
    case 3:
      return (below(random, 2) == 0 ? geometry_.device_states : geometry_.device_states_copy) +
             below(random, kRecordSize);
    case 4:
      return (below(random, 2) == 0 ? geometry_.segment_table : geometry_.segment_table_copy) + below(random, table);
    case 5:
    case 6:
      if (const Logged* logged = some_record(random)) return logged->cell_offset + below(random, kCellSize);
      return 0;
    default:
      if (const Logged* logged = some_record(random)) return logged->record_offset + below(random, kRecordSize);
      return 0;
  }
}

std::string DamageRig::damage_once(std::mt19937_64& random) {
  const std::uint64_t at = some_offset(random);
  const std::uint64_t line = align_down(at, kRecordSize);
  const auto named = [](const char* what, std::uint64_t offset) {
    char text[64];
    std::snprintf(text, sizeof text, "%s at 0x%llx; ", what, static_cast<unsigned long long>(offset));
    return std::string(text);
  };
  switch (below(random, 10)) {
    case 0:
    case 1: {
      auto byte = bytes_at(at, 1);
      byte[0] ^= static_cast<std::byte>(1U << below(random, 8));
      store(at, byte);
      return named("a bit flipped", at);
    }
    case 2:
      store(align_down(at, 8), below(random, 2) == 0 ? std::vector<std::byte>(8) : noise(random, 8));
      return named("a word torn", align_down(at, 8));
    case 3:
      store(line, std::vector<std::byte>(kRecordSize));
      return named("a line zeroed", line);
    case 4: {
      const std::uint64_t from = align_down(some_offset(random), kRecordSize);
      store(line, bytes_at(from, kRecordSize));
      return named("a line copied from", from) + named("over the one", line);
    }
    case 5: {
      const std::uint64_t other = align_down(some_offset(random), kRecordSize);
      const auto kept = bytes_at(line, kRecordSize);
      store(line, bytes_at(other, kRecordSize));
      store(other, kept);
      return named("lines swapped, one", line) + named("one", other);
    }
    case 6: {
      // A record or a cell where another one belongs.
      const Logged* from = some_record(random);
      const Logged* to = some_record(random);
      if (from == nullptr || to == nullptr) return "";
      if (below(random, 2) == 0) {
        store(to->cell_offset, bytes_at(from->cell_offset, kCellSize));
        return named("a cell copied over the one", to->cell_offset);
      }
      const std::uint64_t offset = to->record_offset + below(random, 3) * kRecordSize;
      store(offset, bytes_at(from->record_offset, kRecordSize));
      return named("a record copied from", from->record_offset) + named("over the one", offset);
    }
    case 7: {
      const std::size_t length = 64 * (1 + below(random, below(random, 4) == 0 ? 256 : 8));
      store(at, below(random, 2) == 0 ? std::vector<std::byte>(length) : noise(random, length));
      return named(("a run of " + std::to_string(length) + " bytes").c_str(), at);
    }
    case 8: {
      // Both copies of an item, in the same way.
      const bool zero = below(random, 2) == 0;
      const std::uint64_t entry = below(random, geometry_.segment_count) * kRecordSize;
      std::array<std::uint64_t, 2> copies{};
      std::size_t length = kRecordSize;
      switch (below(random, 4)) {
        case 0:
          copies = {0, kMediaPage};
          length = kMediaPage;
          break;
        case 1:
          copies = {geometry_.device_records, geometry_.device_records_copy};
          length = kMediaPage;
          break;
        case 2:
          copies = {geometry_.device_states, geometry_.device_states_copy};
          break;
        default:
          copies = {geometry_.segment_table + entry, geometry_.segment_table_copy + entry};
      }
      const auto bytes = zero ? std::vector<std::byte>(length) : noise(random, length);
      for (const std::uint64_t copy : copies) store(copy, bytes);
      return named(zero ? "both copies zeroed of the item" : "both copies damaged of the item", copies[0]);
    }
    default: {
      // An item, or one copy of it, at another's place.
      const std::uint64_t from = below(random, geometry_.segment_count) * kRecordSize;
      const std::uint64_t to = below(random, geometry_.segment_count) * kRecordSize;
      const bool both = below(random, 2) == 0;
      const std::uint64_t first = below(random, 2) == 0 ? geometry_.segment_table : geometry_.segment_table_copy;
      const auto bytes = bytes_at(first + from, kRecordSize);
      if (both || first == geometry_.segment_table) store(geometry_.segment_table + to, bytes);
      if (both || first != geometry_.segment_table) store(geometry_.segment_table_copy + to, bytes);
      return named("a segment entry copied from", first + from) + named(both ? "to both copies" : "to", first + to);
    }
  }
}

// Changes a field of some item and makes the checksum right again: somebody who does that can make any data pass for
// right, but not the engine do what it must not.
std::string DamageRig::forge(std::mt19937_64& random) {
  const auto change = [&](auto& item, std::size_t skip) {
    auto* bytes = reinterpret_cast<std::byte*>(&item);
    const std::size_t field = align_down(skip + below(random, sizeof item - skip), 4);
    std::uint32_t value = 0;
    std::memcpy(&value, bytes + field, sizeof value);
    const std::array<std::uint32_t, 8> values = {
        0, 1, value + 1, value - 1, 0xffffffff, 0x3fffffff, 0x80000000, static_cast<std::uint32_t>(random())};
    value = values[below(random, values.size())];
    std::memcpy(bytes + field, &value, sizeof value);
  };
  const auto forge_dual = [&]<typename T>(std::uint64_t first, std::uint64_t second) {
    T item;
    std::memcpy(&item, image_.data() + first, sizeof item);
    for (std::uint64_t i = 0; i <= below(random, 3); ++i) change(item, sizeof(MetaHeader));
    item.header.magic = T::kMagic;
    item.header.cache_tag = tag_;
    if constexpr (std::is_same_v<T, Superblock>) item.header.cache_tag = cache_tag_of(item);
    item.header.crc = meta_crc(item);
    image_.store(first, &item, sizeof item);
    image_.store(second, &item, sizeof item);
  };
  const std::uint64_t entry = below(random, geometry_.segment_count) * kRecordSize;
  switch (below(random, 6)) {
    case 0:
      forge_dual.operator()<SegmentEntry>(geometry_.segment_table + entry, geometry_.segment_table_copy + entry);
      return "a segment entry forged; ";
    case 1:
      forge_dual.operator()<DeviceState>(geometry_.device_states, geometry_.device_states_copy);
      return "a device state forged; ";
    case 2:
      if (below(random, 2) == 0) {
        forge_dual.operator()<DeviceRecord>(geometry_.device_records, geometry_.device_records_copy);
        return "a device record forged; ";
      }
      forge_dual.operator()<Superblock>(0, kMediaPage);
      return "a superblock forged; ";
    default: {
      const Logged* logged = some_record(random);
      if (logged == nullptr) return "";
      KeyRecord record = logged->record;
      for (std::uint64_t i = 0; i <= below(random, 3); ++i) change(record, 4);
      record.crc = record_crc(record);
      image_.store(logged->record_offset, &record, sizeof record);
      return "a key record forged; ";
    }
  }
}

std::string DamageRig::damage(std::mt19937_64& random) {
  const std::array<std::uint64_t, 8> counts = {1, 1, 1, 1, 2, 2, 3, 8};
  std::string what;
  for (std::uint64_t left = counts[below(random, counts.size())]; left > 0; --left) what += damage_once(random);
  return what;
}

// --- Oracle

void DamageRig::compare_log() {
  for (Log& log : logs_) {
    for (Logged& logged : log) {
      logged.unreadable = std::memcmp(image_.data() + logged.record_offset, &logged.record, kRecordSize) != 0;
      logged.bad_cell = has_payload(logged.record) &&
                        std::memcmp(image_.data() + logged.cell_offset, &before_[logged.cell_offset], kCellSize) != 0;
    }
  }
}

std::uint64_t DamageRig::newest_epoch() const {
  std::uint64_t newest = clean_epoch_;
  for (const Log& log : logs_) {
    const auto last = std::find_if(log.rbegin(), log.rend(), [](const Logged& l) { return !l.unreadable; });
    if (last != log.rend()) newest = std::max(newest, last->record.epoch);
  }
  return newest;
}

// Whether the record counts for nothing.
bool DamageRig::is_gone(const Logged& logged, std::uint64_t newest) const {
  const bool unflushed = shape_.granularity == Granularity::page && shape_.ending == Ending::killed &&
                         logged.record.epoch + 1 >= newest && logged.record.epoch > clean_epoch_;
  return logged.unreadable || (unflushed && logged.bad_cell);
}

// Whether the record, which is gone, is taken for torn: "Damage that looks like a crash" in docs/consistency.md.
bool DamageRig::looks_torn(const Log& log, std::size_t at, std::uint64_t newest) const {
  if (shape_.ending == Ending::closed) return false;
  const bool page = shape_.granularity == Granularity::page;
  std::size_t next = at + 1;
  while (next < log.size() && is_gone(log[next], newest)) ++next;
  if (next == log.size()) return page || log[at].in_head;
  if (log[next].record.epoch <= clean_epoch_) return false;
  if (page && log[next].record.epoch + 1 >= newest) return true;
  std::size_t first = at;
  while (first > 0 && is_gone(log[first - 1], newest)) --first;
  if (log[first].segment != log[next].segment) return false;
  const std::uint64_t end = log[next].record.lsn;
  return std::none_of(log.begin() + static_cast<std::ptrdiff_t>(next), log.end(), [&](const Logged& later) {
    return !is_gone(later, newest) && later.record.lsn - later.record.batch_pos >= end;
  });
}

DamageRig::Values DamageRig::expected(bool& forgotten, bool keep_clean) const {
  Values values(latest_.size());
  for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
    for (std::size_t at = 0; at < bytes_of(hot); at += 512) {
      values[hot * kSectors + at / 512] = value_at(&backing_before_.current[block_of(hot) * kBlockSize + at]);
    }
  }
  const Values backing = values;
  const std::uint64_t newest = newest_epoch();
  for (const Log& log : logs_) {
    for (std::size_t i = 0; i < log.size(); ++i) {
      const KeyRecord& record = log[i].record;
      const bool is_clean = record.type == RecordType::clean || record.epoch <= clean_epoch_;
      if (is_gone(log[i], newest) && looks_torn(log, i, newest) && !(keep_clean && is_clean)) {
        forgotten = forgotten || record.type != RecordType::filler;
        continue;
      }
      if (has_payload(record)) {
        if (const auto hot = hot_of(record.block)) {
          for (std::size_t at = 0; at < bytes_of(*hot); at += 512) {
            values[*hot * kSectors + at / 512] = value_at(&before_[log[i].cell_offset + at]);
          }
        }
      } else if (record.type == RecordType::zero) {
        const auto stream = static_cast<std::size_t>(&log - logs_.data());
        for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
          const std::uint64_t block = block_of(hot);
          if (block < record.block || block >= record.block + record.count) continue;
          if (stream_of_block(block, static_cast<std::uint32_t>(logs_.size())) != stream) continue;
          for (std::size_t at = 0; at < bytes_of(hot); at += 512) {
            const std::size_t sector = hot * kSectors + at / 512;
            values[sector] = record.epoch > clean_epoch_ ? 0 : backing[sector];
          }
        }
      }
    }
  }
  return values;
}

// --- Trying

std::vector<std::optional<DamageRig::Values>> DamageRig::read_all(Engine& engine) const {
  std::vector<std::optional<Values>> found;
  std::vector<std::byte> bytes(kBlockSize);
  for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
    const std::span<std::byte> block(bytes.data(), bytes_of(hot));
    Outcome outcome;
    engine.device->read(block_of(hot) * kBlockSize, block, outcome.completion());
    must(outcome.done, "a read does not end");
    found.emplace_back();
    if (outcome.error != 0) continue;
    found.back().emplace();
    for (std::size_t at = 0; at < block.size(); at += 512) {
      const bool whole = std::memcmp(&block[at], &block[at + 8], 504) == 0;
      found.back()->push_back(whole ? value_at(&block[at]) : ~std::uint64_t{0});
    }
  }
  return found;
}

// Compares what can be read with `values`, of which each may be that of `others`, and says what can not in `errors`.
std::string DamageRig::check(Engine& engine, const Values& values, const Values& others,
                             std::vector<bool>& errors) const {
  const auto found = read_all(engine);
  errors.assign(kHotBlocks, false);
  for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
    errors[hot] = !found[hot];
    if (!found[hot]) continue;
    for (std::size_t i = 0; i < found[hot]->size(); ++i) {
      if ((*found[hot])[i] == values[hot * kSectors + i] || (*found[hot])[i] == others[hot * kSectors + i]) continue;
      char text[160];
      std::snprintf(text, sizeof text, "sector %zu of block %llu is 0x%llx and not 0x%llx (last written: 0x%llx); ", i,
                    static_cast<unsigned long long>(block_of(hot)), static_cast<unsigned long long>((*found[hot])[i]),
                    static_cast<unsigned long long>(values[hot * kSectors + i]),
                    static_cast<unsigned long long>(latest_[hot * kSectors + i]));
      return text;
    }
  }
  return "";
}

std::string DamageRig::run(bool forged, DamageCounts& counts) {
  bool forgotten = false;
  Values values = latest_;
  Values others = latest_;
  if (!forged) {
    compare_log();
    // What looks torn reads as before; if it was clean, the backing, when it is asked, has what was written.
    values = expected(forgotten, false);
    others = expected(forgotten, true);
  }
  std::vector<bool> errors;
  Engine engine = open(false);
  if (engine.device == nullptr) {
    ++counts.refused;
    return "";
  }
  if (engine.device->failed()) {
    ++counts.failed;
    const auto found = read_all(engine);
    if (std::any_of(found.begin(), found.end(), [](const auto& block) { return block.has_value(); })) {
      return "a failed device answers; ";
    }
    engine = {};
    engine = open(false);
    if (engine.device == nullptr) return forged ? "" : "a failed device is gone; ";
    return engine.device->failed() ? "" : "a failed device runs when it is opened again; ";
  }
  std::string wrong = check(engine, values, others, errors);
  if (forged) wrong.clear();
  if (!wrong.empty()) return wrong;
  const auto bad = static_cast<std::uint64_t>(std::count(errors.begin(), errors.end(), true));
  ++(bad != 0 ? counts.partly : counts.unharmed);
  if (forgotten) ++counts.forgotten;

  const bool drained = engine.device->drain(0) == 0;
  if (!forged && bad == 0 && !drained) return "all can be read and not all be written back; ";
  if (!forged && drained) {
    for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
      for (std::size_t at = 0; at < bytes_of(hot) && !errors[hot]; at += 512) {
        const std::uint64_t value = value_at(&backing_->durable[block_of(hot) * kBlockSize + at]);
        const std::size_t sector = hot * kSectors + at / 512;
        if (value != values[sector] && value != others[sector]) {
          return "the backing lacks block " + std::to_string(block_of(hot)) + "; ";
        }
      }
    }
  }
  engine = {};
  engine = open(false);
  if (forged) return "";
  if (engine.device == nullptr || engine.device->failed()) return "it was fine, and is not when opened again; ";
  std::vector<bool> errors_again;
  wrong = check(engine, values, others, errors_again);
  if (!wrong.empty()) return "opened again: " + wrong;
  for (std::uint64_t hot = 0; hot < kHotBlocks; ++hot) {
    if (errors_again[hot] && !errors[hot]) return "opened again, a block that was fine gives an error; ";
  }
  return "";
}

std::string DamageRig::try_image(std::uint64_t seed, DamageCounts& counts) {
  std::mt19937_64 random(seed);
  ++counts.images;
  image_.mark();
  constexpr std::uint64_t kForgedOneOf = 6;
  const bool forged = below(random, kForgedOneOf) == 0;
  std::string what;
  if (forged) {
    ++counts.forged;
    for (std::uint64_t i = 0; i <= below(random, 3); ++i) what += forge(random);
  } else {
    what = damage(random);
  }
  std::string wrong = run(forged, counts);
  image_.roll_back();
  *backing_ = backing_before_;
  if (!wrong.empty()) wrong += "damaged was: " + what;
  return wrong;
}

}  // namespace pcache
