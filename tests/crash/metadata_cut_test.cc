// The power goes at every fence of every function that changes metadata, and of the log: all 2^n ways in which what is
// pending there may be left, in pieces as small as the medium allows. What is then found is, item by item, the old or
// the new value; everything else is as before; and the cache device opens.
//
// kUpdates lists the functions; a member of src/segment or src/log that changes something and is not in it fails
// EveryMemberThatChangesSomethingIsCut.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "base/units.h"
#include "log/stream_log.h"
#include "segment/cache_dev.h"
#include "segment/segment_pool.h"
#include "tests/support/crash_space.h"

namespace pcache {
namespace {

constexpr std::size_t kBytes = (4 << 20) + (512 << 10);
constexpr std::size_t kSmallBytes = 4 << 20;  // two segments less
constexpr std::uint64_t kSegmentBytes = 256 * kKiB;
constexpr std::size_t kMostPieces = 12;  // of which all subsets are tried
using Uuid = std::array<std::uint8_t, 16>;
constexpr Uuid kUuid = {1, 2, 3};
constexpr Uuid kNextUuid = {4, 5, 6};  // of the next formatting
constexpr std::uint64_t kDeviceBlocks = 64;

// What is found on a medium: each item's value, by its name.
using Picture = std::map<std::string, std::string>;

// A medium, what is durable of it, and the engine's lower layers on it.
class Bench {
 public:
  explicit Bench(Granularity granularity) : image(kBytes, granularity), durable(kBytes, granularity) {
    image.on_durable = [this](std::size_t offset, std::span<const std::byte> content) {
      durable.store(offset, content.data(), content.size());
    };
    image.track(true);
  }

  void format(const Uuid& uuid = kUuid) {
    CrashSpace space(image);
    check(CacheDev::format(space, {uuid, "bench", kSegmentBytes}));
  }
  void format_small() {
    CrashSpace space(image);
    check(space.shrink(kSmallBytes));
    check(CacheDev::format(space, {kUuid, "bench", kSegmentBytes}));
  }
  Geometry sized(std::size_t bytes) const { return *cache_dev->plan_size(bytes); }
  void open() {
    log.reset();
    pool.reset();
    auto opened = CacheDev::open(std::make_unique<CrashSpace>(image));
    check(opened.status());
    cache_dev = std::move(*opened);
    pool = std::make_unique<SegmentPool>(*cache_dev);
  }
  std::uint32_t add(const std::string& name) {
    DeviceRecord record{};
    record.streams = 1;
    record.size_bytes = kDeviceBlocks * kBlockSize;
    std::copy(name.begin(), name.end(), record.name.begin());
    std::copy_n("/b", 2, record.backing_path.begin());
    std::copy_n("id", 2, record.backing_id.begin());
    const auto place = cache_dev->add_device(record);
    check(place.status());
    return *place;
  }
  SegmentId take(std::uint32_t device_id, std::uint64_t chain) {
    const auto taken = pool->take({device_id, 0, chain, chain * 62});
    check(taken.status());
    return (*taken)->id;
  }
  // The log of a device of which nothing is logged yet.
  void begin_log() { log = std::make_unique<StreamLog>(*cache_dev, *pool, 1, 0); }
  // The log as recovery finds it.
  std::vector<StreamLog::Hole> find_log() {
    begin_log();
    EXPECT_TRUE(log->adopt(pool->in_use()));
    return log->replay({kDeviceBlocks, log->last_epoch(), 0, cache_dev->closed(0).has_value()},
                       [](std::uint64_t, const KeyRecord&) {});
  }
  void append(std::size_t count, std::uint64_t epoch, Persist persist = Persist::synced) {
    std::vector<LogEntry> entries;
    for (std::size_t i = 0; i < count; ++i) {
      cell_.fill(static_cast<std::byte>(++content_));
      cells_.push_back(std::make_unique<Cell>(cell_));
      entries.push_back({RecordType::write, i, 1, cells_.back()->data()});
    }
    const auto room = log->reserve();
    check(room.status());
    check(log->append(entries, epoch, persist).status());
  }
  // Records without payload: small enough for all subsets of their pieces.
  void append_zeroes(std::size_t count, std::uint64_t epoch, Persist persist = Persist::synced) {
    std::vector<LogEntry> entries(count, {RecordType::zero, 3, 2});
    check(log->reserve().status());
    check(log->append(entries, epoch, persist).status());
  }
  void spoil(std::uint64_t offset) {
    const std::array<std::byte, 8> bad{};
    image.store(offset, bad.data(), bad.size());
  }

