// The metadata that a cache device is opened by, with any bytes in it: superblock, device records and states, segment
// table. Whatever is accepted makes sense, stays what it is over a restart, and can be worked with.

#include <set>
#include <vector>

#include "media/segment_entry.h"
#include "segment/segment_pool.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/undo_media.h"

namespace pcache {
namespace {

constexpr std::size_t kCacheBytes = 4 * kMiB;  // 8 segments

struct Fixture {
  Fixture() {
    UndoSpace space(cache, faults, Granularity::cache_line, kCacheBytes);
    PCACHE_CHECK(CacheDev::format(space, {{1, 2, 3}, "fuzz", 256 * kKiB}).ok(), "the image can be formatted");
    auto cache_dev = open();
    for (const char* name : {"a", "b"}) {
      DeviceRecord record{};
      record.streams = 2;
      record.size_bytes = kMiB;
      record.name[0] = record.backing_path[0] = name[0];
      PCACHE_CHECK(cache_dev->add_device(record).ok(), "there is room for a device");
    }
    SegmentPool pool(*cache_dev);
    for (std::uint32_t i = 0; i < 3; ++i) PCACHE_CHECK(pool.take({1, 0, i, 0}).ok(), "there is a segment");
    cache.keep();
  }

  std::unique_ptr<CacheDev> open(CacheDev::Access access = CacheDev::Access::use) {
    auto opened = CacheDev::open(std::make_unique<UndoSpace>(cache, faults, Granularity::cache_line, bytes), access);
    return opened ? std::move(*opened) : nullptr;
  }

