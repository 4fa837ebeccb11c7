// A cache device whose content was changed behind the engine's back: opened, read as a whole, written, written back,
// closed and opened again.
//
// The input is a list of edits, applied to one of four sound images. An edit may put the checksum right (forge). As
// long as none does, the damage is seen: every sector reads as the image says, or gives an error. After a forged edit
// the content is what the forger says, but still nothing may crash, hang, or reach beyond a device's end.

#include <cerrno>
#include <map>
#include <memory>
#include <vector>

#include "cache/cache.h"
#include "media/key_record.h"
#include "media/segment_entry.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/undo_media.h"

namespace pcache {
namespace {

constexpr std::size_t kCacheBytes = 4 * kMiB + 512 * kKiB;  // 10 segments
constexpr std::size_t kSegmentBytes = 256 * kKiB;
constexpr std::size_t kDeviceBytes[] = {800 * kKiB + 3 * kSectorSize, 128 * kKiB};
constexpr std::uint32_t kStreams[] = {2, 1};
constexpr std::size_t kDevices = 2;

// What a sector holds: zeroes, or what its place and a version from 1 on make of it.
constexpr unsigned kZero = 0;
constexpr unsigned kOnBacking = 1;
constexpr unsigned kLast = 15;

void fill_sector(std::byte* sector, std::uint64_t number, unsigned version) {
  for (std::uint64_t at = 0; at < kSectorSize; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = version == kZero ? 0 : (number + 1) << 32 | version << 16 | at;
    std::memcpy(sector + at, &word, sizeof word);
  }
}

std::vector<std::byte> sectors_of(std::uint64_t offset, std::uint64_t length, unsigned version) {
  std::vector<std::byte> bytes(length);
  for (std::uint64_t at = 0; at < length; at += kSectorSize) {
    fill_sector(bytes.data() + at, (offset + at) / kSectorSize, version);
  }
  return bytes;
}

// The version that the sector holds as a whole.
unsigned version_of(const std::byte* sector, std::uint64_t number) {
  static const auto contents = [] {
    std::vector<std::vector<std::byte>> all;
    for (unsigned version = 0; version <= kLast; ++version) all.push_back(sectors_of(0, kDeviceBytes[0], version));
    return all;
  }();
  std::uint64_t word = 0;
  std::memcpy(&word, sector, sizeof word);
  const auto version = static_cast<unsigned>(word >> 16 & 0xffff);
  PCACHE_CHECK(
      version <= kLast && std::memcmp(sector, contents[version].data() + number * kSectorSize, kSectorSize) == 0,
      "a sector is of one version");
  return version;
}

// The versions, as bits, that each sector of a device may read as.
using Allowed = std::vector<std::uint16_t>;
constexpr std::uint16_t kAnything = 0xffff;

struct Media {
  UndoBytes cache{kCacheBytes};
  UndoBytes backings[kDevices] = {UndoBytes(kDeviceBytes[0]), UndoBytes(kDeviceBytes[1])};
};

BackingIdentity identity_of(std::size_t device) { return {"fuzz:" + std::to_string(device), kDeviceBytes[device]}; }

struct Outcome {
  bool done = false;
  int error = -1;
  Completion completion() {
    return {[](void* context, int code) {
              auto* outcome = static_cast<Outcome*>(context);
              PCACHE_CHECK(!outcome->done, "an operation ends once");
              *outcome = {true, code};
            },
            this};
  }
};

// An engine over the media, stepped by hand.
class Engine {
 public:
  Engine(Media& media, const MediumFaults& faults, Granularity granularity, std::size_t cache_bytes) : media_(media) {
    auto cache_dev = CacheDev::open(std::make_unique<UndoSpace>(media.cache, faults, granularity, cache_bytes));
    if (!cache_dev) return;
    auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
    if (!cache) return;
    cache_ = std::move(*cache);
    for (const CacheDev::Device& device : cache_->cache_dev().devices()) {
      auto attached = cache_->attach(device, backing_of(device));
      if (!attached) {
        devices_.clear();
        cache_.reset();
        return;
      }
      if ((*attached)->serves()) devices_.emplace(number_of(device), std::move(*attached));
    }
  }
  ~Engine() {
    devices_.clear();
    cache_.reset();
    for (const auto& outcome : outcomes_) PCACHE_CHECK(outcome->done, "every operation ends");
  }

