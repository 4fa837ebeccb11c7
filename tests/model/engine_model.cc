#include "tests/model/engine_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "base/crc32c.h"
#include "base/units.h"
#include "tests/support/random_changes.h"

namespace pcache {
namespace {

constexpr std::uint32_t kMostShareMin = 40;  // percent: is there to give in every shape

std::uint32_t checksum(std::span<const std::byte> bytes) { return crc32c(bytes.data(), bytes.size()); }

// Of a whole device; one that became longer, by zeroes, is the same.
std::uint32_t state_checksum(std::span<const std::byte> bytes) {
  static constexpr std::array<std::byte, kSectorSize> kZeroes{};
  while (!bytes.empty() && std::memcmp(&bytes.back() - (kSectorSize - 1), kZeroes.data(), kSectorSize) == 0) {
    bytes = bytes.first(bytes.size() - kSectorSize);
  }
  return checksum(bytes);
}

// A third of the seeds asks for no order of epochs. Time passes only as the model says.
RigShape with_settings(RigShape shape, std::uint64_t seed) {
  const auto order = seed % 3 == 0 ? WritebackOrder::none : WritebackOrder::epoch;
  shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(order));
  shape.own_clock = true;
  return shape;
}

}  // namespace

EngineModel::EngineModel(const RigShape& shape, std::uint64_t seed)
    : shape_(with_settings(shape, seed)),
      rig_(shape_),
      random_(seed),
      content_(shape.device_bytes),
      allowed_(div_ceil(shape.device_bytes, kBlockSize)),
      most_bytes_(shape.device_bytes + shape.device_bytes / 4),
      mount_(shape_.settings) {
  rig_.on_epoch_closed = [this] { boundary(); };
  boundary();
  settle();
}

void EngineModel::run(std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    step();
  }
  if (testing::Test::HasFailure()) return;
  rig_.space().heal();
  drain();
  check_backing();
  EXPECT_TRUE(std::equal(content_.begin(), content_.end(), rig_.backing_image().durable.begin()))
      << "the backing alone after a drain";
  EXPECT_EQ(rig_.device().dirty_bytes(), 0U);
}

void EngineModel::step() {
  if (below(8) == 0) {
    rig_.step_bytes = below(2) == 0 ? WritebackPace::kUnlimited : (1 + below(40)) * kBlockSize;
  }
  ASSERT_TRUE(rig_.make_room(2));
  check_backing();
  struct Choice {
    const char* name;
    void (EngineModel::*run)();
    std::uint32_t weight;
  };
  static constexpr Choice kChoices[] = {{"write", &EngineModel::write, 500},
                                        {"read", &EngineModel::read_some, 250},
                                        {"discard", &EngineModel::discard, 60},
                                        {"flush", &EngineModel::flush, 50},
                                        {"engine step", &EngineModel::engine_step, 40},
                                        {"background", &EngineModel::background, 20},
                                        {"idle", &EngineModel::idle, 3},
                                        {"configure", &EngineModel::configure, 20},
                                        {"switch", &EngineModel::switch_mode, 12},
                                        {"detach and attach", &EngineModel::detach_and_attach, 3},
                                        {"drain", &EngineModel::drain, 4},
                                        {"park", &EngineModel::park, 4},
                                        {"remove", &EngineModel::remove, 3},
                                        {"resize", &EngineModel::resize, 3},
                                        {"failing", &EngineModel::failing, 12},
                                        {"restart", &EngineModel::restart, 16},
                                        {"power cut", &EngineModel::power_cut, 7}};
  std::uint64_t choice = below(std::accumulate(std::begin(kChoices), std::end(kChoices), std::uint64_t{0},
                                               [](std::uint64_t sum, const Choice& c) { return sum + c.weight; }));
  const Choice* next = kChoices;
  for (; choice >= next->weight; ++next) choice -= next->weight;
  SCOPED_TRACE(next->name);
  (this->*next->run)();
  check_backing();
}

