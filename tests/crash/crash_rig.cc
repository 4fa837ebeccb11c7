#include "tests/crash/crash_rig.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/units.h"
#include "tests/support/engine_rig.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSegmentBytes = 256 * kKiB;
constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t kWorkValues = std::uint64_t{1} << 60;  // what the work after a recovery writes
constexpr std::size_t kOtherBytes = 6 * kBlockSize - 1024;

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "crash rig: %s\n", status.message().c_str());
  std::abort();
}

std::uint64_t mixed(std::uint64_t x) { return CrashRandom(x)(); }

std::uint64_t value_at(const std::byte* sector) {
  std::uint64_t value = 0;
  std::memcpy(&value, sector, sizeof value);
  return value;
}

// A sum of these over all lines tells two contents of a medium apart, and can be kept up to date line by line.
std::uint64_t line_digest(std::size_t offset, const std::byte* line) {
  std::uint64_t sum = offset + 0xcbf29ce484222325;
  for (std::size_t at = 0; at < kLine; at += 8) {
    sum = (sum ^ value_at(line + at)) * 0x9e3779b97f4a7c15;
    sum ^= sum >> 32;
  }
  return sum;
}

std::uint64_t lines_digest(const CrashMedium& medium, std::size_t offset, std::size_t length) {
  std::uint64_t sum = 0;
  for (std::size_t at = align_down(offset, kLine); at < offset + length; at += kLine) {
    sum += line_digest(at, medium.data() + at);
  }
  return sum;
}

std::uint64_t sectors_digest(const std::vector<std::byte>& content) {
  std::uint64_t sum = 0xcbf29ce484222325;
  for (std::size_t at = 0; at < content.size(); at += 512) {
    sum = (sum ^ value_at(&content[at])) * 0x9e3779b97f4a7c15;
    sum ^= sum >> 32;
  }
  return sum;
}

std::uint64_t possible_digest(const std::vector<std::vector<std::uint64_t>>& possible) {
  std::uint64_t sum = 0;
  for (const auto& values : possible) {
    for (const std::uint64_t value : values) sum = (sum ^ value) * 0x9e3779b97f4a7c15;
    sum = (sum ^ sum >> 32 ^ 1) * 0x100000001b3;
  }
  return sum;
}

}  // namespace

bool DigestSet::insert(std::uint64_t digest) {
  const auto place_of = [this](std::uint64_t wanted) {
    std::size_t place = wanted % table_.size();
    while (table_[place] != 0 && table_[place] != wanted) place = (place + 1) % table_.size();
    return place;
  };
  if (digest == 0) digest = 1;
  if (table_[place_of(digest)] == digest) return false;
  if (++count_ * 2 > table_.size()) {
    std::vector<std::uint64_t> old(table_.size() * 2);
    old.swap(table_);
    for (const std::uint64_t kept : old) {
      if (kept != 0) table_[place_of(kept)] = kept;
    }
  }
  table_[place_of(digest)] = digest;
  return true;
}