  // Null: the cache device was refused.
  Cache* cache() { return cache_.get(); }
  // Those that serve, by their number. A forged table may have one of them twice.
  std::multimap<std::size_t, std::shared_ptr<CachedDevice>>& devices() { return devices_; }

  void add(std::size_t number) {
    DeviceRecord record{};
    record.streams = kStreams[number];
    record.size_bytes = kDeviceBytes[number];
    const std::string id = identity_of(number).id;
    record.name[0] = static_cast<char>('a' + number);
    std::copy(id.begin(), id.end(), record.backing_id.begin());
    record.backing_path[0] = '/';
    const auto place = cache_->cache_dev().add_device(record);
    PCACHE_CHECK(place.ok(), "there is room for a device");
    auto attached = cache_->attach({*place, record}, backing_of({*place, record}));
    PCACHE_CHECK(attached.ok(), "a new device can be attached");
    devices_.emplace(number, std::move(*attached));
  }

  // Each returns the error; where nothing more can be done without the operation having ended, -1.
  int read(CachedDevice& device, std::uint64_t offset, std::span<std::byte> buffer) {
    Outcome& outcome = start();
    device.read(offset, buffer, outcome.completion());
    return finish(outcome);
  }
  int write(CachedDevice& device, std::uint64_t offset, std::uint64_t length, unsigned version) {
    Outcome& outcome = start();
    written_.push_back(sectors_of(offset, length, version));
    device.write(offset, written_.back(), outcome.completion());
    return finish(outcome);
  }
  int discard(CachedDevice& device, std::uint64_t offset, std::uint64_t length) {
    Outcome& outcome = start();
    device.discard(offset, length, outcome.completion());
    return finish(outcome);
  }
  int flush(CachedDevice& device) {
    Outcome& outcome = start();
    device.flush(outcome.completion());
    return finish(outcome);
  }
  bool step() {
    bool progress = false;
    for (const auto& [number, device] : devices_) progress = device->writeback_step() || progress;
    for (int steps = 0; cache_->reclaim_step(); ++steps) {
      PCACHE_CHECK(steps < 1000, "reclaim comes to an end");
      progress = true;
    }
    return progress;
  }

 private:
  static std::size_t number_of(const CacheDev::Device& device) {
    std::size_t number = 0;
    while (number < kDevices &&
           identity_of(number) != BackingIdentity{device.record.backing_id.data(), device.record.size_bytes}) {
      ++number;
    }
    return number;
  }
  std::unique_ptr<BackingDev> backing_of(const CacheDev::Device& device) {
    const std::size_t number = number_of(device);
    if (number == kDevices) return nullptr;
    return std::make_unique<UndoBacking>(media_.backings[number], identity_of(number));
  }
  Outcome& start() { return *outcomes_.emplace_back(std::make_unique<Outcome>()); }
  int finish(const Outcome& outcome) {
    for (int steps = 0; !outcome.done; ++steps) {
      PCACHE_CHECK(steps < 1000, "an operation ends after some steps");
      if (!step()) return -1;
    }
    return outcome.error;
  }

  Media& media_;
  std::unique_ptr<Cache> cache_;
  std::multimap<std::size_t, std::shared_ptr<CachedDevice>> devices_;
  std::vector<std::unique_ptr<Outcome>> outcomes_;
  std::vector<std::vector<std::byte>> written_;  // until the engine is gone: writes may wait
};

// A sound cache device with its backings, as an orderly close or a killed process leaves it.
class Image {
 public:
  Image(Granularity granularity, bool closed) : granularity_(granularity) {
    const MediumFaults none;
    UndoSpace space(media.cache, none, granularity, kCacheBytes);
    const Status formatted = CacheDev::format(space, {{1, 2, 3}, "fuzz", kSegmentBytes});
    PCACHE_CHECK(formatted.ok(), "the image can be formatted");
    for (std::size_t number = 0; number < kDevices; ++number) {
      const auto content = sectors_of(0, kDeviceBytes[number], kOnBacking);
      std::copy(content.begin(), content.end(), media.backings[number].change(0, content.size()));
      past[number].assign(kDeviceBytes[number] / kSectorSize, 1U << kOnBacking);
      now[number] = past[number];
    }
    UndoBytes killed(kCacheBytes);
    {
      Engine engine(media, none, granularity, kCacheBytes);
      for (std::size_t number = 0; number < kDevices; ++number) engine.add(number);
      fill(engine);
      std::copy_n(media.cache.data(), kCacheBytes, killed.change(0, kCacheBytes));
    }
    if (!closed) std::copy_n(killed.data(), kCacheBytes, media.cache.change(0, kCacheBytes));
    media.cache.keep();
    for (UndoBytes& backing : media.backings) backing.keep();
    // Damage may look like a crash where there was no orderly close: what is newest may be dropped then.
    for (std::size_t number = 0; number < kDevices; ++number) allowed[number] = closed ? now[number] : past[number];
  }