  static void check(const Status& status) { ASSERT_TRUE(status.ok()) << status.message(); }

  CrashMedium image;
  CrashMedium durable;
  std::unique_ptr<CacheDev> cache_dev;
  std::unique_ptr<SegmentPool> pool;
  std::unique_ptr<StreamLog> log;

 private:
  using Cell = std::array<std::byte, kCellSize>;
  Cell cell_;
  unsigned content_ = 0;
  std::vector<std::unique_ptr<Cell>> cells_;
};

struct Update {
  const char* member;
  const char* when;
  void (*prepare)(Bench& bench);
  void (*run)(Bench& bench);
  // Page media: durable only at the next flush. All that is appended with ack=flush is.
  bool returns_early = false;
  bool may_be_refused = false;  // a cut may leave no cache device
  bool only_on_page = false;    // elsewhere it has nothing to do
};

void with_device(Bench& bench) {
  bench.format();
  bench.open();
  bench.add("first");
}
void with_log(Bench& bench) {
  with_device(bench);
  bench.begin_log();
  bench.append_zeroes(1, 1);
  bench.append(1, 1);
}
// As a crash leaves it on any medium: a record of the last batch is missing, one before the end.
void with_hole(Bench& bench) {
  with_log(bench);
  bench.append(3, 3);
  bench.image.settle(0, kBytes);
  bench.spoil(bench.cache_dev->geometry().record_offset(bench.log->segments().front().id, 3));
  bench.image.settle(0, kBytes);
  bench.open();
}
// As a crash leaves page media: two records whose cells did not get there are behind the end.
void with_records_behind_the_end(Bench& bench) {
  with_log(bench);
  bench.append(2, 3);
  const SegmentId segment = bench.log->segments().front().id;
  for (const std::uint32_t slot : {2, 3}) bench.spoil(bench.cache_dev->geometry().cell_offset(segment, slot));
  bench.image.settle(0, kBytes);
  bench.open();
}

const Update kUpdates[] = {
    {"CacheDev::format", "blank", [](Bench&) {}, [](Bench& bench) { bench.format(); }, false, true},
    {"CacheDev::format", "over-a-cache-device",
     [](Bench& bench) {
       with_device(bench);
       bench.take(1, 0);
     },
     [](Bench& bench) { bench.format(kNextUuid); }, false, true},
    {"CacheDev::open", "one-copy-torn",
     [](Bench& bench) {
       with_device(bench);
       bench.spoil(0);
       bench.image.settle(0, kBytes);
     },
     [](Bench& bench) { bench.open(); }},
    {"CacheDev::open", "with-damaged-copies",
     [](Bench& bench) {
       with_device(bench);
       const std::uint64_t entry = bench.take(1, 0) * kRecordSize;
       const Geometry& g = bench.cache_dev->geometry();
       for (const std::uint64_t copy : {g.device_records_copy, g.device_states, g.segment_table + entry}) {
         bench.spoil(copy);
       }
       bench.image.settle(0, kBytes);
     },
     [](Bench& bench) { bench.open(); }},
    {"CacheDev::add_device", "first-place",
     [](Bench& bench) {
       bench.format();
       bench.open();
     },
     [](Bench& bench) { bench.add("added"); }},
    {"CacheDev::add_device", "next-place", with_device, [](Bench& bench) { bench.add("added"); }},
    {"CacheDev::add_device", "place-that-was-used",
     [](Bench& bench) {
       with_device(bench);
       Bench::check(bench.cache_dev->set_clean_epoch(0, 77));
       Bench::check(bench.cache_dev->remove_device(0));
     },
     [](Bench& bench) { bench.add("added"); }},
    {"CacheDev::remove_device", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->remove_device(0)); }},
    {"CacheDev::set_settings", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) {
       Settings settings;
       settings.set(Setting::mode, static_cast<std::uint64_t>(Mode::writearound));
       Bench::check(bench.cache_dev->set_settings(0, settings, true));
     }},
    {"CacheDev::set_parked", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_parked(1, true)); }},
    {"CacheDev::set_bypassed", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_bypassed(1, true)); }},
    {"CacheDev::set_device_size", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_device_size(1, 2 * kDeviceBlocks * kBlockSize + 512)); }},
    {"CacheDev::set_clean_epoch", "of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.add("second");
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_clean_epoch(1, 5)); }},
    {"CacheDev::set_clean_epoch", "again",
     [](Bench& bench) {
       with_device(bench);
       Bench::check(bench.cache_dev->set_clean_epoch(0, 5));
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_clean_epoch(0, 6)); }},
    {"CacheDev::set_clean_epoch", "one-copy-torn",
     [](Bench& bench) {
       with_device(bench);
       Bench::check(bench.cache_dev->set_clean_epoch(0, 5));
       bench.spoil(bench.cache_dev->geometry().device_states);
       bench.image.settle(0, kBytes);
       bench.open();
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_clean_epoch(0, 6)); }},
    {"CacheDev::set_clean_epoch", "other-copy-torn",
     [](Bench& bench) {
       with_device(bench);
       Bench::check(bench.cache_dev->set_clean_epoch(0, 5));
       bench.spoil(bench.cache_dev->geometry().device_states_copy);
       bench.image.settle(0, kBytes);
       bench.open();
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_clean_epoch(0, 6)); }},
    {"CacheDev::set_closed", "open", with_device,
     [](Bench& bench) {
       Bench::check(bench.cache_dev->set_closed(0, CacheDev::Closed{62, 123}));
     }},
    {"CacheDev::set_closed", "closed",
     [](Bench& bench) {
       with_device(bench);
       Bench::check(bench.cache_dev->set_closed(0, CacheDev::Closed{62, 123}));
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_closed(0, std::nullopt)); }},
    {"SegmentPool::take", "never-used", with_device, [](Bench& bench) { bench.take(1, 0); }},
    {"SegmentPool::take", "next-to-another",
     [](Bench& bench) {
       with_device(bench);
       bench.take(1, 0);
     },
     [](Bench& bench) { bench.take(1, 1); }},
    {"SegmentPool::take", "used-before",
     [](Bench& bench) {
       with_device(bench);
       while (bench.pool->free_count() > 1) bench.take(1, bench.pool->free_count());
       Bench::check(bench.pool->release(2));
       bench.take(1, 50);
     },
     [](Bench& bench) { bench.take(1, 51); }},
    {"SegmentPool::release", "one-of-two",
     [](Bench& bench) {
       with_device(bench);
       bench.take(1, 0);
       bench.take(1, 1);
     },
     [](Bench& bench) { Bench::check(bench.pool->release(0)); }},
    {"StreamLog::reserve", "first", with_device,
     [](Bench& bench) {
       bench.begin_log();
       Bench::check(bench.log->reserve().status());
     }},
    {"CacheDev::set_size", "larger",
     [](Bench& bench) {
       bench.format_small();
       bench.open();
     },
     [](Bench& bench) { Bench::check(bench.cache_dev->set_size(bench.sized(kBytes))); }},
    {"SegmentPool::grow", "two-more",
     [](Bench& bench) {
       bench.format_small();
       bench.open();
       bench.add("first");
       bench.take(1, 0);
     },
     [](Bench& bench) { Bench::check(bench.pool->grow(bench.sized(kBytes))); }},
    {"SegmentPool::shrink", "two-less",
     [](Bench& bench) {
       with_device(bench);
       bench.take(1, 0);
     },
     [](Bench& bench) {
       Bench::check(bench.pool->fence_off(bench.sized(kSmallBytes).segment_count));
       Bench::check(bench.pool->shrink(bench.sized(kSmallBytes)));
     }},
    {"StreamLog::append", "one-cell", with_log, [](Bench& bench) { bench.append(1, 2); }},
    {"StreamLog::append", "fenced", with_log, [](Bench& bench) { bench.append_zeroes(1, 2, Persist::fenced); }, true},
    {"StreamLog::append", "several", with_log, [](Bench& bench) { bench.append_zeroes(3, 2); }},
    {"StreamLog::commit", "staged", with_log,
     [](Bench& bench) {
       std::array<std::byte, kCellSize> cell;
       cell.fill(std::byte{0x55});
       LogEntry entry{RecordType::clean, 9, 1, cell.data()};
       ASSERT_EQ(bench.log->stage({&entry, 1}), 1U);
       Bench::check(bench.log->commit({&entry, 1}, 2, Persist::synced).status());
     }},
    {"StreamLog::skip", "filler", with_log, [](Bench& bench) { ASSERT_TRUE(bench.log->skip(2, Persist::synced)); }},
    {"StreamLog::void_records", "two-of-three",
     [](Bench& bench) {
       with_log(bench);
       bench.append_zeroes(3, 1);
     },
     [](Bench& bench) {
       const std::array<std::uint64_t, 2> lsns = {bench.log->next_lsn() - 3, bench.log->next_lsn() - 1};
       Bench::check(bench.log->void_records(lsns));
     }},
    {"StreamLog::release_front", "of-two",
     [](Bench& bench) {
       with_log(bench);
       while (bench.log->segments().size() < 2) bench.append_zeroes(1, 1);
     },
     [](Bench& bench) { Bench::check(bench.log->release_front()); }},
    {"StreamLog::release_all", "of-two",
     [](Bench& bench) {
       with_log(bench);
       while (bench.log->segments().size() < 2) bench.append_zeroes(1, 1);
     },
     [](Bench& bench) { Bench::check(bench.log->release_all()); }},
    {"StreamLog::settle", "fills-a-hole", with_hole,
     [](Bench& bench) {
       const auto holes = bench.find_log();
       ASSERT_EQ(holes.size(), 1U);
       ASSERT_TRUE(holes.front().torn);
       Bench::check(bench.log->settle(holes));
     }},
    {"StreamLog::settle", "erases-behind-the-end", with_records_behind_the_end,
     [](Bench& bench) {
       const auto holes = bench.find_log();
       Bench::check(bench.log->settle(holes));
     },
     false, false, true},
};