// Both media begin as an engine leaves them that closed in order: a third of the device is cached clean, a third dirty
// and flushed, a third not cached.
CrashRig::CrashRig(const CrashShape& shape, std::uint64_t seed)
    : shape_(shape),
      seed_(seed),
      image_(shape.cache_bytes, shape.granularity),
      scratch_(shape.cache_bytes, shape.granularity),
      backing_(std::make_shared<BackingImage>(shape.device_bytes)),
      other_backing_(std::make_shared<BackingImage>(kOtherBytes)),
      first_backing_(shape.device_bytes),
      first_other_backing_(kOtherBytes),
      uuid_{7, 7, 7, 7},
      cut_backing_(std::make_shared<BackingImage>(shape.device_bytes)),
      buffer_(shape.device_bytes) {
  {
    CrashSpace space(image_);
    must(CacheDev::format(space, {uuid_, "crash", kSegmentBytes}));
  }
  oracle_.next_value = (seed & 0xffff) << 40 | 1;
  oracle_.latest.resize(sectors());
  oracle_.possible.resize(sectors());
  backing_->current = new_content(shape.device_bytes, oracle_.next_value);
  backing_->durable = backing_->current;
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    oracle_.latest[sector] = value_at(&backing_->current[sector * 512]);
  }
  other_backing_->current = new_content(kOtherBytes, oracle_.next_value);
  other_backing_->durable = other_backing_->current;
  for (std::size_t at = 0; at < kOtherBytes; at += 512) other_values_.push_back(value_at(&other_backing_->current[at]));
  boundary();
  settle_all();
  device_may_be_absent_ = other_may_be_absent_ = true;
  engine_ = open(image_, backing_);
  device_may_be_absent_ = other_may_be_absent_ = false;
  const auto content = new_content(4 * kBlockSize, oracle_.next_value);
  for (std::size_t at = 0; at < content.size(); at += 512) {
    other_values_[(kBlockSize + at) / 512] = value_at(&content[at]);
  }
  dirty_other();
  const std::uint64_t third = align_down(shape_.device_bytes / 3, kBlockSize);
  read(0, third);
  write(third, third);
  flush();
  engine_.close();

  scratch_.store(0, image_.data(), image_.size());
  image_mark_ = image_.mark();
  scratch_mark_ = scratch_.mark();
  first_oracle_ = oracle_;
  first_backing_ = *backing_;
  first_other_backing_ = *other_backing_;
  first_uuid_ = uuid_;
  image_.on_fence = [this] { moment(); };
  image_.on_durable = [this](std::size_t offset, std::span<const std::byte> durable) {
    digest_ -= lines_digest(scratch_, offset, durable.size());
    scratch_.store(offset, durable.data(), durable.size());
    digest_ += lines_digest(scratch_, offset, durable.size());
  };
  image_.track(true);
  start(0);
}

CrashRig::~CrashRig() { engine_.die(); }

void CrashRig::start(std::uint64_t number) {
  exploring_ = false;
  engine_.die();
  image_.roll_back(image_mark_);
  scratch_.roll_back(scratch_mark_);
  digest_ = 0;
  oracle_ = first_oracle_;
  *backing_ = first_backing_;
  *other_backing_ = first_other_backing_;
  uuid_ = first_uuid_;
  formatting_ = device_may_be_absent_ = other_may_be_absent_ = false;
  modes_ = {ModeChoice()};
  random_ = CrashRandom(mixed(mixed(seed_) + number));
  engine_ = open(image_, backing_);
}

void CrashRig::Engine::close() {
  device.reset();
  other.reset();
  cache.reset();
  space = nullptr;
  backing = nullptr;
}

void CrashRig::Engine::die() {
  if (space != nullptr) space->die();
  if (backing != nullptr) {
    backing->on_write = nullptr;
    backing->fail({.flushes = 1 << 20});
  }
  close();
}

CrashRig::Engine CrashRig::open(CrashMedium& medium, const std::shared_ptr<BackingImage>& backing) {
  if (&medium == &image_) flush_must_fail_ = false;
  Engine engine;
  auto space = std::make_unique<CrashSpace>(medium);
  CrashSpace* const at = space.get();
  auto cache_dev = CacheDev::open(std::move(space));
  if (!cache_dev) {
    // A format that was cut off leaves no cache device, and says so.
    const Errc code = cache_dev.status().code();
    if (!formatting_ || (code != Errc::integrity && code != Errc::invalid)) {
      fail("the cache device does not open: " + cache_dev.status().message());
    }
    return engine;
  }
  const bool is_old = formatting_ && (*cache_dev)->uuid() == old_uuid_;
  const bool is_new = formatting_ && !is_old;
  if (!is_old && (*cache_dev)->uuid() != uuid_) fail("the cache device has the uuid of none that ever was");
  CacheOptions options;
  options.settings = shape_.settings;
  options.ack = shape_.ack;
  auto cache = Cache::open(std::move(*cache_dev), options);
  if (!cache) {
    fail("the cache does not open: " + cache.status().message());
    return engine;
  }
  engine.cache = std::move(*cache);
  engine.space = at;
  if (is_new && first_recovery_ &&
      (!engine.cache->cache_dev().devices().empty() ||
       engine.cache->pool().free_count() != engine.cache->pool().total())) {
    fail("a cache device that was formatted is not empty");
  }
  first_recovery_ = false;
  auto backing_dev = make_backing(backing, &medium == &image_);
  engine.backing = backing_dev.get();
  engine.device = bring_up(engine, false, is_new || device_may_be_absent_, std::move(backing_dev));
  engine.other = bring_up(engine, true, is_new || other_may_be_absent_, make_other_backing());
  check_other(engine);
  return engine;
}