  Granularity granularity() const { return granularity_; }

  Media media;
  Allowed allowed[kDevices];  // to read as
  Allowed past[kDevices];     // to be found on the backing

 private:
  void write(Engine& engine, std::size_t number, std::uint64_t block, std::uint64_t count, unsigned version) {
    CachedDevice& device = *engine.devices().find(number)->second;
    const std::uint64_t offset = block * kBlockSize;
    const std::uint64_t length = std::min(count * kBlockSize, kDeviceBytes[number] - offset);
    const int error =
        version == kZero ? engine.discard(device, offset, length) : engine.write(device, offset, length, version);
    PCACHE_CHECK(error == 0, "the image can be written");
    for (std::uint64_t sector = offset / kSectorSize; sector < (offset + length) / kSectorSize; ++sector) {
      now[number][sector] = static_cast<std::uint16_t>(1U << version);
      past[number][sector] = static_cast<std::uint16_t>(past[number][sector] | 1U << version);
    }
  }
  static void read(Engine& engine, std::size_t number, std::uint64_t block, std::uint64_t count) {
    std::vector<std::byte> buffer(count * kBlockSize);
    PCACHE_CHECK(engine.read(*engine.devices().find(number)->second, block * kBlockSize, buffer) == 0,
                 "the image can be read");
  }
  void damage_cell(std::uint64_t block) {
    const auto wanted = sectors_of(block * kBlockSize, kBlockSize, 2);
    for (std::size_t at = kSegmentAlign; at < kCacheBytes; at += kBlockSize) {
      if (std::memcmp(media.cache.data() + at, wanted.data(), kBlockSize) == 0) {
        *media.cache.change(at, 1) ^= std::byte{1};
      }
    }
  }

  // Every kind of record, in several segments of each stream, and the epochs of a device that is in use.
  void fill(Engine& engine) {
    CachedDevice& first = *engine.devices().find(0)->second;
    CachedDevice& second = *engine.devices().find(1)->second;
    for (std::uint64_t block = 0; block < 80; block += 16) write(engine, 0, block, 16, 2);
    write(engine, 0, 140, 30, 2);
    damage_cell(33);
    PCACHE_CHECK(first.drain(0) == EIO, "a block of the image is lost");
    for (std::uint64_t sector = 33 * 8; sector < 34 * 8; ++sector) now[0][sector] = past[0][sector] = kAnything;
    read(engine, 0, 100, 20);
    read(engine, 0, 180, 8);
    write(engine, 0, 10, 10, 3);
    write(engine, 1, 0, 12, 3);
    PCACHE_CHECK(first.drain(0) == EIO && second.drain(0) == 0, "the rest is written back");
    write(engine, 0, 40, 16, 4);
    write(engine, 0, 60, kZero, 0);
    write(engine, 0, 130, 40, kZero);
    write(engine, 1, 4, 4, 4);
    PCACHE_CHECK(engine.flush(first) == 0 && engine.flush(second) == 0, "epochs close");
    write(engine, 0, 45, 5, 5);
    write(engine, 0, 142, 3, 5);
    write(engine, 0, 200, 1, 5);
    write(engine, 1, 6, 1, kZero);
    PCACHE_CHECK(engine.flush(first) == 0, "epochs close");
    write(engine, 0, 48, 2, 6);
    write(engine, 0, 110, 2, 6);
    write(engine, 1, 7, 3, 6);
  }

  const Granularity granularity_;
  Allowed now[kDevices];
};

// --- Edits

// What can be edited, with the numbers that the input chooses it by.
struct Item {
  enum Kind { superblock, device_record, device_state, segment_entry, key_record, cell, kKinds };
  Kind kind = superblock;
  std::size_t offset = 0;
  std::size_t size = 0;
};

class Editor {
 public:
  Editor(Image& image, FuzzInput& input) : image_(image), input_(input) {
    geometry_ = *compute_geometry(kCacheBytes, kSegmentBytes);
    tag_ = at<Superblock>(0).header.cache_tag != 0 ? cache_tag_of(at<Superblock>(0)) : 0;
  }

