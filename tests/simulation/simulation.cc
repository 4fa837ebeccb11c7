#include "tests/simulation/simulation.h"

#include <algorithm>
#include <utility>

#include "base/pause_point.h"
#include "base/units.h"
#include "media/device_record.h"

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
  for (const auto& device : devices_) {
    schedule_faults(*device);
    schedule_operator(*device);
  }
  schedule_resizing();
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
  if (point == "gate.awaited") await_direct(*entered_);
  if (point == "switch.stored" && !dead_) {
    entered_->held = moment();
    if (is_direct(entered_->cached->mode())) entered_->history->only_epoch(moment());
  }
  // Whoever's it is: a user's flush may have had to wait for the backing's first.
  if ((point == "around.entered" || point == "commit.closed" || point == "flush.closed") && !dead_) {
    for (const auto& device : devices_) {
      if (device->may_go_around) device->history->close_epoch(moment());
    }
  }
  if (point == "backing.wait") await_backing();
  if (point == "writeback.buffer") wait_for(*entered_, kWritesAtOnce - 1);
  if (point == "stop.idle") finish_backings();
}

// Of the device that the engine works for, or of all.
void Simulation::finish_backings() {
  for (const auto& device : devices_) {
    if (device->backing == nullptr || (entered_ != nullptr && entered_ != device.get())) continue;
    dead_ ? device->backing->abandon() : device->backing->finish_all();
  }
}

// The engine waits until at most so many of its writes are under way. Meanwhile everything else goes on.
void Simulation::wait_for(const Device& device, std::size_t changing) {
  ++depth_;
  while (!dead_ && device.backing != nullptr && device.backing->changing() > changing) step();
  --depth_;
  if (dead_ && device.backing != nullptr) device.backing->abandon();
}

// A switch of the mode waits for writes that go around the log. What waits for something else than the backing may wait
// for what only the switch itself goes on to do.
void Simulation::await_direct(Device& device) {
  constexpr std::uint64_t kPauseMs = 20;
  ++depth_;
  const std::uint64_t end_ms = events_.now_ms() + kPauseMs;
  while (!dead_ && device.cached->direct_operations() != 0) {
    if (device.backing->changing() == 0 && events_.now_ms() >= end_ms) break;
    step();
  }
  --depth_;
  while (dead_ && device.cached->direct_operations() != 0) {
    device.backing->abandon();
    cache_->fail_waiting(device.cached.get());
  }
}

// Copies of what a failed flush took away are void when whoever waited for the flush goes on, and readable until then.
void Simulation::await_backing() {
  if (entered_ == nullptr) return finish_backings();
  Device& device = *entered_;
  const SectorHistory::Moment began = moment();
  wait_for(device, 0);
  if (!dead_ && device.last_flush_fault > began) lose_unflushed(device);
}

void Simulation::came_to_fence() {
  if (dead_ || fences_left_ == 0 || --fences_left_ != 0) return;
  if (opening_) {
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
    const bool may_lose = end == End::power_cut && (!durable_when_acknowledged() || writes_directly(*device));
    device->cut |= end == End::power_cut;
    const SectorHistory::Moment now = moment();
    device->history->restart(may_lose ? device->last_flush : now, now);
    if (end == End::power_cut && device->may_go_around) lose_what_failed(*device);
    device->unsettled |= may_lose;
  }
}