std::unique_ptr<FakeBackingDev> CrashRig::make_backing(const std::shared_ptr<BackingImage>& image, bool explored) {
  auto backing = std::make_unique<FakeBackingDev>(image);
  if (explored) {
    backing->on_write = [this](std::uint64_t, std::uint64_t) {
      ++backing_calls_;
      moment();
    };
  }
  return backing;
}

std::unique_ptr<FakeBackingDev> CrashRig::make_other_backing() {
  return std::make_unique<FakeBackingDev>(other_backing_, "/fake/other", "fake:2");
}

std::shared_ptr<CachedDevice> CrashRig::bring_up(Engine& engine, bool other, bool may_be_absent,
                                                 std::unique_ptr<FakeBackingDev> backing) {
  const std::string_view name = other ? "other" : "dev";
  const auto held = engine.cache->cache_dev().devices();
  const auto found = std::find_if(held.begin(), held.end(),
                                  [&](const CacheDev::Device& device) { return device.record.name.data() == name; });
  if (found == held.end() && !may_be_absent) {
    fail("the logical device " + std::string(name) + " is not there any more");
    return nullptr;
  }
  auto device = found == held.end() ? engine.cache->add(std::string(name), std::move(backing))
                                    : engine.cache->attach(*found, std::move(backing));
  if (!device) {
    fail("the logical device " + std::string(name) + " does not come up: " + device.status().message());
    return nullptr;
  }
  if ((*device)->failed()) {
    fail("the logical device " + std::string(name) + " is failed: " + (*device)->stats().detail);
    return nullptr;
  }
  return *device;
}

void CrashRig::check_other(Engine& engine) {
  if (engine.other == nullptr) return;
  std::array<std::byte, kOtherBytes> bytes;
  Outcome outcome;
  engine.other->read(0, bytes, outcome.completion());
  if (!outcome.done || outcome.error != 0) return fail("reading the other logical device fails");
  for (std::size_t sector = 0; sector < other_values_.size(); ++sector) {
    if (value_at(&bytes[sector * 512]) != other_values_[sector] ||
        std::memcmp(&bytes[sector * 512], &bytes[sector * 512 + 8], 504) != 0) {
      return fail("sector " + std::to_string(sector) + " of the other logical device changed");
    }
  }
}

void CrashRig::fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

bool CrashRig::durable_when_acknowledged(const Engine& engine) const {
  return !is_direct(engine.device->mode()) && (shape_.granularity != Granularity::page || shape_.ack == Ack::durable);
}

// Each sector gets a value of its own that was never used before.
std::vector<std::byte> CrashRig::new_content(std::uint64_t length, std::uint64_t& next_value) {
  std::vector<std::byte> content(length);
  for (std::uint64_t at = 0; at < length; at += 512) {
    const std::uint64_t value = next_value++ * 0x9e3779b97f4a7c15;  // never 0, which is what discards leave
    for (std::uint64_t word = 0; word < 512; word += sizeof value)
      std::memcpy(&content[at + word], &value, sizeof value);
  }
  return content;
}

