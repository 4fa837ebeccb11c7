#include "tests/crash/crash_rig.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/crc32c.h"
#include "base/units.h"
#include "tests/support/engine_rig.h"

namespace pcache {
namespace {

constexpr std::array<std::uint8_t, 16> kUuid = {7, 7, 7, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
constexpr std::uint64_t kSegmentBytes = 256 * kKiB;

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "crash rig: %s\n", status.message().c_str());
  std::abort();
}

}  // namespace

CrashRig::CrashRig(const CrashShape& shape, std::uint64_t seed, CrashCounts& counts)
    : shape_(shape),
      counts_(counts),
      random_(seed),
      image_(shape.cache_bytes),
      scratch_(shape.cache_bytes),
      backing_(std::make_shared<BackingImage>(shape.device_bytes)),
      latest_(sectors()),
      possible_(sectors()) {
  exploring_ = true;
  {
    CrashSpace space(image_, shape_.granularity);
    must(CacheDev::format(space, {kUuid, "crash", kSegmentBytes}));
  }
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    const auto content = new_content(512);
    std::copy(content.begin(), content.end(), backing_->current.begin() + static_cast<std::ptrdiff_t>(sector * 512));
    latest_[sector] = value_at(content.data());
  }
  backing_->durable = backing_->current;
  may_be_absent_ = true;
  engine_ = open(image_, backing_, nullptr);
  may_be_absent_ = false;
  boundary();
  settle_all();
  // A third is cached clean, a third dirty and flushed, a third not cached.
  const std::uint64_t third = align_down(shape_.device_bytes / 3, kBlockSize);
  read(0, third);
  write(third, third);
  flush();
  scratch_ = CrashImage(image_);
  exploring_ = false;
}

CrashRig::~CrashRig() { exploring_ = true; }

CrashRig::Engine CrashRig::open(CrashImage& image, const std::shared_ptr<BackingImage>& backing,
                                const std::function<void(const CrashSpace&)>& on_fence) {
  Engine engine;
  auto space = std::make_unique<CrashSpace>(image, shape_.granularity);
  engine.space = space.get();
  if (&image == &image_) {
    engine_.space = space.get();
    attach_hooks();
  }
  if (on_fence) space->on_fence = [&on_fence, at = space.get()] { on_fence(*at); };
  auto cache_dev = CacheDev::open(std::move(space));
  if (!cache_dev) {
    fail("the cache device does not open: " + cache_dev.status().message());
    return engine;
  }
  CacheOptions options;
  options.ack = shape_.ack;
  auto cache = Cache::open(std::move(*cache_dev), options);
  if (!cache) {
    fail("the cache does not open: " + cache.status().message());
    return engine;
  }
  engine.cache = std::move(*cache);
  const auto held = engine.cache->cache_dev().devices();
  if (held.empty() && !may_be_absent_) {
    fail("the logical device is not there any more");
    return engine;
  }
  auto backing_dev = std::make_unique<FakeBackingDev>(backing);
  engine.backing = backing_dev.get();
  if (&image == &image_) backing_dev->on_write = [this](std::uint64_t, std::uint64_t) { explore(); };
  auto device = held.empty() ? engine.cache->add("dev", std::move(backing_dev))
                             : engine.cache->attach(held.front(), std::move(backing_dev));
  if (!device) {
    fail("the logical device does not come up: " + device.status().message());
    return engine;
  }
  engine.device = std::move(*device);
  if (on_fence) engine.space->on_fence = nullptr;
  if (engine.device->failed()) fail("the logical device is failed: " + engine.device->stats().detail);
  return engine;
}

void CrashRig::attach_hooks() {
  engine_.space->on_fence = [this] { explore(); };
  engine_.space->on_durable = [this](std::size_t offset, std::span<const std::byte> content) {
    scratch_.store(offset, content.data(), content.size());
  };
}

void CrashRig::fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

bool CrashRig::durable_when_acknowledged() const {
  return shape_.granularity != Granularity::page || shape_.ack == Ack::durable;
}

std::uint64_t CrashRig::value_at(const std::byte* sector) {
  std::uint64_t value = 0;
  std::memcpy(&value, sector, sizeof value);
  return value;
}

std::uint64_t CrashRig::digest(const Values& values) {
  std::uint64_t sum = 0xcbf29ce484222325;  // FNV-1a over words
  for (const std::uint64_t value : values) sum = (sum ^ value) * 0x100000001b3;
  return sum;
}