  UndoBytes cache{kCacheBytes};
  MediumFaults faults;
  std::size_t bytes = kCacheBytes;
  const Geometry geometry = *compute_geometry(kCacheBytes, 256 * kKiB);
};

// Any bytes into the fields of an item, which may then be made valid.
template <typename T>
void edit(Fixture& fixture, FuzzInput& input, std::uint64_t first, std::uint64_t second, std::uint8_t how) {
  T item;
  std::memcpy(&item, fixture.cache.data() + first, sizeof item);
  auto* bytes = reinterpret_cast<char*>(&item);
  for (int edits = 1 + how % 4; edits > 0; --edits) {
    const std::size_t at = input.below(std::min<std::uint32_t>(sizeof item, 512));
    const std::string what = input.text(input.byte() % 16);
    std::copy_n(what.begin(), std::min(what.size(), sizeof item - at), bytes + at);
  }
  Superblock superblock;
  std::memcpy(&superblock, std::is_same_v<T, Superblock> ? bytes : reinterpret_cast<const char*>(fixture.cache.data()),
              std::min(sizeof superblock, sizeof(Superblock)));
  if ((how & 0x80) != 0) seal(item, cache_tag_of(superblock), item.header.place);
  std::memcpy(fixture.cache.change(first, sizeof item), &item, sizeof item);
  if ((how & 0x40) != 0) std::memcpy(fixture.cache.change(second, sizeof item), &item, sizeof item);
}

std::set<std::string> names(const CacheDev& cache_dev) {
  std::set<std::string> names;
  for (const CacheDev::Device& device : cache_dev.devices()) {
    const DeviceRecord& record = device.record;
    PCACHE_CHECK(record.device_id != 0 && is_sane(record), "a device that is listed makes sense");
    names.insert(std::to_string(device.place) + record.name.data());
    if (const auto epoch = cache_dev.clean_epoch(device.place)) {
      PCACHE_CHECK(*epoch < kCounterLimit, "an epoch is in its range");
    }
    (void)cache_dev.closed(device.place);
  }
  return names;
}

void work(CacheDev& cache_dev) {
  SegmentPool pool(cache_dev);
  PCACHE_CHECK(pool.total() == cache_dev.geometry().segment_count, "every segment is known");
  PCACHE_CHECK(pool.free_count() + pool.in_use().size() + pool.damaged_count() == pool.total(),
               "every segment is free, in use, or set aside");
  std::set<SegmentId> used;
  for (const auto& segment : pool.in_use()) used.insert(segment.id);
  while (true) {
    const auto taken = pool.take({5, 1, 2, 3});
    PCACHE_CHECK(taken.ok(), "a sound medium takes an entry");
    if (!*taken) break;
    PCACHE_CHECK((*taken)->id < pool.total() && used.insert((*taken)->id).second, "a segment is taken once");
  }
  for (const SegmentId id : used) PCACHE_CHECK(pool.release(id).ok(), "a segment can be given back");
  PCACHE_CHECK(pool.free_count() == used.size(), "and is free then");
}

void use(Fixture& fixture) {
  if (const auto inspected = fixture.open(CacheDev::Access::inspect)) (void)names(*inspected);
  std::set<std::string> before;
  {
    const auto cache_dev = fixture.open();
    if (!cache_dev) return;
    before = names(*cache_dev);
    std::set<std::uint32_t> ids;
    for (const auto& device : cache_dev->devices()) {
      PCACHE_CHECK(ids.insert(device.record.device_id).second, "no two devices have the same id");
    }
    work(*cache_dev);
    DeviceRecord record{};
    record.streams = 1;
    record.size_bytes = kMiB;
    record.name[0] = record.backing_path[0] = 'n';
    const bool taken = std::any_of(before.begin(), before.end(), [](const auto& name) { return name.ends_with('n'); });
    if (taken) return;  // as the manager of devices sees to it
    if (const auto place = cache_dev->add_device(record)) {
      PCACHE_CHECK(record.device_id != 0 && ids.insert(record.device_id).second, "a new device has a new id");
      PCACHE_CHECK(cache_dev->clean_epoch(*place).value() == 0, "a new device has nothing dirty");
      before.insert(std::to_string(*place) + "n");
    }
    for (const auto& device : cache_dev->devices()) {
      if (!cache_dev->clean_epoch(device.place).ok()) continue;
      PCACHE_CHECK(cache_dev->set_closed(device.place, CacheDev::Closed{3, 4}).ok(), "a device can be closed");
    }
  }
  const auto cache_dev = fixture.open();
  PCACHE_CHECK(cache_dev, "what was opened once is opened again");
  PCACHE_CHECK(names(*cache_dev) == before, "and holds the same devices");
  for (const auto& device : cache_dev->devices()) {
    if (!cache_dev->clean_epoch(device.place).ok()) continue;
    PCACHE_CHECK(cache_dev->closed(device.place) == (CacheDev::Closed{3, 4}), "closed as they were");
  }
  for (const auto& device : cache_dev->devices()) {
    PCACHE_CHECK(cache_dev->remove_device(device.place).ok(), "every device can be removed");
  }
  PCACHE_CHECK(cache_dev->devices().empty(), "and is gone then");
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  static Fixture fixture;
  const Geometry& g = fixture.geometry;
  FuzzInput input(data, size);
  fixture.bytes = kCacheBytes;
  for (int edits = 0; edits < 32 && !input.empty(); ++edits) {
    const std::uint8_t what = input.byte();
    const std::uint8_t how = input.byte();
    const std::uint64_t place = what / 8 % (what < 128 ? 3 : kMaxDevices);
    switch (what % 8) {
      case 0:
        edit<Superblock>(fixture, input, 0, kMediaPage, how);
        break;
      case 1:
        edit<Superblock>(fixture, input, kMediaPage, 0, how);
        break;
      case 2:
        edit<DeviceRecord>(fixture, input, g.device_records + place * kMediaPage,
                           g.device_records_copy + place * kMediaPage, how);
        break;
      case 3:
        edit<DeviceRecord>(fixture, input, g.device_records_copy + place * kMediaPage,
                           g.device_records + place * kMediaPage, how);
        break;
      case 4:
        edit<DeviceState>(fixture, input, g.device_states + place * kRecordSize,
                          g.device_states_copy + place * kRecordSize, how);
        break;
      case 5:
        edit<SegmentEntry>(fixture, input, g.segment_table + what / 8 % g.segment_count * kRecordSize,
                           g.segment_table_copy + what / 8 % g.segment_count * kRecordSize, how);
        break;
      case 6:
        edit<SegmentEntry>(fixture, input, g.segment_table_copy + what / 8 % g.segment_count * kRecordSize,
                           g.segment_table + what / 8 % g.segment_count * kRecordSize, how);
        break;
      default:
        if (how == 0) fixture.bytes = static_cast<std::size_t>(input.number() % (kCacheBytes + 1));
    }
  }
  use(fixture);
  fixture.cache.undo();
  return 0;
}