void CrashRig::may_become(std::uint64_t offset, const std::vector<std::byte>& content) {
  for (std::uint64_t at = 0; at < content.size(); at += 512) {
    oracle_.latest[(offset + at) / 512] = value_at(&content[at]);
    oracle_.possible[(offset + at) / 512].push_back(value_at(&content[at]));
  }
}

void CrashRig::has_become(std::uint64_t offset, std::uint64_t length) {
  if (!durable_when_acknowledged(engine_)) return;
  for (std::uint64_t sector = offset / 512; sector < (offset + length) / 512; ++sector) {
    oracle_.possible[sector] = {oracle_.latest[sector]};
  }
}

void CrashRig::settle_all() {
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) oracle_.possible[sector] = {oracle_.latest[sector]};
}

void CrashRig::boundary() {
  std::vector<std::byte> content(shape_.device_bytes);
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    std::memcpy(&content[sector * 512], &oracle_.latest[sector], 8);
  }
  oracle_.boundaries.insert(sectors_digest(content));
}

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
  const auto content = new_content(length, oracle_.next_value);
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
    if (value_at(&found[at]) != oracle_.latest[(offset + at) / 512]) fail("a read returns old data before any cut");
  }
}

void CrashRig::flush() {
  if (!failure_.empty()) return;
  boundary();
  Outcome outcome;
  engine_.device->flush(outcome.completion());
  if ((outcome.error != 0) != flush_must_fail_) fail("a flush ends with " + std::to_string(outcome.error));
  flush_must_fail_ = false;
  settle_all();
}

void CrashRig::close_epoch() {
  if (!failure_.empty()) return;
  boundary();
  if (!engine_.cache->commit({engine_.device.get()}).ok()) fail("a commit failed");
  if (!is_direct_now()) settle_all();  // there the backing has yet to be flushed
}

void CrashRig::writeback() {
  if (!failure_.empty()) return;
  close_epoch();
  engine_.device->writeback_step();
}

void CrashRig::writeback_joined() {
  for (const std::uint64_t block : {11, 20, 12}) {
    write(block * kBlockSize, 2 * kBlockSize);
    close_epoch();
  }
  discard(20 * kBlockSize, kBlockSize);
  flush();
  write(11 * kBlockSize, kBlockSize);
  close_epoch();
  if (!failure_.empty()) return;
  while (engine_.device->write_back(1).step != CachedDevice::WriteBack::Step::none) {
    if (!failure_.empty()) return;
  }
  if (engine_.device->dirty_bytes() != 0) fail("dirty data is left that nothing keeps from the backing");
}

void CrashRig::failing_flush() {
  close_epoch();
  if (!failure_.empty()) return;
  const std::uint64_t clean = engine_.device->stats().clean_epoch;
  const std::uint64_t failed = engine_.backing->counts().failed;
  engine_.backing->fail({.flushes = 1});
  const bool done = engine_.device->writeback_step();
  engine_.backing->fail({});
  if (done || engine_.device->stats().clean_epoch != clean) fail("the dirty tail moved and the backing did not flush");
  // The users' next flush says it, if there was anything to flush; a restart forgets it.
  const bool has_failed = engine_.backing->counts().failed != failed;
  flush_must_fail_ = flush_must_fail_ || has_failed;
  // What a kernel could not write it may drop, and the next flush succeeds without it.
  for (std::size_t at = 0; at < shape_.device_bytes && (has_failed || !is_direct_now()); at += 512) {
    if (random_.below(2) == 0) std::memcpy(&backing_->current[at], &backing_->durable[at], 512);
    if (is_direct_now()) oracle_.latest[at / 512] = value_at(&backing_->current[at]);
  }
}

void CrashRig::failing_write() {
  close_epoch();
  if (!failure_.empty() || is_direct_now()) return;  // there is nothing to write back
  engine_.backing->fail({.writes = 1, .zeroes = 1});
  if (engine_.device->writeback_step()) fail("an epoch counts as written back that the backing did not take");
  engine_.backing->fail({});
  engine_.device->writeback_step();
}