  void apply_all() {
    for (int edits = 0; edits < 64 && !input_.empty(); ++edits) apply();
  }

  bool forged() const { return forged_; }
  const MediumFaults& faults() const { return faults_; }
  std::size_t cache_bytes() const { return cache_bytes_; }

 private:
  template <typename T>
  T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, image_.media.cache.data() + offset, sizeof value);
    return value;
  }
  std::byte* change(std::size_t offset, std::size_t length) { return image_.media.cache.change(offset, length); }
  template <typename T>
  void put(std::size_t offset, const T& value) {
    std::memcpy(change(offset, sizeof value), &value, sizeof value);
  }

  // Those at the front of each table are in use, so that they are met most often.
  Item choose() {
    Item item;
    item.kind = static_cast<Item::Kind>(input_.byte() % Item::kKinds);
    const std::uint32_t index = input_.byte();
    const bool copy = index >= 128;
    const std::uint32_t place = index % 128 % (index % 128 < 96 ? 3 : kMaxDevices);
    segment_ = index % geometry_.segment_count;
    switch (item.kind) {
      case Item::superblock:
        return {item.kind, copy ? kMediaPage : 0, sizeof(Superblock)};
      case Item::device_record:
        return {item.kind, (copy ? geometry_.device_records_copy : geometry_.device_records) + place * kMediaPage,
                sizeof(DeviceRecord)};
      case Item::device_state:
        return {item.kind, (copy ? geometry_.device_states_copy : geometry_.device_states) + place * kRecordSize,
                sizeof(DeviceState)};
      case Item::segment_entry:
        return {item.kind, (copy ? geometry_.segment_table_copy : geometry_.segment_table) + segment_ * kRecordSize,
                sizeof(SegmentEntry)};
      case Item::key_record:
        slot_ = input_.byte() % geometry_.slots_per_segment;
        return {item.kind, geometry_.record_offset(segment_, slot_), sizeof(KeyRecord)};
      default:
        slot_ = input_.byte() % geometry_.slots_per_segment;
        return {Item::cell, geometry_.cell_offset(segment_, slot_), kCellSize};
    }
  }

  // Where to change a number of `bytes`: somewhere in the part of an item that has fields.
  std::size_t field(const Item& item, std::size_t bytes) {
    const auto room = static_cast<std::uint32_t>(std::min<std::size_t>(item.size, 512) / bytes);
    return item.offset + input_.below(room) * bytes;
  }

  void apply() {
    const std::uint8_t what = input_.byte();
    const Item item = choose();
    bool seal = (what & 0x80) != 0;
    switch (what % 12) {
      case 0:
        *change(field(item, 1), 1) ^= static_cast<std::byte>(input_.byte() | 1);
        break;
      case 1:
        put(field(item, 1), input_.byte());
        break;
      case 2:
        put(field(item, 4), static_cast<std::uint32_t>(input_.number()));
        break;
      case 3:
        put(field(item, 8), input_.number());
        break;
      case 4: {
        const std::size_t where = field(item, 8);
        put(where, at<std::uint64_t>(where) + input_.byte() - 128);
        break;
      }
      case 5:
        std::memset(change(item.offset, item.size), 0, item.size);
        break;
      case 6: {
        const Item from = choose();
        const std::vector<std::byte> bytes(image_.media.cache.data() + from.offset,
                                           image_.media.cache.data() + from.offset + std::min(from.size, item.size));
        std::copy(bytes.begin(), bytes.end(), change(item.offset, bytes.size()));
        forged_ = true;  // an item in the place of another one is valid, but for cells and key records
        break;
      }
      case 7:
        forge_record(item);
        return;
      case 8:
        forge_entry(item);
        return;
      case 9:
        faults_.reads.push_back({item.offset, item.offset + item.size});
        return;
      case 10:
        faults_.writes.push_back({item.offset, item.offset + item.size});
        return;
      default:
        cache_bytes_ = input_.flag() ? static_cast<std::size_t>(input_.number() % (kCacheBytes + 1)) : kCacheBytes;
        return;
    }
    if (seal) put_right(item);
  }

  template <typename T>
  void seal_item(std::size_t offset) {
    T item = at<T>(offset);
    seal(item, tag_, item.header.place);
    put(offset, item);
  }

