#include "tests/simulation/simulation.h"

#include <algorithm>
#include <utility>

#include "base/pause_point.h"
#include "base/units.h"

namespace pcache {
namespace {

constexpr std::array<std::uint8_t, 16> kUuid = {5, 1, 13, 21, 12, 1, 20, 9, 15, 14};
constexpr std::size_t kWritesAtOnce = 16;  // of one epoch, as many as writeback has buffers

Simulation* current = nullptr;

}  // namespace

void reach_pause_point(const char* name) {
  if (current != nullptr) current->reached(name);
}

Simulation::Simulation(std::uint64_t seed, std::uint64_t busy_seconds, SimCounts& counts)
    : counts_(counts), random_(seed), busy_seconds_(busy_seconds) {
  current = this;
  plan();
  format();
}

Simulation::~Simulation() {
  dead_ = true;
  take_down();
  current = nullptr;
}

std::string Simulation::run() {
  const std::uint64_t busy_before = counts_.busy_seconds;
  open();
  begin_phase();
  schedule_end();
  for (const auto& device : devices_) schedule_faults(*device);
  check_liveness();
  while (failure_.empty() && counts_.busy_seconds - busy_before < busy_seconds_) step();
  if (failure_.empty()) finish();
  ++counts_.seeds;
  counts_.simulated_ms += events_.now_ms();
  note(moment_);
  return failure_;
}

// The next event. Between two of them, and never within one, the engine is taken down and brought up again.
bool Simulation::step() {
  if (depth_ == 0 && dead_ && failure_.empty()) open();
  if (depth_ == 0 && close_wanted_ && !dead_) close();
  const bool busy = !requests_.empty();
  ++depth_;
  const bool more = events_.step();
  --depth_;
  if (busy) mark_busy(true);
  note(events_.now_ms());
  return more;
}

void Simulation::fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = "at " + std::to_string(events_.now_ms()) + " ms: " + what;
  dead_ = true;  // as far as it is used any more
  for (const auto& device : devices_) {
    if (device->backing != nullptr) device->backing->die();
  }
}

// --- What the engine comes to

void Simulation::reached(const std::string& point) {
  if (point == "commit.closed" && !dead_ && entered_ != nullptr) entered_->history->close_epoch(moment());
  if (point == "backing.wait") wait_for(*entered_, 0);
  if (point == "writeback.buffer") wait_for(*entered_, kWritesAtOnce - 1);
  if (point == "stop.idle") {
    for (const auto& device : devices_) {
      if (device->backing == nullptr) continue;
      dead_ ? device->backing->abandon() : device->backing->finish_all();
    }
  }
}

// The engine waits until at most so many of its writes are under way. Meanwhile everything else goes on.
void Simulation::wait_for(const Device& device, std::size_t changing) {
  ++depth_;
  while (!dead_ && device.backing->changing() > changing) step();
  --depth_;
  if (dead_) device.backing->abandon();
}

void Simulation::came_to_fence() {
  if (dead_ || fences_left_ == 0 || --fences_left_ != 0) return;
  if (cache_ == nullptr || devices_.back()->cached == nullptr) {
    ++counts_.in_recovery;
  } else {
    ++counts_.in_operation;
  }
  die(fence_end_);
}

// --- The engine's life

void Simulation::format() {
  CrashSpace space(*medium_);
  const Status status = CacheDev::format(space, {kUuid, "sim", 256 * kKiB});
  if (!status.ok()) fail(status.message());
  medium_->track(true);
}

bool Simulation::durable_when_acknowledged() const {
  return granularity_ != Granularity::page || options_.ack == Ack::durable;
}

// The process ends here and now: what is left is put aside for the next one. The engine itself goes on, on media that
// are thrown away, until it can be taken down.
void Simulation::die(End end) {
  ++(end == End::kill ? counts_.kills : counts_.power_cuts);
  if (std::any_of(devices_.begin(), devices_.end(), [](const auto& d) { return d->busy; })) ++counts_.in_writeback;
  dead_ = true;
  close_wanted_ = false;
  fences_left_ = 0;
  ++life_;
  requests_.clear();
  if (end == End::kill) {
    next_medium_ = std::make_unique<CrashMedium>(*medium_);  // what is pending stays pending
  } else {
    next_medium_ = std::make_unique<CrashMedium>(medium_->size(), granularity_);
    medium_->copy_durable_to(*next_medium_);
    CrashRandom random(random_());
    CrashPatch patch;
    medium_->tear(random, patch);
    for (std::size_t i = 0; i < patch.count(); ++i) {
      next_medium_->store(patch.offset(i), patch.content(i).data(), patch.content(i).size());
    }
    next_medium_->track(true);
  }
  for (const auto& device : devices_) {
    if (device->backing != nullptr) device->backing->die();
    if (end == End::power_cut) device->disk->power_cut(random_);
    const bool may_lose = end == End::power_cut && !durable_when_acknowledged();
    const SectorHistory::Moment now = moment();
    device->history->restart(may_lose ? device->last_flush : now, now);
    device->unsettled |= may_lose;
  }
}

void Simulation::take_down() {
  for (const auto& device : devices_) {
    if (dead_ && device->backing != nullptr) {
      device->backing->die();
      device->backing->abandon();
    }
    device->cached.reset();
    device->busy = false;
  }
  cache_.reset();
  if (next_medium_) medium_ = std::move(next_medium_);
}