void CrashRig::drain() {
  if (!failure_.empty()) return;
  boundary();
  if (engine_.device->drain(0) != 0) fail("a drain failed");
  settle_all();
}

void CrashRig::roll() {
  constexpr int kEnough = 6;  // writes of 16 blocks, for the 62 slots of a segment
  for (int i = 0; i < kEnough && failure_.empty(); ++i) {
    make_room();
    if (!failure_.empty()) return;
    const std::uint32_t free = engine_.cache->pool().free_count();
    write(0, 16 * kBlockSize);
    if (engine_.cache->pool().free_count() != free) return;
  }
  fail("the log does not go on in another segment");
}

void CrashRig::reclaim() {
  if (!failure_.empty()) return;
  for (const auto& victim : engine_.device->victims()) {
    if (victim.clean) engine_.device->reclaim_front(victim.stream);
  }
}

void CrashRig::reclaim_hot() {
  write(0, 38 * kBlockSize);
  roll();
  drain();
  read(16 * kBlockSize, 22 * kBlockSize);
  if (!failure_.empty()) return;
  const std::uint64_t before = engine_.device->stats().relocated_bytes;
  for (std::uint32_t i = 0; i < engine_.cache->pool().total() && !engine_.device->victims().empty(); ++i) reclaim();
  if (engine_.device->stats().relocated_bytes == before) fail("nothing was appended again though it is hot");
}

void CrashRig::reopen() {
  if (!failure_.empty()) return;
  boundary();
  engine_.close();
  settle_all();
  engine_ = open(image_, backing_);
  if (!failure_.empty()) return;
  boundary();
  read(0, shape_.device_bytes);
}

// What the process stored stays visible, and what nothing made durable is still pending: until the recovery is over
// the oracle does not count on it.
void CrashRig::kill() {
  if (!failure_.empty()) return;
  engine_.die();
  boundary();
  engine_ = open(image_, backing_);
  if (!failure_.empty()) return;
  if (!is_direct_now()) settle_all();
  read(0, shape_.device_bytes);
}

void CrashRig::remove() {
  drain();
  if (!failure_.empty()) return;
  device_may_be_absent_ = true;
  modes_.push_back(ModeChoice());
  if (Status status = engine_.cache->remove(engine_.device); !status.ok()) fail("remove: " + status.message());
  engine_.device.reset();
  if (!failure_.empty()) return;
  auto backing_dev = make_backing(backing_, true);
  engine_.backing = backing_dev.get();
  flush_must_fail_ = false;
  engine_.device = bring_up(engine_, false, true, std::move(backing_dev));
  device_may_be_absent_ = false;
  modes_ = {ModeChoice()};
}

void CrashRig::format() {
  drain();
  if (!failure_.empty()) return;
  if (engine_.other->drain(0) != 0) fail("draining the other logical device failed");
  engine_.close();
  settle_all();
  old_uuid_ = uuid_;
  ++uuid_[15];
  formatting_ = true;
  modes_.push_back(ModeChoice());
  CrashSpace space(image_);
  must(CacheDev::format(space, {uuid_, "crash", kSegmentBytes}));
  formatting_ = false;
  device_may_be_absent_ = other_may_be_absent_ = true;
  engine_ = open(image_, backing_);
  device_may_be_absent_ = other_may_be_absent_ = false;
  modes_ = {ModeChoice()};
  dirty_other();
}

void CrashRig::switch_mode(Mode mode, bool detached) {
  if (!failure_.empty()) return;
  boundary();
  const bool was_direct = is_direct_now();
  const ModeChoice to{mode, detached};
  modes_.push_back(to);
  if (Status status = engine_.device->begin_switch(to); !status.ok()) fail("a switch: " + status.message());
  const auto ended = engine_.device->await_switch(0);
  if (!ended || !ended->ok()) fail("a switch does not end, or fails");
  if (engine_.device->mode_choice() != to) fail("a switch leaves the mode as it was");
  modes_ = {to};
  if (was_direct != is_direct_now()) settle_all();  // the backing was flushed
}