void Simulation::take_down() {
  for (const auto& device : devices_) {
    if (dead_ && device->backing != nullptr) {
      device->backing->die();
      device->backing->abandon();
    }
    if (device->cached != nullptr) engaged(*device, [&] { device->cached->stop(); });
  }
  for (const auto& device : devices_) {
    device->cached.reset();
    device->busy = device->out = device->refuses = false;
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
    opening_ = true;
    if (end_every_ms_ != 0 && one_in(6) && life_ != 0) {
      fences_left_ = 1 + below(12);
      fence_end_ = one_in(2) ? End::kill : End::power_cut;
    }
    try_open();
    opening_ = false;
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
  if (!dead_) find_cache_size();
  const auto held = cache_->cache_dev().devices();
  for (const auto& device : devices_) {
    device->untold_flushes = 0;
    device->mount = options_.settings;
    const auto found =
        std::find_if(held.begin(), held.end(), [&](const auto& h) { return device->name == h.record.name.data(); });
    if (found == held.end()) {
      if (device->device_id != 0 && !device->removing) return fail(device->name + " is not there any more");
      device->out = true;
      bring_back(*device);
    } else if (is_parked(found->record)) {
      device->out = true;
      auto cached = cache_->attach(*found, nullptr);
      if (!cached) return fail(cached.status().message());
      device->cached = std::move(cached).value();
    } else {
      auto cached = cache_->attach(*found, make_backing(*device));
      if (!cached) return fail(cached.status().message());
      device->cached = std::move(cached).value();
      if (dead_) return;  // and what was found may be gone with it
      if (device->device_id != found->record.device_id) came_anew(*device);
      device->removing = device->forgotten = false;
    }
    if (dead_ || !failure_.empty()) return;
    if (device->cached == nullptr) continue;
    if (device->cached->failed()) return fail(device->name + " is failed: " + device->cached->stats().detail);
    check_operator_settings(*device);
    note_settings(*device);
  }
}

std::unique_ptr<SimBacking> Simulation::make_backing(Device& device) {
  auto backing = std::make_unique<SimBacking>(*device.disk, device.faults, events_, random_, device.name);
  device.backing = backing.get();
  device.untold_flushes = 0;
  if (dead_) backing->die();
  backing->on_failure = [this, raw = &device](SimBacking::Kind kind) {
    ++counts_.backing_faults;
    (kind == SimBacking::Kind::read ? raw->last_read_fault : raw->last_change_fault) = moment();
    if (kind != SimBacking::Kind::flush) return;
    ++raw->untold_flushes;
    raw->told = false;
    raw->last_flush_fault = moment();
    lose_unflushed(*raw);
  };
  backing->on_closed = [raw = &device, self = backing.get()] {
    if (raw->backing == self) raw->backing = nullptr;
  };
  backing->on_flushed = [this, raw = &device] {
    raw->recovered = moment();
    if (raw->out || raw->cached == nullptr) return;
    if (is_direct(raw->cached->mode())) {
      raw->history->only_epoch(moment());
    } else if (one_in(2)) {
      check_epoch(*raw, 0);
    }
  };
  return backing;
}

// The backing failed a flush: what is nowhere else may be gone from there too.
void Simulation::lose_unflushed(Device& device) {
  if (writes_directly(device)) {
    device.history->may_revert(SectorHistory::Losable::everything, device.last_flush, moment());
  } else if (device.may_go_around) {
    lose_what_failed(device);
  }
}

// Of writes around the log that failed the backing may have something, until it loses that.
void Simulation::lose_what_failed(Device& device) {
  device.history->may_revert(SectorHistory::Losable::what_failed, device.last_flush, moment());
}

// What opening found stays. It is looked at now, or left to the users.
void Simulation::settle(Device& device) {
  if (device.out) return;  // until it is back
  if (std::exchange(device.unsettled, false) || one_in(2)) {
    std::vector<std::byte> content;
    const std::uint64_t life = life_;
    const bool is_read = read_all(device, content);
    if (life != life_ || dead_) {  // at one of its fences
      device.unsettled = true;
      return;
    }
    if (!is_read) return fail("after a restart, " + device.name + " cannot be read");
    const std::string wrong = device.history->settle(content, moment());
    if (!wrong.empty()) return fail("after a restart, " + device.name + ": " + wrong);
  }
  device.history->close_epoch(moment());
  // What the backing took in an earlier life it may still lose.
  const bool flushed = !is_direct(device.mode.in_force()) || device.cut;
  if (flushed) device.last_flush = moment();
  device.cut = false;
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
  const auto somebody_out = [this] {
    return std::any_of(devices_.begin(), devices_.end(), [](const auto& device) { return device->out; });
  };
  while (failure_.empty() && (!requests_.empty() || dead_ || close_wanted_ || somebody_out())) step();
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