void Simulation::close() {
  ++counts_.closes;
  close_wanted_ = false;
  closing_ = true;
  take_down();
  closing_ = false;
  if (dead_) return open();  // it died on the way
  if (!requests_.empty()) return fail("the engine was closed and has not answered an operation");
  ++life_;
  for (const auto& device : devices_) {
    const SectorHistory::Moment now = moment();
    device->history->restart(now, now);
  }
  open();
}

void Simulation::open() {
  do {
    if (dead_) take_down();
    dead_ = false;
    if (end_every_ms_ != 0 && one_in(6) && life_ != 0) {
      fences_left_ = 1 + below(12);
      fence_end_ = one_in(2) ? End::kill : End::power_cut;
    }
    try_open();
  } while (dead_ && failure_.empty());
  fences_left_ = 0;
  for (const auto& device : devices_) {
    if (failure_.empty()) settle(*device);
  }
  if (failure_.empty()) start_life();
}

void Simulation::try_open() {
  medium_->on_fence = [this] { came_to_fence(); };
  auto cache_dev = CacheDev::open(std::make_unique<CrashSpace>(*medium_));
  if (!cache_dev) return fail(cache_dev.status().message());
  auto cache = Cache::open(std::move(cache_dev).value(), options_, [this] { return events_.now_ms(); });
  if (!cache) return fail(cache.status().message());
  cache_ = std::move(cache).value();
  const auto held = cache_->cache_dev().devices();
  for (const auto& device : devices_) {
    auto backing = std::make_unique<SimBacking>(*device->disk, device->faults, events_, random_, device->name);
    device->backing = backing.get();
    device->untold_flushes = 0;
    if (dead_) backing->die();
    backing->on_failure = [this, raw = device.get()](SimBacking::Kind kind) {
      ++counts_.backing_faults;
      (kind == SimBacking::Kind::read ? raw->last_read_fault : raw->last_change_fault) = moment();
      if (kind != SimBacking::Kind::flush) return;
      ++raw->untold_flushes;
      raw->told = false;
    };
    backing->on_closed = [raw = device.get()] { raw->backing = nullptr; };
    backing->on_flushed = [this, raw = device.get()] {
      raw->recovered = moment();
      if (one_in(2)) check_epoch(*raw, 0);
    };
    const auto found =
        std::find_if(held.begin(), held.end(), [&](const auto& h) { return device->name == h.record.name.data(); });
    auto cached = found == held.end() ? cache_->add(device->name, std::move(backing))
                                      : cache_->attach(*found, std::move(backing));
    if (!cached) return fail(cached.status().message());
    device->cached = std::move(cached).value();
    if (device->cached->failed()) return fail(device->name + " is failed: " + device->cached->stats().detail);
  }
}

// What opening found stays. It is looked at now, or left to the users.
void Simulation::settle(Device& device) {
  if (std::exchange(device.unsettled, false) || one_in(2)) {
    std::vector<std::byte> content;
    if (!read_all(device, content)) return fail("after a restart, " + device.name + " cannot be read");
    const std::string wrong = device.history->settle(content, moment());
    if (!wrong.empty()) return fail("after a restart, " + device.name + ": " + wrong);
  }
  device.history->close_epoch(moment());
  device.last_flush = moment();
}

bool Simulation::read_all(Device& device, std::vector<std::byte>& content) {
  constexpr std::size_t kAtOnce = 256 * kKiB;
  content.assign(device.sectors * kSectorSize, std::byte{0x5a});
  device.backing->set_immediate(true);
  int error = 0;
  for (std::size_t at = 0; at < content.size() && error == 0; at += kAtOnce) {
    error = -1;
    const std::span<std::byte> part(content.data() + at, std::min(kAtOnce, content.size() - at));
    device.cached->read(at, part, {[](void* context, int code) { *static_cast<int*>(context) = code; }, &error});
  }
  device.backing->set_immediate(false);
  return error == 0;
}

// Nothing fails any more: everything is answered, and the backing devices alone come to hold all of it.
void Simulation::finish() {
  finishing_ = true;
  quiet_ = true;
  faults_end_ms_ = std::max(faults_end_ms_, events_.now_ms());
  fences_left_ = 0;
  for (const auto& device : devices_) device->faults = SimFaults();
  while (failure_.empty() && (!requests_.empty() || dead_ || close_wanted_)) step();
  for (const auto& device : devices_) {
    while (failure_.empty() && device->busy) step();
    if (failure_.empty()) drain(*device);
    if (!failure_.empty()) return;
    std::vector<std::byte> content;
    if (!read_all(*device, content)) return fail("at the end, " + device->name + " cannot be read");
    const std::string wrong = device->history->settle(content, moment());
    if (!wrong.empty()) return fail("at the end, " + device->name + ": " + wrong);
    if (content != device->disk->durable) return fail("at the end, the backing of " + device->name + " is another");
    const LogicDevStats stats = device->cached->stats();
    if (stats.dirty_bytes != 0) return fail("at the end, " + device->name + " has dirty data");
    // A power cut may leave a clean record without its cell, which is then read from the backing again.
    if (stats.checksum_errors != 0 && end_every_ms_ == 0) return fail(device->name + " found checksums that are wrong");
    counts_.evicted_blocks += stats.evicted_bytes / kBlockSize;
    counts_.relocated_blocks += stats.relocated_bytes / kBlockSize;
    counts_.space_waits += stats.space_waits;
  }
  closing_ = true;
  take_down();
  if (!requests_.empty()) fail("the engine was closed and has not answered an operation");
}

}  // namespace pcache