void CrashRig::failing_switch(Mode mode) {
  if (!failure_.empty()) return;
  const ModeChoice from = engine_.device->mode_choice();
  boundary();
  modes_.push_back({mode, false});
  const std::uint64_t failed = engine_.backing->counts().failed;
  engine_.backing->fail({.flushes = 1});
  (void)engine_.device->begin_switch({mode, false});
  engine_.backing->fail({});
  if (engine_.backing->counts().failed != failed) {
    if (engine_.device->mode_choice() != from) fail("a switch got by a flush that failed");
    flush_must_fail_ = true;
    modes_ = {from};
  } else {
    modes_ = {{mode, false}};
  }
  switch_mode(mode);
}

// The other logical device is as it shall stay, part of it only in the cache.
void CrashRig::dirty_other() {
  if (!failure_.empty()) return;
  std::vector<std::byte> content(4 * kBlockSize);
  for (std::size_t at = 0; at < content.size(); at += 8) {
    std::memcpy(&content[at], &other_values_[(kBlockSize + at) / 512], 8);
  }
  Outcome written;
  engine_.other->write(kBlockSize, content, written.completion());
  Outcome flushed;
  engine_.other->flush(flushed.completion());
  if (written.error != 0 || flushed.error != 0) fail("writing the other logical device failed");
}

void CrashRig::idle() {
  ++backing_calls_;
  moment();
}

// --- Cuts

void CrashRig::moment() {
  if (!exploring_ || !failure_.empty()) return;
  ++counts_.moments;
  check_backing();
  possible_now_ = std::make_shared<const Possible>(oracle_.possible);
  oracle_digest_ = possible_digest(*possible_now_) + (formatting_ ? 1 : 0) + (device_may_be_absent_ ? 2 : 0);
  unflushed_.clear();
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    if (value_at(&backing_->durable[sector * 512]) != value_at(&backing_->current[sector * 512])) {
      unflushed_.push_back(sector);
    }
  }
  cut_backing_used_ = true;
  const auto try_one = [&](const auto& make) {
    patch_.clear();
    make();
    try_state();
  };
  const std::size_t units = image_.pending_units();
  if (units <= shape_.exhaustive_units) {
    for (std::uint64_t survivors = 0; survivors < std::uint64_t{1} << units; ++survivors) {
      try_one([&] { image_.choose(survivors, patch_); });
    }
  } else {
    for (const std::uint64_t survivors : {std::uint64_t{0}, ~std::uint64_t{0}, random_()}) {
      try_one([&] { image_.choose(survivors, patch_); });
    }
  }
  for (std::uint32_t i = 0; i < shape_.torn_states && units != 0; ++i) {
    try_one([&] { image_.tear(random_, patch_); });
  }
}

// Stores `patch` on scratch_ and returns by how much that changes its digest.
std::uint64_t CrashRig::apply(const CrashPatch& patch) {
  std::uint64_t change = 0;
  for (std::size_t i = 0; i < patch.count(); ++i) {
    const std::size_t offset = patch.offset(i);
    const auto content = patch.content(i);
    change -= lines_digest(scratch_, offset, content.size());
    scratch_.store(offset, content.data(), content.size());
    change += lines_digest(scratch_, offset, content.size());
  }
  return change;
}

bool CrashRig::is_new_state(std::uint64_t image_digest, std::uint64_t oracle_digest) {
  const std::uint64_t media = mixed(image_digest + mixed(sectors_digest(cut_backing_->durable)));
  if (seen_media_.insert(media)) ++counts_.distinct;
  if (!seen_.insert(mixed(media ^ mixed(oracle_digest)))) return false;
  ++counts_.states;
  return true;
}

// The backing after a cut: what it was told to flush, and of the rest any sectors.
void CrashRig::restore_backing() {
  if (cut_backing_used_) {
    cut_backing_->durable = backing_->durable;
    cut_backing_->current = backing_->durable;
    cut_backing_used_ = false;
  }
}