EngineModel::Range EngineModel::any_range(std::uint64_t longest) {
  const std::uint64_t unit = std::array<std::uint64_t, 4>{4096, 4096, 512, 1}[below(4)];
  const std::uint64_t hot = below(3) == 0 ? content_.size() : content_.size() / 8;
  const std::uint64_t offset = below(hot) / unit * unit;
  const std::uint64_t length = (1 + below(std::max<std::uint64_t>(longest / unit, 1))) * unit;
  return {offset, std::min(length, content_.size() - offset)};
}

EngineModel::Bytes EngineModel::random_bytes(std::uint64_t length) {
  Bytes bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
  return bytes;
}

// --- What users do

void EngineModel::write() {
  const Range range = any_range(64 * kKiB);
  change(range, random_bytes(range.length), false);
}

void EngineModel::discard() {
  const Range range = any_range(below(20) == 0 ? content_.size() : 512 * kKiB);
  change(range, Bytes(range.length), true);
}

void EngineModel::change(const Range& range, const Bytes& bytes, bool is_discard) {
  const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(range.offset);
  const Bytes before(begin, begin + static_cast<std::ptrdiff_t>(range.length));
  const std::uint64_t faults = rig_.backing().counts().failed;
  const std::uint64_t failed_flushes = rig_.backing().counts().failed_flushes;
  may_become(range, bytes);
  begin_changing();
  const int error = is_discard ? rig_.discard(range.offset, range.length) : rig_.write(range.offset, bytes);
  changing_ = false;
  note_failed_flushes(failed_flushes);
  if (error == 0) {
    if (survives_when_acknowledged()) settle_blocks(range);
  } else {
    const bool has_no_space = error == ENOSPC && settings_in_force().get(Setting::full_policy) ==
                                                     static_cast<std::uint64_t>(FullPolicy::error);
    const bool has_failed = error == EIO && rig_.backing().counts().failed != faults;
    ASSERT_TRUE(has_no_space || has_failed) << "ends with " << error << ", and nothing explains it";
    failed(range, before);
  }
  end_changing();
}

void EngineModel::read_some() { read(any_range(256 * kKiB)); }

void EngineModel::read(const Range& range) {
  Bytes bytes(range.length, std::byte{0xa5});
  ASSERT_EQ(rig_.read(range.offset, bytes), 0);
  const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(range.offset);
  const auto wrong = std::mismatch(bytes.begin(), bytes.end(), begin);
  ASSERT_TRUE(wrong.first == bytes.end()) << "wrong at byte " << range.offset + (wrong.first - bytes.begin());
}

void EngineModel::flush() {
  const std::uint64_t failed_flushes = rig_.backing().counts().failed_flushes;
  const int error = rig_.flush();
  note_failed_flushes(failed_flushes);
  ASSERT_TRUE(error != 0 ? flush_must_fail_ || flush_may_fail_ : !flush_must_fail_) << "a flush ends with " << error;
  flush_may_fail_ = flush_may_fail_ && flush_must_fail_;
  flush_must_fail_ = false;
  if (error == 0 || !is_direct_now()) settle();
}

// --- What an operator does

Settings EngineModel::settings_in_force() const {
  Settings settings = stored_;
  settings.merge(mount_);
  return settings;
}

void EngineModel::configure() {
  const Settings changes = random_settings([this](std::uint64_t limit) { return below(limit); }, kMostShareMin);
  Settings changed = stored_;
  changed.merge(changes);
  const Status status = rig_.device().configure(changes);
  ASSERT_EQ(status.ok(), check_settings(changed).ok()) << status.message();
  if (status.ok()) {
    stored_ = changed;
    for (const SettingInfo& info : all_settings()) {
      if (changes.has(info.setting)) mount_.unset(info.setting);
    }
  }
  check_settings_in_force();
}

void EngineModel::check_settings_in_force() {
  const Settings settings = settings_in_force();
  for (const SettingValue& value : rig_.device().settings()) {
    if (value.setting == Setting::mode) continue;
    ASSERT_EQ(value.value, settings.get(value.setting)) << setting_info(value.setting).name;
  }
  const ModeChoice found = rig_.device().mode_choice();
  ASSERT_TRUE(found == mode_ || found == or_mode_) << "the mode is " << static_cast<int>(found.mode);
  mode_ = found;
  or_mode_.reset();
}