// Each sector gets a value of its own that was never used before.
std::vector<std::byte> CrashRig::new_content(std::uint64_t length) {
  std::vector<std::byte> content(length);
  for (std::uint64_t at = 0; at < length; at += 512) {
    const std::uint64_t value = next_value_++ * 0x9e3779b97f4a7c15;  // never 0, which is what discards leave
    for (std::uint64_t word = 0; word < 512; word += sizeof value)
      std::memcpy(&content[at + word], &value, sizeof value);
  }
  return content;
}

void CrashRig::may_become(std::uint64_t offset, const std::vector<std::byte>& content) {
  for (std::uint64_t at = 0; at < content.size(); at += 512) {
    latest_[(offset + at) / 512] = value_at(&content[at]);
    possible_[(offset + at) / 512].push_back(value_at(&content[at]));
  }
}

void CrashRig::has_become(std::uint64_t offset, std::uint64_t length) {
  if (!durable_when_acknowledged()) return;
  for (std::uint64_t sector = offset / 512; sector < (offset + length) / 512; ++sector) {
    possible_[sector] = {latest_[sector]};
  }
}

void CrashRig::settle_all() {
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) possible_[sector] = {latest_[sector]};
}

void CrashRig::boundary() { boundaries_.insert(digest(latest_)); }

// --- Operations

// So that no epoch closes in the middle of an operation.
void CrashRig::make_room() {
  while (failure_.empty() && engine_.cache->pool().free_count() < engine_.cache->reserve() + 2) {
    if (engine_.device->dirty_bytes() != 0) drain();
    if (!engine_.cache->reclaim_step()) return;
  }
}

void CrashRig::write(std::uint64_t offset, std::uint64_t length) {
  if (!failure_.empty()) return;
  make_room();
  const auto content = new_content(length);
  may_become(offset, content);
  Outcome outcome;
  engine_.device->write(offset, content, outcome.completion());
  if (outcome.error != 0) fail("a write failed: " + std::to_string(outcome.error));
  has_become(offset, length);
}

void CrashRig::discard(std::uint64_t offset, std::uint64_t length) {
  if (!failure_.empty()) return;
  make_room();
  may_become(offset, std::vector<std::byte>(length));
  Outcome outcome;
  engine_.device->discard(offset, length, outcome.completion());
  if (outcome.error != 0) fail("a discard failed: " + std::to_string(outcome.error));
  has_become(offset, length);
}

void CrashRig::read(std::uint64_t offset, std::uint64_t length) {
  if (!failure_.empty()) return;
  std::vector<std::byte> found(length);
  Outcome outcome;
  engine_.device->read(offset, found, outcome.completion());
  if (outcome.error != 0) fail("a read failed: " + std::to_string(outcome.error));
  for (std::uint64_t at = 0; at < length; at += 512) {
    if (value_at(&found[at]) != latest_[(offset + at) / 512]) fail("a read returns old data before any cut");
  }
}

void CrashRig::flush() {
  if (!failure_.empty()) return;
  boundary();
  Outcome outcome;
  engine_.device->flush(outcome.completion());
  if (outcome.error != 0) fail("a flush failed: " + std::to_string(outcome.error));
  settle_all();
}

void CrashRig::close_epoch() {
  if (!failure_.empty()) return;
  boundary();
  if (!engine_.cache->commit({engine_.device.get()}).ok()) fail("a commit failed");
  settle_all();
}

void CrashRig::writeback() {
  if (!failure_.empty()) return;
  close_epoch();
  engine_.device->writeback_step();
}

void CrashRig::drain() {
  if (!failure_.empty()) return;
  boundary();
  if (engine_.device->drain(0) != 0) fail("a drain failed");
  settle_all();
}

void CrashRig::reclaim() {
  if (!failure_.empty()) return;
  for (const auto& victim : engine_.device->victims()) {
    if (victim.clean) engine_.device->reclaim_front(victim.stream);
  }
}

void CrashRig::reopen() {
  if (!failure_.empty()) return;
  boundary();
  engine_.device.reset();
  engine_.cache.reset();
  settle_all();
  engine_ = open(image_, backing_, nullptr);
  if (!failure_.empty()) return;
  boundary();
  read(0, shape_.device_bytes);
}