void CrashRig::try_state() {
  if (!failure_.empty()) return;
  CrashRandom random(random_());
  restore_backing();
  for (const std::uint64_t sector : unflushed_) {
    const auto& from = random.below(2) == 0 ? backing_->current : backing_->durable;
    std::memcpy(&cut_backing_->durable[sector * 512], &from[sector * 512], 512);
    std::memcpy(&cut_backing_->current[sector * 512], &from[sector * 512], 512);
  }
  const std::size_t before = scratch_.mark();
  cut_base_ = before;
  first_recovery_ = true;
  if (is_new_state(digest_ + apply(patch_), oracle_digest_)) check_recovered(possible_now_, random, 0);
  scratch_.roll_back(before);
}

// From now on cuts at some of the fences on scratch_, chosen without knowing how many there will be, go to `cuts`.
void CrashRig::sample_cuts(std::vector<Cut>& cuts, const std::shared_ptr<const Possible>& possible, CrashRandom& random,
                           bool of_recovery) {
  constexpr std::uint64_t kMost = 2;
  scratch_.track(true);
  scratch_.on_fence = [this, &cuts, &possible, &random, of_recovery, seen = std::uint64_t{0}]() mutable {
    std::uint64_t place = seen++;
    if (place >= kMost) place = random.below(seen);
    if (place >= kMost) return;
    Cut cut;
    scratch_.durable_since(cut_base_, cut.state);
    scratch_.tear(random, cut.state);
    cut.backing = cut_backing_->durable;
    for (std::size_t at = 0; at < cut.backing.size(); at += 512) {
      const std::byte* const current = &cut_backing_->current[at];
      if (value_at(current) != value_at(&cut.backing[at]) && random.below(2) == 0) {
        std::memcpy(&cut.backing[at], current, 512);
      }
    }
    cut.possible = possible;
    cut.of_recovery = of_recovery;
    cut.seed = random();
    cuts.resize(std::max<std::size_t>(cuts.size(), place + 1));
    cuts[place] = std::move(cut);
  };
}

void CrashRig::stop_sampling() {
  scratch_.on_fence = nullptr;
  scratch_.track(false);
}

void CrashRig::check_recovered(std::shared_ptr<const Possible> possible, CrashRandom& random, std::uint32_t depth) {
  std::vector<Cut> cuts;
  std::vector<Cut> work_cuts;
  const bool cut_more = depth + 1 < shape_.deepest;
  const bool work = random.below(shape_.work_every) == 0;
  if (cut_more && random.below(shape_.recut_every) == 0) sample_cuts(cuts, possible, random, true);
  Engine engine = open(scratch_, cut_backing_);
  stop_sampling();
  if (engine.up() && failure_.empty()) {
    if (const auto found = read_all(engine)) {
      check_possible(*found, *possible);
      check_agreement(engine, *found);
      if (std::find(modes_.begin(), modes_.end(), engine.device->mode_choice()) == modes_.end()) {
        fail("it comes up in a mode that was not switched to");
      }
      if (work && failure_.empty()) go_on_working(engine, *found, random, cut_more ? &work_cuts : nullptr);
    }
  }
  engine.die();
  recover_again(cuts, depth + 1);
  recover_again(work_cuts, depth + 1);
}

void CrashRig::recover_again(const std::vector<Cut>& cuts, std::uint32_t depth) {
  for (const Cut& cut : cuts) {
    if (!failure_.empty()) return;
    scratch_.roll_back(cut_base_);
    cut_backing_->durable = cut.backing;
    cut_backing_->current = cut.backing;
    cut_backing_used_ = true;
    if (!is_new_state(digest_ + apply(cut.state), possible_digest(*cut.possible))) continue;
    ++(!cut.of_recovery ? counts_.work_cuts : depth == 1 ? counts_.second_cuts : counts_.third_cuts);
    CrashRandom random(cut.seed);
    check_recovered(cut.possible, random, depth);
  }
}