void EngineModel::switch_mode() {
  const ModeChoice to = random_mode([this](std::uint64_t limit) { return below(limit); });
  const bool was_direct = is_direct_now();
  const Status status = rig_.switch_mode(to);
  ASSERT_TRUE(status.ok()) << status.message();
  mode_ = to;
  check_settings_in_force();
  if (was_direct != is_direct_now()) settle();  // the backing was flushed, or writes are durable in the log again
  boundary();
}

void EngineModel::detach_and_attach() {
  ASSERT_TRUE(rig_.switch_mode({mode_.mode, true}).ok());
  mode_.detached = true;
  settle();
  ASSERT_EQ(rig_.device().dirty_bytes(), 0U);
  for (std::uint64_t i = below(6); i > 0; --i) write();
  if (below(2) == 0) restart();
  ASSERT_TRUE(rig_.switch_mode({mode_.mode, false}).ok());
  mode_.detached = false;
  if (!is_direct_now()) settle();
  boundary();
  check_settings_in_force();
}

// Dirty data is kept without a backing, whatever happens meanwhile.
void EngineModel::park() {
  const std::uint64_t dirty = rig_.device().dirty_bytes();
  const Bytes backing = rig_.backing_image().durable;
  const bool was_direct = is_direct_now();
  const Status status = rig_.park();
  ASSERT_TRUE(status.ok()) << status.message();
  settle();
  flush_must_fail_ = false;
  for (std::uint64_t i = below(3); i > 0; --i) {
    restart();
    ASSERT_TRUE(rig_.device().parked());
    ASSERT_EQ(rig_.device().dirty_bytes(), dirty);
  }
  ASSERT_TRUE(was_direct || rig_.backing_image().durable == backing) << "what was kept came to the backing";
  if (below(2) == 0) {
    rig_.power_cut([this](std::size_t) { return below(2) == 0; });
    ASSERT_TRUE(rig_.device().parked());
    mount_ = shape_.settings;
  }
  const bool flushes_part = flushes_part_at_opening();
  const Status up = rig_.unpark();
  ASSERT_TRUE(up.ok()) << up.message();
  if (flushes_part) boundaries_.insert(state_checksum(rig_.backing_image().durable));
  mount_ = shape_.settings;
  ASSERT_EQ(rig_.device().dirty_bytes(), dirty);
  read_all();
  restarted();
  check_settings_in_force();
}

// Written back first, or thrown away.
void EngineModel::remove() {
  const bool throws_away = below(3) == 0;
  if (!throws_away) drain();
  const Status status = rig_.remove_and_add();
  ASSERT_TRUE(status.ok()) << status.message();
  mode_ = {};
  stored_ = {};
  mount_ = shape_.settings;
  flush_must_fail_ = mixed_ = false;
  if (throws_away) {
    const Bytes& left = rig_.backing_image().current;
    std::copy_n(left.begin(), content_.size(), content_.begin());
  }
  // Its backing may have grown meanwhile.
  content_.resize(rig_.device().size_bytes());
  allowed_.resize(div_ceil(content_.size(), kBlockSize));
  read_all();
  restarted();
  check_settings_in_force();
}

void EngineModel::drain() {
  ASSERT_EQ(rig_.drain(), 0);
  ASSERT_EQ(rig_.device().dirty_bytes(), 0U);
  mixed_ = false;
  settle();
}