  void put_right(const Item& item) {
    forged_ = true;
    switch (item.kind) {
      case Item::superblock:
        return seal_item<Superblock>(item.offset);
      case Item::device_record:
        return seal_item<DeviceRecord>(item.offset);
      case Item::device_state:
        return seal_item<DeviceState>(item.offset);
      case Item::segment_entry:
        return seal_item<SegmentEntry>(item.offset);
      case Item::key_record: {
        KeyRecord record = at<KeyRecord>(item.offset);
        record.crc = record_crc(record);
        return put(item.offset, record);
      }
      default: {
        KeyRecord record = at<KeyRecord>(geometry_.record_offset(segment_, slot_));
        record.payload_crc = crc32c(image_.media.cache.data() + item.offset, kCellSize);
        record.crc = record_crc(record);
        return put(geometry_.record_offset(segment_, slot_), record);
      }
    }
  }

  // A record that is valid where it stands.
  void forge_record(const Item& item) {
    if (item.kind != Item::key_record) return;
    forged_ = true;
    const auto entry = at<SegmentEntry>(geometry_.segment_table + segment_ * kRecordSize);
    KeyRecord record{};
    record.cache_tag = tag_;
    record.lsn = entry.first_lsn + slot_;
    record.generation = entry.generation;
    record.block = input_.number();
    record.epoch = input_.number();
    record.count = input_.flag() ? input_.number() : 1;
    record.device_id = entry.device_id;
    record.payload_crc = crc32c(image_.media.cache.data() + geometry_.cell_offset(segment_, slot_), kCellSize);
    record.batch_pos = static_cast<std::uint16_t>(input_.number());
    record.type = static_cast<RecordType>(input_.byte() % 8);
    record.stream = entry.stream;
    record.crc = record_crc(record);
    put(item.offset, record);
  }

  // An entry, in both copies, that puts a segment into a stream's chain.
  void forge_entry(const Item& item) {
    if (item.kind != Item::segment_entry) return;
    forged_ = true;
    const std::size_t copy = geometry_.segment_table_copy - geometry_.segment_table;
    const std::size_t first = item.offset >= geometry_.segment_table_copy ? item.offset - copy : item.offset;
    auto entry = at<SegmentEntry>(first);
    entry.chain = input_.number();
    entry.first_lsn = input_.flag() ? input_.number() : entry.chain * geometry_.slots_per_segment;
    if (input_.flag()) entry.generation = input_.number();
    entry.device_id = 1 + input_.byte() % 3;
    entry.stream = input_.byte() % 4;
    entry.state = input_.byte() % 8 == 0 ? SegmentState::free : SegmentState::log;
    seal(entry, tag_, static_cast<std::uint32_t>((first - geometry_.segment_table) / kRecordSize));
    put(first, entry);
    put(first + copy, entry);
  }

  Image& image_;
  FuzzInput& input_;
  Geometry geometry_;
  std::uint32_t tag_ = 0;
  std::uint32_t segment_ = 0;  // of the item that was chosen last
  std::uint32_t slot_ = 0;
  bool forged_ = false;
  MediumFaults faults_;
  std::size_t cache_bytes_ = kCacheBytes;
};

// --- What is done with the edited image

class Run {
 public:
  Run(Image& image, Editor& editor) : image_(image), editor_(editor) {
    for (std::size_t number = 0; number < kDevices; ++number) {
      allowed_[number] = image.allowed[number];
      backing_[number] = image.past[number];
    }
  }

  void inspect() {
    auto cache_dev = CacheDev::open(
        std::make_unique<UndoSpace>(image_.media.cache, editor_.faults(), image_.granularity(), editor_.cache_bytes()),
        CacheDev::Access::inspect);
    if (cache_dev) (void)count_dirty_bytes(std::move(*cache_dev));
  }

  void use() {
    Engine engine(image_.media, editor_.faults(), image_.granularity(), editor_.cache_bytes());
    if (engine.cache() == nullptr) return;
    for (const auto& [number, device] : engine.devices()) read_all(engine, number, *device);
    for (const auto& [number, device] : engine.devices()) {
      change(engine, number, *device, 9 * kBlockSize, 3 * kBlockSize, ++version_);
      change(engine, number, *device, 8 * kBlockSize + kSectorSize, 2 * kSectorSize, version_);
      change(engine, number, *device, 20 * kBlockSize, 5 * kBlockSize, kZero);
      change(engine, number, *device, kDeviceBytes[number] - kBlockSize, kBlockSize, version_);
      (void)engine.flush(*device);
      (void)device->drain(0);
      change(engine, number, *device, 21 * kBlockSize, kBlockSize, version_);
    }
    for (int steps = 0; engine.step(); ++steps) PCACHE_CHECK(steps < 1000, "background work comes to an end");
    for (const auto& [number, device] : engine.devices()) {
      read_all(engine, number, *device);
      (void)device->stats();
    }
    (void)engine.cache()->stats();
  }