// The items on `medium`, which it is opened for, and changed by. Empty: it is no cache device.
Picture look(CrashMedium& medium, std::string& wrong) {
  Picture picture;
  const CrashSpace raw(medium);
  std::uint32_t tag = 0;
  for (const Uuid& uuid : {kUuid, kNextUuid}) {
    Superblock superblock{};
    superblock.uuid = uuid;
    const auto found = load_dual<Superblock>(raw, {0, kMediaPage}, cache_tag_of(superblock));
    if (!found) continue;
    tag = cache_tag_of(superblock);
    picture["uuid"] = uuid_text(found->uuid);
    picture["next id"] = std::to_string(found->next_device_id);
  }
  auto opened = CacheDev::open(std::make_unique<CrashSpace>(medium));
  if (!opened) {
    // Of what is half formatted, both places of the superblock may be empty.
    const Errc code = opened.status().code();
    if (code != Errc::integrity && code != Errc::invalid)
      wrong = "refused for another reason: " + opened.status().message();
    return {};
  }
  CacheDev& cache_dev = **opened;
  if (cache_dev.tag() != tag) wrong = "the uuid is of no formatting";
  picture["size"] = std::to_string(cache_dev.size_bytes());
  if (cache_dev.damaged_device_records() != 0) wrong = "a device record is damaged";
  const Geometry& g = cache_dev.geometry();
  for (const CacheDev::Device& device : cache_dev.devices()) {
    picture["device " + std::to_string(device.place)] =
        std::to_string(device.record.device_id) + " " + device.record.name.data() + " " +
        device.record.backing_id.data() + " " + device.record.backing_path.data() + " " +
        std::to_string(device.record.settings_given) + " " + std::to_string(device.record.settings[0]) + " " +
        std::to_string(device.record.flags);
    if (!cache_dev.clean_epoch(device.place)) wrong = "a device has no state";
  }
  for (std::uint32_t place = 0; place < 3; ++place) {
    const auto state = load_dual<DeviceState>(
        raw, {g.device_states + place * kRecordSize, g.device_states_copy + place * kRecordSize, place}, tag);
    if (!state) continue;
    picture["state " + std::to_string(place)] =
        std::to_string(state->device_id) + " " + std::to_string(state->clean_epoch) + " " +
        std::to_string(state->closed) + " " + std::to_string(state->closed_first_lsns) + " " +
        std::to_string(state->closed_next_lsns);
  }
  SegmentPool pool(cache_dev);
  if (pool.damaged_count() != 0) wrong = "a segment entry is damaged";
  std::uint32_t in_use = 0;
  for (SegmentId id = 0; id < pool.total(); ++id) {
    const auto entry = load_dual<SegmentEntry>(
        raw, {g.segment_table + id * kRecordSize, g.segment_table_copy + id * kRecordSize, id}, tag);
    if (!entry) continue;
    if (entry->state == SegmentState::log) ++in_use;
    picture["segment " + std::to_string(id)] =
        std::to_string(static_cast<int>(entry->state)) + " " + std::to_string(entry->generation) + " " +
        std::to_string(entry->chain) + " " + std::to_string(entry->first_lsn) + " " + std::to_string(entry->device_id);
  }
  if (in_use != pool.in_use().size() || in_use + pool.free_count() != pool.total()) wrong = "a segment is missing";

  // The log of device 1, where its segments are a chain: others are only taken.
  StreamLog log(cache_dev, pool, 1, 0);
  if (log.adopt(pool.in_use())) {
    const auto holes =
        log.replay({kDeviceBlocks, log.last_epoch(), 0, cache_dev.closed(0).has_value()},
                   [&](std::uint64_t lsn, const KeyRecord& record) {
                     if (record.type == RecordType::filler) return;
                     std::array<std::byte, kCellSize> cell{};
                     const SegmentId segment = log.slot_of(lsn) / g.slots_per_segment;
                     raw.read(g.cell_offset(segment, log.slot_of(lsn) % g.slots_per_segment), cell.data(), cell.size());
                     const bool payload = record.type == RecordType::write || record.type == RecordType::clean;
                     const bool intact = !payload || crc32c(cell.data(), cell.size()) == record.payload_crc;
                     picture["record " + std::to_string(lsn)] =
                         std::to_string(record.block) + " " + std::to_string(record.epoch) + " " +
                         std::to_string(record.payload_crc) + (intact ? "" : " without its cell");
                   });
    for (const StreamLog::Hole& hole : holes) {
      // Where no log was written the segments that follow each other leave holes.
      if (!hole.torn && picture.count("record 0") != 0) wrong = "a record is missing and no crash explains it";
    }
  }
  return picture;
}