void EngineModel::resize() {
  if (rig_.backing_image().current.size() < most_bytes_) {
    rig_.backing_image().grow(rig_.backing_image().current.size() + (1 + below(64)) * kSectorSize);
  }
  const bool ends_in_block =
      content_.size() % kBlockSize != 0 && content_.size() != rig_.backing_image().current.size();
  boundary();
  const bool in_pass = !is_direct_now() && has_unflushed();
  const Status status = rig_.device().grow_to_backing();
  // It was flushed with a part of the epoch that is being written.
  if (in_pass) boundaries_.insert(state_checksum(rig_.backing_image().durable));
  if (ends_in_block && rig_.device().mode() != Mode::writeback) {
    ASSERT_EQ(status.code(), Errc::busy) << status.message();
    return;
  }
  ASSERT_TRUE(status.ok()) << status.message();
  if (is_direct_now() || ends_in_block) settle();
  content_.resize(rig_.device().size_bytes());
  ASSERT_EQ(content_.size(), rig_.backing_image().current.size());
  const std::size_t blocks = allowed_.size();
  allowed_.resize(div_ceil(content_.size(), kBlockSize));
  for (std::size_t block = blocks - 1; block < allowed_.size(); ++block) allowed_[block] = {block_checksum(block)};
  boundary();
}

// --- What happens by itself

void EngineModel::engine_step() {
  for (std::uint64_t steps = 1 + below(4); steps > 0; --steps) rig_.step();
}

void EngineModel::background() {
  for (std::uint64_t steps = 1 + below(8); steps > 0; --steps) {
    const std::uint64_t epoch = rig_.device().stats().epoch;
    const auto rest = static_cast<std::uint64_t>(rig_.device().background_step().count());
    if (rig_.device().stats().epoch != epoch) boundary();
    check_backing();
    while (rig_.cache().reclaim_step()) {
    }
    rig_.advance(1 + below(2) * rest);
  }
}