// After a recovery everything works, what it found is found again, and the power may go once more.
void CrashRig::go_on_working(Engine& engine, Values values, CrashRandom& random, std::vector<Cut>* cuts) {
  cut_backing_used_ = true;
  std::shared_ptr<const Possible> possible;
  Possible now(sectors());
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) now[sector] = {values[sector]};
  CrashRandom cut_random(random());
  if (cuts != nullptr) sample_cuts(*cuts, possible, cut_random, false);
  std::uint64_t next_value = kWorkValues;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t first = random.below(sectors());
    const std::uint64_t count = std::min<std::uint64_t>(1 + random.below(24), sectors() - first);
    const auto content =
        random.below(4) == 0 ? std::vector<std::byte>(count * 512) : new_content(count * 512, next_value);
    for (std::uint64_t sector = 0; sector < count; ++sector) {
      values[first + sector] = value_at(&content[sector * 512]);
      now[first + sector].push_back(values[first + sector]);
    }
    possible = std::make_shared<const Possible>(now);
    Outcome outcome;
    if (value_at(content.data()) == 0) {
      engine.device->discard(first * 512, content.size(), outcome.completion());
    } else {
      engine.device->write(first * 512, content, outcome.completion());
    }
    if (!outcome.done || outcome.error != 0) fail("after the recovery an operation fails");
    if (durable_when_acknowledged(engine)) {
      for (std::uint64_t sector = first; sector < first + count; ++sector) now[sector] = {values[sector]};
    }
    possible = std::make_shared<const Possible>(now);
    if (random.below(2) == 0) {
      if (!engine.cache->commit({engine.device.get()}).ok()) fail("after the recovery a commit fails");
      engine.device->writeback_step();
    }
  }
  stop_sampling();
  if (!failure_.empty()) return;
  if (read_all(engine) != values) return fail("after the recovery a read returns old data");
  engine.close();
  engine = open(scratch_, cut_backing_);
  if (!engine.up() || !failure_.empty()) return fail("after the recovery and a clean shutdown it does not come up");
  if (read_all(engine) != values) return fail("after the recovery and a clean shutdown data is missing");
  if (engine.device->drain(0) != 0) return fail("after the recovery a drain fails");
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    if (value_at(&cut_backing_->durable[sector * 512]) != values[sector]) {
      return fail("after the recovery and a drain the backing lacks sector " + std::to_string(sector));
    }
  }
}

std::optional<CrashRig::Values> CrashRig::read_all(Engine& engine) {
  Outcome outcome;
  engine.device->read(0, buffer_, outcome.completion());
  if (!outcome.done || outcome.error != 0) {
    fail("reading all of the device fails: " + std::to_string(outcome.error));
    return std::nullopt;
  }
  Values values(sectors());
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    const std::byte* const at = &buffer_[sector * 512];
    values[sector] = value_at(at);
    if (std::memcmp(at, at + 8, 504) != 0) fail("sector " + std::to_string(sector) + " is a mixture");
  }
  return values;
}

void CrashRig::check_possible(const Values& found, const Possible& possible) {
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    const auto& values = possible[sector];
    if (std::find(values.begin(), values.end(), found[sector]) == values.end()) {
      return fail("sector " + std::to_string(sector) + " is none of its " + std::to_string(values.size()) +
                  " possible values");
    }
  }
}

// Where nothing is dirty, what is read is what the backing has.
void CrashRig::check_agreement(Engine& engine, const Values& values) {
  if (!is_direct(engine.device->mode())) return;
  for (std::uint64_t sector = 0; sector < sectors(); ++sector) {
    if (value_at(&cut_backing_->current[sector * 512]) != values[sector]) {
      return fail("the cache has another value of sector " + std::to_string(sector) + " than the backing");
    }
  }
}

void CrashRig::check_backing() {
  if (!oracle_.boundaries.contains(sectors_digest(backing_->durable))) {
    fail("the backing alone is the state of no flush boundary");
  }
}

}  // namespace pcache