class MetadataCutTest : public testing::TestWithParam<std::pair<Granularity, const Update*>> {
 protected:
  const Update& update() const { return *GetParam().second; }

  Picture look_and_roll_back() {
    std::string wrong;
    const std::size_t mark = bench_.durable.mark();
    Picture found = look(bench_.durable, wrong);
    bench_.durable.roll_back(mark);
    EXPECT_EQ(wrong, "");
    return found;
  }

  // Every state that a cut now may leave. `pieces`: where what is pending differs from what is durable.
  void cut_everywhere() {
    ++fences_;
    std::size_t size = 0;
    const std::vector<std::size_t> pieces = smallest_pieces(size);
    ASSERT_LE(pieces.size(), kMostPieces) << "more is pending than all subsets can be tried of";
    for (std::uint64_t subset = 0; subset < std::uint64_t{1} << pieces.size() && !HasFailure(); ++subset) {
      const std::size_t mark = bench_.durable.mark();
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        if ((subset >> i & 1) != 0) bench_.durable.store(pieces[i], bench_.image.data() + pieces[i], size);
      }
      ++states_;
      SCOPED_TRACE(testing::Message() << "fence " << fences_ << ", subset " << subset << " of " << pieces.size()
                                      << " pieces of " << size << " bytes");
      check_between(look_and_roll_back());
      bench_.durable.roll_back(mark);
    }
  }

  // Words, lines and pages: the smallest of which there are not too many. Page media: sectors at least.
  std::vector<std::size_t> smallest_pieces(std::size_t& size) {
    std::vector<std::size_t> pieces;
    for (const std::size_t candidate : {8, 64, 512, 4096}) {
      if (candidate < 512 && bench_.image.granularity() == Granularity::page) continue;
      size = candidate;
      pieces.clear();
      for (std::size_t at = 0; at < kBytes; at += size) {
        if (std::memcmp(bench_.image.data() + at, bench_.durable.data() + at, size) != 0) pieces.push_back(at);
      }
      if (pieces.size() <= kMostPieces) break;
    }
    return pieces;
  }

  void check_between(const Picture& found) {
    if (found.empty() && update().may_be_refused) return;
    ASSERT_FALSE(found.empty()) << "no cache device is found";
    // A formatting is one item: nothing of two of them is found together.
    if (update().may_be_refused) {
      EXPECT_TRUE(found == before_ || found == after_) << "neither the old nor the new cache device is found";
      return;
    }
    std::set<std::string> names;
    for (const Picture& picture : {found, before_, after_}) {
      for (const auto& [name, value] : picture) names.insert(name);
    }
    for (const std::string& name : names) {
      const std::string value = value_of(found, name);
      EXPECT_TRUE(value == value_of(before_, name) || value == value_of(after_, name))
          << name << " is '" << value << "', was '" << value_of(before_, name) << "' and becomes '"
          << value_of(after_, name) << "'";
    }
  }

  static std::string value_of(const Picture& picture, const std::string& name) {
    const auto found = picture.find(name);
    return found == picture.end() ? "" : found->second;
  }

  Bench bench_{GetParam().first};
  Picture before_;
  Picture after_;
  std::uint64_t fences_ = 0;
  std::uint64_t states_ = 0;
};