// Nothing is written for a while: the device becomes clean within dirty_max_age.
void EngineModel::idle() {
  constexpr std::uint64_t kSlackMs = 2000;  // the age counts from when the worker sees it
  const std::uint64_t end = rig_.now_ms() + settings_in_force().get(Setting::dirty_max_age) + kSlackMs;
  if (end > rig_.now_ms() + 30'000) return background();
  while (rig_.now_ms() < end && !testing::Test::HasFailure()) {
    const std::uint64_t epoch = rig_.device().stats().epoch;
    const auto rest = static_cast<std::uint64_t>(rig_.device().background_step().count());
    if (rig_.device().stats().epoch != epoch) boundary();
    check_backing();
    rig_.advance(std::max<std::uint64_t>(rest, 1));
  }
  ASSERT_EQ(rig_.device().dirty_bytes(), 0U) << "an idle device is not clean in time";
}

// The backing fails some of what it is asked for.
void EngineModel::failing() {
  FakeBackingDev::Failures failures;
  failures.writes = static_cast<int>(below(3));
  failures.zeroes = static_cast<int>(below(2));
  failures.flushes = static_cast<int>(below(2));
  failures.after = static_cast<int>(below(4));
  failures.tear = below(2) == 0;
  failures.drop = below(2) == 0;
  const std::uint64_t failed_flushes = rig_.backing().counts().failed_flushes;
  const std::uint64_t faults = rig_.backing().counts().failed;
  const auto has_failed = [&] { return rig_.backing().counts().failed != faults; };
  rig_.backing().fail(failures);
  bool told = false;  // by a user's flush
  switch (below(6)) {
    case 0:
    case 1:
      engine_step();
      break;
    case 2:
      if (is_direct_now()) {
        below(3) == 0 ? discard() : write();
      } else {
        background();
      }
      break;
    case 3:
      flush();
      told = true;
      break;
    case 4:
      EXPECT_TRUE(rig_.drain() == 0 || has_failed()) << "a drain fails, and nothing explains it";
      break;
    default: {
      const ModeChoice to = random_mode([this](std::uint64_t limit) { return below(limit); });
      const bool was_direct = is_direct_now();
      const Status status = rig_.switch_mode(to);
      ASSERT_TRUE(status.ok() || has_failed()) << status.message();
      if (status.ok()) mode_ = to;
      check_settings_in_force();
      if (was_direct != is_direct_now()) settle();
    }
  }
  rig_.backing().fail({});
  const bool dropped = failures.drop && rig_.backing().counts().failed_flushes != failed_flushes;
  if (!told) note_failed_flushes(failed_flushes);
  if (testing::Test::HasFailure()) return;
  if (is_direct_now() && dropped) {
    // What was only there is as it was before, and counts as that once it was read.
    std::copy_n(rig_.backing_image().current.begin(), content_.size(), content_.begin());
    for (std::size_t block = 0; block < allowed_.size(); ++block) allowed_[block].push_back(block_checksum(block));
    boundary();
  }
  read_all();
}

void EngineModel::note_failed_flushes(std::uint64_t failed_before) {
  if (rig_.backing().counts().failed_flushes == failed_before) return;
  flush_must_fail_ = true;
  flush_may_fail_ = settings_in_force().get(Setting::full_policy) == static_cast<std::uint64_t>(FullPolicy::bypass);
}

// --- Restarts and power cuts

void EngineModel::restart() {
  const bool parked = rig_.device().parked();
  if (below(3) == 0) {
    const bool flushes_part = flushes_part_at_opening();
    rig_.kill();
    if (flushes_part) boundaries_.insert(state_checksum(rig_.backing_image().durable));
  } else {
    rig_.reopen();
  }
  mount_ = shape_.settings;
  flush_must_fail_ = false;
  if (parked) return;
  read_all();
  // In a direct mode the backing alone is behind what was acknowledged, after a kill, until it is flushed.
  if (!is_direct_now()) settle();
  boundary();
  check_settings_in_force();
}

// Where writes could go around the log the backing is flushed then, and may have a part of an epoch.
bool EngineModel::flushes_part_at_opening() {
  return !is_direct_now() && has_unflushed() && rig_.cache().cache_dev().bypassed(rig_.device().place());
}

void EngineModel::power_cut() {
  if (below(2) == 0) operate_until_cut();
  if (testing::Test::HasFailure()) return;
  rig_.power_cut([this](std::size_t) { return below(2) == 0; });
  mount_ = shape_.settings;
  flush_must_fail_ = false;
  after_power_cut();
}

// The power goes while operations store; what was acknowledged has to be there, of the one under way any of its blocks.
void EngineModel::operate_until_cut() {
  rig_.space().cut_after(below(200), below(8) * 8);
  for (int i = 0; i < 40 && !rig_.space().was_cut() && !testing::Test::HasFailure(); ++i) {
    switch (below(8)) {
      case 0:
      case 1:
        rig_.step();
        break;
      case 2:
        change_until_cut(any_range(512 * kKiB), true);
        break;
      case 3:
        if (below(4) == 0) switch_until_cut();
        break;
      default:
        change_until_cut(any_range(64 * kKiB), false);
    }
  }
}

void EngineModel::change_until_cut(const Range& range, bool is_discard) {
  if (rig_.cache().pool().free_count() < rig_.cache().reserve() + 2) return;
  const Bytes bytes = is_discard ? Bytes(range.length) : random_bytes(range.length);
  const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(range.offset);
  const Bytes before(begin, begin + static_cast<std::ptrdiff_t>(range.length));
  may_become(range, bytes);
  begin_changing();
  const int error = is_discard ? rig_.discard(range.offset, range.length) : rig_.write(range.offset, bytes);
  changing_ = false;
  if (rig_.space().was_cut()) return;  // nobody is there any more to be told
  if (error == ENOSPC) {
    failed(range, before);
  } else {
    ASSERT_EQ(error, 0);
    if (survives_when_acknowledged()) settle_blocks(range);
  }
  end_changing();
}

void EngineModel::switch_until_cut() {
  const ModeChoice to = random_mode([this](std::uint64_t limit) { return below(limit); });
  const bool was_direct = is_direct_now();
  const Status status = rig_.switch_mode(to);
  if (rig_.space().was_cut()) {
    or_mode_ = to;
    return;
  }
  ASSERT_TRUE(status.ok()) << status.message();
  mode_ = to;
  if (was_direct != is_direct_now()) settle();
}

void EngineModel::after_power_cut() {
  Bytes found(content_.size());
  ASSERT_EQ(rig_.read(0, found), 0);
  content_ = std::move(found);
  for (std::uint64_t block = 0; block < allowed_.size(); ++block) {
    ASSERT_TRUE(std::count(allowed_[block].begin(), allowed_[block].end(), block_checksum(block)) != 0)
        << "block " << block << " is none of its " << allowed_[block].size() << " possible contents";
  }
  if (is_direct_now()) {
    ASSERT_TRUE(std::equal(content_.begin(), content_.end(), rig_.backing_image().current.begin()))
        << "the cache has something else than the backing";
  }
  restarted();
  check_settings_in_force();
}

// --- The oracle

bool EngineModel::survives_when_acknowledged() {
  return !is_direct_now() &&
         (shape_.granularity != Granularity::page || shape_.ack.value_or(Ack::flush) == Ack::durable);
}

std::uint32_t EngineModel::block_checksum(std::uint64_t block) const {
  const std::size_t begin = block * kBlockSize;
  return checksum({content_.data() + begin, std::min(content_.size() - begin, kBlockSize)});
}

void EngineModel::settle() {
  for (std::uint64_t block = 0; block < allowed_.size(); ++block) allowed_[block] = {block_checksum(block)};
}

void EngineModel::settle_blocks(const Range& range) {
  for (std::uint64_t block = range.offset / kBlockSize; block * kBlockSize < range.offset + range.length; ++block) {
    allowed_[block] = {block_checksum(block)};
  }
}

void EngineModel::may_become(const Range& range, const Bytes& bytes) {
  std::copy(bytes.begin(), bytes.end(), content_.begin() + static_cast<std::ptrdiff_t>(range.offset));
  for (std::uint64_t block = range.offset / kBlockSize; block * kBlockSize < range.offset + range.length; ++block) {
    allowed_[block].push_back(block_checksum(block));
  }
}

void EngineModel::failed(const Range& range, const Bytes& before) {
  Bytes found(range.length);
  ASSERT_EQ(rig_.read(range.offset, found), 0);
  for (std::uint64_t at = 0; at < range.length;) {
    const std::uint64_t sector_end = ((range.offset + at) / kSectorSize + 1) * kSectorSize - range.offset;
    const auto length = static_cast<std::ptrdiff_t>(std::min(sector_end, range.length) - at);
    const auto begin = found.begin() + static_cast<std::ptrdiff_t>(at);
    const auto now = content_.begin() + static_cast<std::ptrdiff_t>(range.offset + at);
    ASSERT_TRUE(std::equal(begin, begin + length, now) ||
                std::equal(begin, begin + length, before.begin() + static_cast<std::ptrdiff_t>(at)))
        << "a sector is neither as before a write that failed nor as after it";
    std::copy(begin, begin + length, now);
    at += static_cast<std::uint64_t>(length);
  }
  for (std::uint64_t block = range.offset / kBlockSize; block * kBlockSize < range.offset + range.length; ++block) {
    allowed_[block].push_back(block_checksum(block));
  }
}

void EngineModel::restarted() {
  settle();
  boundary();
}

void EngineModel::boundary() {
  if (!changing_) {
    boundaries_.insert(state_checksum(content_));
    return;
  }
  Bytes now(content_.size());
  Outcome outcome;
  rig_.device().read(0, now, outcome.completion());
  ASSERT_TRUE(outcome.done && outcome.error == 0);
  boundaries_.insert(state_checksum(now));
}

void EngineModel::begin_changing() {
  around_bytes_ = rig_.device().stats().bypassed_full_bytes;
  changing_ = true;
}

void EngineModel::end_changing() {
  const bool went_around = rig_.device().stats().bypassed_full_bytes != around_bytes_;
  const bool ordered =
      settings_in_force().get(Setting::writeback_order) == static_cast<std::uint64_t>(WritebackOrder::epoch);
  mixed_ |= went_around && !ordered;
  if (is_direct_now() || went_around) boundary();
}

bool EngineModel::has_unflushed() {
  const BackingImage& backing = rig_.backing_image();
  return !std::equal(backing.durable.begin(), backing.durable.end(), backing.current.begin());
}

void EngineModel::check_backing() {
  if (mixed_) return;
  ASSERT_EQ(boundaries_.count(state_checksum(rig_.backing_image().durable)), 1U)
      << "the backing alone is not the state of any flush boundary";
}

}  // namespace pcache