  // A medium that refuses stores cannot always be closed in order. Opened again it may look as after a crash: what is
  // newest, and cannot be read, is dropped then.
  void may_look_torn() {
    for (std::size_t number = 0; number < kDevices; ++number) allowed_[number] = backing_[number];
  }

  void check_backings() {
    if (editor_.forged()) return;
    for (std::size_t number = 0; number < kDevices; ++number) {
      const UndoBytes& backing = image_.media.backings[number];
      for (std::uint64_t sector = 0; sector < backing_[number].size(); ++sector) {
        if (backing_[number][sector] == kAnything) continue;
        const unsigned version = version_of(backing.data() + sector * kSectorSize, sector);
        PCACHE_CHECK((backing_[number][sector] >> version & 1) != 0, "a backing gets what was written");
      }
    }
  }

 private:
  // What was read once stays: from then on it is all that is allowed.
  void read_all(Engine& engine, std::size_t number, CachedDevice& device) {
    constexpr std::uint64_t kPiece = 8 * kBlockSize;
    std::vector<std::byte> buffer(kPiece);
    for (std::uint64_t offset = 0; offset < kDeviceBytes[number]; offset += kPiece) {
      const std::span<std::byte> piece(buffer.data(), std::min(kPiece, kDeviceBytes[number] - offset));
      if (engine.read(device, offset, piece) == 0) {
        check(number, offset, piece);
        continue;
      }
      for (std::uint64_t at = 0; at < piece.size(); at += kBlockSize) {
        const auto block = piece.subspan(at, std::min<std::size_t>(kBlockSize, piece.size() - at));
        if (engine.read(device, offset + at, block) == 0) check(number, offset + at, block);
      }
    }
  }

  void check(std::size_t number, std::uint64_t offset, std::span<const std::byte> bytes) {
    if (editor_.forged()) return;
    for (std::uint64_t at = 0; at < bytes.size(); at += kSectorSize) {
      const std::uint64_t sector = (offset + at) / kSectorSize;
      std::uint16_t& allowed = allowed_[number][sector];
      if (allowed == kAnything) continue;
      const unsigned version = version_of(bytes.data() + at, sector);
      PCACHE_CHECK((allowed >> version & 1) != 0, "a sector reads as what was written last");
      allowed = static_cast<std::uint16_t>(1U << version);
    }
  }

  void change(Engine& engine, std::size_t number, CachedDevice& device, std::uint64_t offset, std::uint64_t length,
              unsigned version) {
    const int error =
        version == kZero ? engine.discard(device, offset, length) : engine.write(device, offset, length, version);
    // A part of a sector's block at the device's end is not whole sectors of one version: all offsets are of sectors.
    for (std::uint64_t sector = offset / kSectorSize; sector < (offset + length) / kSectorSize; ++sector) {
      const auto bit = static_cast<std::uint16_t>(1U << version);
      std::uint16_t& allowed = allowed_[number][sector];
      allowed = error == 0 ? bit : static_cast<std::uint16_t>(allowed | bit);
      backing_[number][sector] = static_cast<std::uint16_t>(backing_[number][sector] | bit);
    }
  }

  Image& image_;
  Editor& editor_;
  Allowed allowed_[kDevices];
  Allowed backing_[kDevices];
  unsigned version_ = 9;
};

Image& image_of(unsigned number) {
  static Image images[] = {{Granularity::cache_line, true},
                           {Granularity::cache_line, false},
                           {Granularity::page, true},
                           {Granularity::page, false}};
  return images[number % std::size(images)];
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  FuzzInput input(data, size);
  const std::uint8_t start = input.byte();
  Image& image = image_of(start);
  {
    Editor editor(image, input);
    editor.apply_all();
    Run run(image, editor);
    if ((start & 0x10) != 0) run.inspect();
    run.use();
    if (!editor.faults().writes.empty()) run.may_look_torn();
    run.use();
    run.check_backings();
  }
  image.media.cache.undo();
  for (UndoBytes& backing : image.media.backings) backing.undo();
  return 0;
}