TEST_P(MetadataCutTest, LeavesTheOldOrTheNewValueOfEachItemAndAllOthersAsTheyWere) {
  {
    Bench twin(GetParam().first);  // to know what it comes to
    update().prepare(twin);
    update().run(twin);
    twin.image.settle(0, kBytes);
    std::string wrong;
    after_ = look(twin.durable, wrong);
    ASSERT_EQ(wrong, "");
  }
  update().prepare(bench_);
  bench_.image.settle(0, kBytes);
  before_ = look_and_roll_back();
  bench_.image.on_fence = [this] { cut_everywhere(); };
  update().run(bench_);
  bench_.image.on_fence = nullptr;
  const bool early = update().returns_early && GetParam().first == Granularity::page;
  EXPECT_TRUE(fences_ != 0 || early) << "nothing was fenced";
  if (early) {
    cut_everywhere();
  } else {
    EXPECT_EQ(look_and_roll_back(), after_) << "it returned before it was durable";
  }
  RecordProperty("states", std::to_string(states_));
}

std::vector<std::pair<Granularity, const Update*>> all_updates() {
  std::vector<std::pair<Granularity, const Update*>> all;
  for (const Update& update : kUpdates) {
    if (!update.only_on_page) all.emplace_back(Granularity::cache_line, &update);
    all.emplace_back(Granularity::page, &update);
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<std::pair<Granularity, const Update*>>& parameters) {
  const auto& [granularity, update] = parameters.param;
  const std::string name = std::string(update->member) + "_" + update->when;
  return std::regex_replace(name, std::regex("::|-"), "_") + "_on_" + to_string(granularity);
}

INSTANTIATE_TEST_SUITE_P(Media, MetadataCutTest, testing::ValuesIn(all_updates()), name_of);

// Members of a class that may change something: public, not const, and they can fail.
std::set<std::string> changing_members(const std::string& header, const std::string& type) {
  std::ifstream file(std::string(PCACHE_SOURCE_DIR) + "/src/" + header);
  EXPECT_TRUE(file) << header;
  std::set<std::string> members;
  bool in_public = false;
  const std::regex member(R"(^  (?:static |\[\[nodiscard\]\] )*(?:Status|bool|std::uint32_t|Result<.*>) (\w+)\(.*)");
  std::string declaration;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(" public:", 0) == 0) in_public = true;
    if (line.rfind(" private:", 0) == 0) in_public = false;
    if (!in_public || line.find("//") < line.find_first_not_of(' ') + 2) continue;
    declaration = declaration.empty() ? line : declaration + line;
    if (declaration.find('(') != std::string::npos && declaration.find_first_of(";{") == std::string::npos) continue;
    std::smatch match;
    const bool is_const = std::regex_search(declaration, std::regex(R"(\) const)"));
    if (!is_const && std::regex_match(declaration, match, member)) members.insert(type + "::" + match[1].str());
    declaration.clear();
  }
  return members;
}

TEST(MetadataCutTableTest, EveryMemberThatChangesSomethingIsCut) {
  std::set<std::string> found;
  found.merge(changing_members("segment/cache_dev.h", "CacheDev"));
  found.merge(changing_members("segment/segment_pool.h", "SegmentPool"));
  found.merge(changing_members("log/stream_log.h", "StreamLog"));
  // These change nothing on the medium, or nothing that counts.
  for (const char* harmless : {"CacheDev::plan", "StreamLog::adopt", "StreamLog::stage", "SegmentPool::fence_off"}) {
    EXPECT_EQ(found.erase(harmless), 1U) << harmless << " is not there any more";
  }
  std::set<std::string> cut;
  for (const Update& update : kUpdates) cut.insert(update.member);
  EXPECT_EQ(cut, found);
}

}  // namespace
}  // namespace pcache