// What the process stored stays visible, and on page media the oracle still does not count on it.
void CrashRig::kill() {
  if (!failure_.empty()) return;
  const CrashImage dead(image_);
  const BackingImage backing(*backing_);
  exploring_ = true;
  engine_.device.reset();
  engine_.cache.reset();  // on images that are thrown away
  exploring_ = false;
  image_ = CrashImage(dead);
  *backing_ = backing;
  if (shape_.granularity != Granularity::page) {
    scratch_ = CrashImage(image_);
  } else {
    // The kernel writes its pages in its own time: here, at once.
    scratch_ = CrashImage(image_);
    settle_all();
  }
  boundary();
  engine_ = open(image_, backing_, nullptr);
  if (!failure_.empty()) return;
  settle_all();
  boundary();
  read(0, shape_.device_bytes);
}

void CrashRig::remove() {
  if (!failure_.empty()) return;
  drain();
  may_be_absent_ = true;
  if (Status status = engine_.cache->remove(engine_.device); !status.ok()) fail("remove: " + status.message());
  engine_.device.reset();
  if (!failure_.empty()) return;
  auto backing_dev = std::make_unique<FakeBackingDev>(backing_);
  engine_.backing = backing_dev.get();
  backing_dev->on_write = [this](std::uint64_t, std::uint64_t) { explore(); };
  auto added = engine_.cache->add("dev", std::move(backing_dev));
  if (!added) return fail("add: " + added.status().message());
  engine_.device = std::move(*added);
  may_be_absent_ = false;
}

// --- Cuts

void CrashRig::explore() {
  if (exploring_ || !failure_.empty()) return;
  exploring_ = true;
  ++counts_.fences;
  check_backing();
  const CrashSpace& space = *engine_.space;
  const std::size_t units = space.pending().size();
  if (units <= shape_.exhaustive_units) {
    for (std::uint64_t survivors = 0; survivors < std::uint64_t{1} << units; ++survivors) {
      recover_from(space.choose(survivors));
    }
  } else {
    recover_from(space.lose_all());
    recover_from(space.choose(~std::uint64_t{0}));
    recover_from(space.choose(random_()));
  }
  for (std::uint32_t i = 0; i < shape_.torn_states && units != 0; ++i) recover_from(space.tear(random_));
  exploring_ = false;
}

void CrashRig::recover_from(const std::vector<CrashSpace::Patch>& patches) {
  if (!failure_.empty()) return;
  std::uint64_t sum = counts_.fences;
  for (const auto& patch : patches) {
    sum = (sum ^ patch.offset) * 0x100000001b3;
    sum = (sum ^ crc32c(patch.content.data(), patch.content.size())) * 0x100000001b3;
  }
  if (!seen_.insert(sum).second) return;
  ++counts_.states;
  ++counts_.distinct;
  scratch_.mark();
  for (const auto& patch : patches) scratch_.store(patch.offset, patch.content.data(), patch.content.size());
  check_recovered(scratch_, backing_after_cut(*backing_), possible_, counts_.states % shape_.recut_every == 0,
                  counts_.states % shape_.work_every == 0);
  scratch_.roll_back();
}

// The backing after a cut: what it was told to flush, and of the rest any sectors.
std::shared_ptr<BackingImage> CrashRig::backing_after_cut(const BackingImage& backing) {
  auto image = std::make_shared<BackingImage>(backing);
  for (std::size_t at = 0; at < image->durable.size(); at += 512) {
    if (std::memcmp(&image->durable[at], &image->current[at], 512) != 0 && below(2) == 0) {
      std::memcpy(&image->durable[at], &image->current[at], 512);
    }
  }
  image->current = image->durable;
  return image;
}

CrashRig::Cut CrashRig::cut_now(const CrashSpace& space, const BackingImage& backing,
                                const std::vector<Values>& possible) {
  Cut cut{space.image(), backing_after_cut(backing), possible};
  for (const auto& [offset, pending] : space.pending()) {
    cut.image.store(offset, pending.versions.front().data(), pending.versions.front().size());
  }
  for (const auto& patch : space.tear(random_))
    cut.image.store(patch.offset, patch.content.data(), patch.content.size());
  return cut;
}

void CrashRig::check_recovered(CrashImage& image, const std::shared_ptr<BackingImage>& backing,
                               const std::vector<Values>& possible, bool cut_recovery, bool work) {
  std::vector<Cut> cuts;  // of the recovery; recovered from afterwards
  const auto cut = [&](const CrashSpace& space) {
    constexpr std::size_t kMost = 4;
    if (cuts.size() < kMost) cuts.push_back(cut_now(space, *backing, possible));
  };
  Engine engine = open(image, backing, cut_recovery ? std::function<void(const CrashSpace&)>(cut) : nullptr);
  if (!failure_.empty()) return;
  const auto found = read_all(engine);
  if (!found) return;
  check_possible(*found, possible);
  if (work && failure_.empty()) go_on_working(engine, image, backing, *found);
  engine.device.reset();
  engine.cache.reset();
  recover_again(cuts);
}

void CrashRig::recover_again(std::vector<Cut>& cuts) {
  for (Cut& cut : cuts) {
    if (!failure_.empty()) return;
    ++counts_.states;
    ++counts_.distinct;
    ++counts_.second_cuts;
    check_recovered(cut.image, cut.backing, cut.possible, false, false);
  }
}

// After a recovery everything works, what it found is found again, and the power may go once more.
void CrashRig::go_on_working(Engine& engine, CrashImage& image, const std::shared_ptr<BackingImage>& backing,
                             Values values) {
  std::vector<Cut> cuts;
  std::vector<Values> possible(sectors());
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) possible[sector] = {values[sector]};
  engine.space->on_fence = [&] {
    constexpr std::uint64_t kOneOf = 16;
    if (below(kOneOf) == 0) cuts.push_back(cut_now(*engine.space, *backing, possible));
  };
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t first = below(sectors());
    const std::uint64_t count = std::min<std::uint64_t>(1 + below(24), sectors() - first);
    const auto content = below(4) == 0 ? std::vector<std::byte>(count * 512) : new_content(count * 512);
    for (std::uint64_t sector = 0; sector < count; ++sector) {
      values[first + sector] = value_at(&content[sector * 512]);
      possible[first + sector].push_back(values[first + sector]);
    }
    Outcome outcome;
    if (value_at(content.data()) == 0) {
      engine.device->discard(first * 512, content.size(), outcome.completion());
    } else {
      engine.device->write(first * 512, content, outcome.completion());
    }
    if (!outcome.done || outcome.error != 0) return fail("after the recovery an operation fails");
    if (durable_when_acknowledged()) {
      for (std::uint64_t sector = first; sector < first + count; ++sector) possible[sector] = {values[sector]};
    }
    if (below(2) == 0) {
      if (!engine.cache->commit({engine.device.get()}).ok()) return fail("after the recovery a commit fails");
      engine.device->writeback_step();
    }
  }
  engine.space->on_fence = nullptr;
  if (read_all(engine) != values) return fail("after the recovery a read returns old data");
  engine.device.reset();
  engine.cache.reset();
  Engine again = open(image, backing, nullptr);
  if (!failure_.empty()) return;
  if (read_all(again) != values) return fail("after the recovery and a clean shutdown data is missing");
  if (again.device->drain(0) != 0) return fail("after the recovery a drain fails");
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    if (value_at(&backing->durable[sector * 512]) != values[sector]) {
      return fail("after the recovery and a drain the backing lacks sector " + std::to_string(sector));
    }
  }
  recover_again(cuts);
}

std::optional<CrashRig::Values> CrashRig::read_all(Engine& engine) {
  std::vector<std::byte> bytes(shape_.device_bytes);
  Outcome outcome;
  engine.device->read(0, bytes, outcome.completion());
  if (!outcome.done || outcome.error != 0) {
    fail("reading all of the device fails: " + std::to_string(outcome.error));
    return std::nullopt;
  }
  Values values(sectors());
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    const std::byte* const at = &bytes[sector * 512];
    values[sector] = value_at(at);
    if (std::memcmp(at, at + 8, 504) != 0) fail("sector " + std::to_string(sector) + " is a mixture");
  }
  return values;
}

void CrashRig::check_possible(const Values& found, const std::vector<Values>& possible) {
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    const Values& values = possible[sector];
    if (std::find(values.begin(), values.end(), found[sector]) == values.end()) {
      return fail("sector " + std::to_string(sector) + " is none of its " + std::to_string(values.size()) +
                  " possible values");
    }
  }
}

void CrashRig::check_backing() {
  Values values(sectors());
  for (std::uint64_t sector = 0; sector < sectors(); ++sector)
    values[sector] = value_at(&backing_->durable[sector * 512]);
  if (boundaries_.count(digest(values)) == 0) fail("the backing alone is the state of no flush boundary");
}

}  // namespace pcache
