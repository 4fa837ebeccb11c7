// What an operator changes of devices in use: modes, settings, removal with and without what is dirty, the size of the
// cache device.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "media/device_record.h"
#include "tests/simulation/simulation.h"
#include "tests/support/random_changes.h"

namespace pcache {
namespace {

constexpr std::uint32_t kMostShareMin = 15;  // percent, of each of up to three

}  // namespace

void Simulation::schedule_operator(Device& device) {
  if (operate_every_ms_ == 0) return;
  events_.after(below(2 * operate_every_ms_), [this, &device] {
    if (finishing_) return;
    schedule_operator(device);
    operate(device);
  });
}

// Not while somebody else waits inside the engine: they would have to wait for the end of this, though in a system of
// several threads they do not.
void Simulation::operate(Device& device) {
  const bool somebody_waits =
      depth_ > 1 || std::any_of(devices_.begin(), devices_.end(), [](const auto& d) { return d->busy; });
  if (dead_ || closing_ || close_wanted_ || somebody_waits || device.out) return;
  switch (below(10)) {
    case 0:
      return park(device);
    case 1:
      return remove(device, one_in(3));
    case 2:
    case 3:
    case 4:
    case 5:
      return switch_mode(device);
    default:
      return configure(device);
  }
}

Settings Simulation::settings_of(const Device& device) const {
  Settings settings = device.stored;
  settings.merge(device.mount);
  return settings;
}

// Whether writes may reach the backing before they are acknowledged, past the log.
bool Simulation::writes_directly(const Device& device) const {
  return is_direct(device.mode.in_force()) || device.next_mode.has_value();
}

void Simulation::note_settings(Device& device) {
  const auto policy = static_cast<FullPolicy>(setting_of(device, Setting::full_policy));
  device.may_go_around |= policy == FullPolicy::bypass;
  device.history->allow_torn(writes_directly(device) || device.may_go_around);
}

void Simulation::switch_mode(Device& device) {
  ++counts_.switches;
  const ModeChoice from = device.mode;
  const ModeChoice to = random_mode([this](std::uint64_t limit) { return below(limit); });
  const SectorHistory::Moment began = moment();
  device.next_mode = to;
  note_settings(device);
  Status status;
  const bool alive = engaged(device, [&] {
    status = device.cached->begin_switch(to);
    if (status.ok()) status = device.cached->await_switch(0).value_or(Status(Errc::failed, "it does not end"));
  });
  if (!alive) return;
  device.next_mode.reset();
  if (status.ok()) {
    device.mode = to;
    const bool moved = is_direct(from.in_force()) != is_direct(to.in_force());
    if (moved) device.last_flush = std::max(device.last_flush, device.held);
  } else {
    ++counts_.failed_switches;
    const bool explained = device.last_change_fault > std::min(device.recovered, began);
    if (!explained) fail("a switch of " + device.name + " failed, and nothing explains it: " + status.message());
  }
  if (device.cached->mode_choice() != device.mode)
    fail("the mode of " + device.name + " is another than was asked for");
  note_settings(device);
}

void Simulation::configure(Device& device) {
  ++counts_.changes;
  Settings changes = random_settings([this](std::uint64_t limit) { return below(limit); }, kMostShareMin);
  changes.unset(Setting::full_max_wait);  // by which the oracle knows who has waited too long
  if (changes.empty()) return;
  const auto policy_before = setting_of(device, Setting::full_policy);
  Settings changed = device.stored;
  changed.merge(changes);
  device.next_settings = changed;
  Status status;
  if (!engaged(device, [&] { status = device.cached->configure(changes); })) return;
  device.next_settings.reset();
  const bool promises_too_much = changes.has(Setting::share_min) && !is_whole() && status.code() == Errc::invalid;
  if (status.ok() != check_settings(changed).ok() && !promises_too_much) {
    fail("a change of settings: " + status.message());
  }
  if (!status.ok()) return;
  device.stored = changed;
  for (const SettingInfo& info : all_settings()) {
    if (changes.has(info.setting)) device.mount.unset(info.setting);
  }
  if (policy_before == static_cast<std::uint64_t>(FullPolicy::error)) device.last_no_space = moment();
  note_settings(device);
  check_operator_settings(device);
}

// After an opening a change or a switch that was under way may have come about or not.
void Simulation::check_operator_settings(Device& device) {
  const ModeChoice found = device.cached->mode_choice();
  if (found != device.mode && found != device.next_mode) return fail("the mode of " + device.name + " was not kept");
  device.mode = found;
  device.next_mode.reset();
  Settings stored;
  for (const CacheDev::Device& held : cache_->cache_dev().devices()) {
    if (device.name == held.record.name.data()) stored = pcache::settings_of(held.record);
  }
  stored.unset(Setting::mode);
  if (stored != device.stored && stored != device.next_settings)
    return fail("the settings of " + device.name + " were not kept");
  device.stored = stored;
  device.next_settings.reset();
  const Settings in_force = settings_of(device);
  for (const SettingValue& value : device.cached->settings()) {
    if (value.setting == Setting::mode || value.value == in_force.get(value.setting)) continue;
    return fail("a setting of " + device.name + " is another than was stored");
  }
}

// Kept for later, with all that is dirty.
void Simulation::park(Device& device) {
  ++counts_.parks;
  device.last_refusal = moment();
  device.out = true;
  const SectorHistory::Moment began = moment();
  Status status;
  if (!engaged(device, [&] { status = cache_->park(device.cached); })) return;
  if (!status.ok()) return fail("keeping " + device.name + " failed: " + status.message());
  device.last_refusal = moment();
  if (!is_direct(device.mode.in_force())) device.last_flush = began;
  schedule_return(device, below(20'000));
}

// Written back first, or thrown away.
void Simulation::remove(Device& device, bool throw_away) {
  device.cached->refuse_writes(device.refuses = true);
  if (!throw_away) {
    const std::uint64_t life = life_;
    const int error = drain(device);
    if (life != life_ || dead_ || !failure_.empty()) return;
    if (error != 0) {
      device.last_refusal = moment();
      return device.cached->refuse_writes(device.refuses = false);
    }
  }
  ++counts_.removals;
  device.out = true;
  device.forgotten = throw_away;
  device.removing = true;
  Status status;
  if (!engaged(device, [&] { status = cache_->remove(device.cached); })) return;
  if (!status.ok()) return fail("removing " + device.name + " failed: " + status.message());
  device.last_refusal = moment();
  device.refuses = false;
  device.cached.reset();
  schedule_return(device, below(20'000));
}

void Simulation::schedule_return(Device& device, std::uint64_t delay_ms) {
  events_.after(delay_ms, [this, &device, life = life_] {
    if (life != life_ || dead_) return;
    const bool somebody_waits =
        depth_ > 1 || std::any_of(devices_.begin(), devices_.end(), [](const auto& d) { return d->busy; });
    if (somebody_waits || closing_ || close_wanted_ || !bring_back(device)) {
      if (life == life_ && !dead_) schedule_return(device, 1 + below(1000));
      return;
    }
    settle(device);
    if (life == life_ && !dead_) schedule_background(device, below(200));
  });
}

// Adds a device that is not there, or is kept for later. False: not now, as its backing fails, or the engine is dead.
bool Simulation::bring_back(Device& device) {
  const auto held = cache_->cache_dev().devices();
  const bool recorded =
      std::any_of(held.begin(), held.end(), [&](const auto& h) { return device.name == h.record.name.data(); });
  const SectorHistory::Moment began = moment();
  std::optional<Result<std::shared_ptr<CachedDevice>>> up;
  auto backing = make_backing(device);
  const bool alive = engaged(device, [&] {
    up.emplace(recorded ? cache_->unpark(device.cached, std::move(backing))
                        : cache_->add(device.name, std::move(backing)));
  });
  if (!alive) return false;
  if (!up->ok()) {
    const bool no_room = up->status().code() == Errc::no_space || up->status().code() == Errc::invalid;
    if (no_room && !is_whole()) {
      resize_cache();
      return false;
    }
    if (device.last_change_fault < began) fail(device.name + " does not come back: " + up->status().message());
    return false;
  }
  device.cached = std::move(**up);
  device.mount = options_.settings;
  device.out = false;
  if (!recorded) came_anew(device);
  if (device.cached->failed()) fail(device.name + " is failed: " + device.cached->stats().detail);
  check_operator_settings(device);
  note_settings(device);
  return failure_.empty();
}

// It was added, and its backing flushed.
void Simulation::came_anew(Device& device) {
  device.mode = {};
  device.next_mode.reset();
  device.stored = {};
  device.next_settings.reset();
  device.device_id = device.cached->device_id();
  device.removing = device.may_go_around = false;
  if (!std::exchange(device.forgotten, false)) return;
  if (!device.history->reset(device.disk->current, moment()))
    fail("the backing of " + device.name + " has what nobody wrote");
  device.unsettled = false;
}

// --- The cache device

void Simulation::schedule_resizing() {
  if (resize_every_ms_ == 0) return;
  events_.after(below(2 * resize_every_ms_), [this] {
    if (finishing_) return;
    schedule_resizing();
    if (!dead_ && !closing_ && !close_wanted_ && depth_ == 1) resize_cache();
  });
}

void Simulation::resize_cache() {
  note_shrinking();
  if (next_cache_size_ != 0) {
    if (one_in(2)) return;
    cache_->cancel_shrink();
    return note_shrinking();
  }
  const std::uint64_t pages = medium_->size() / kMediaPage;
  const std::uint64_t size = one_in(3) ? medium_->size() : (pages / 4 + below(pages - pages / 4)) * kMediaPage;
  const bool grows = size > cache_size_;
  const std::uint64_t life = life_;
  next_cache_size_ = size;
  const Status status = grows ? cache_->grow(size) : cache_->begin_shrink(size);
  if (life != life_ || dead_) return;
  if (grows || !status.ok()) next_cache_size_ = 0;
  if (grows && status.ok()) {
    cache_size_ = size;
    ++counts_.growths;
  }
  const bool too_small = !grows && (status.code() == Errc::no_space || status.code() == Errc::invalid);
  if (!status.ok() && !too_small) fail("another size of the cache device: " + status.message());
  check_cache_size();
}

// Whether it has become smaller by now, or cannot.
void Simulation::note_shrinking() {
  if (next_cache_size_ == 0) return;
  std::uint64_t left = 0;
  const auto ended = cache_->await_shrink(0, left);
  if (!ended) return;
  ++(ended->ok() ? counts_.shrinkings : counts_.failed_shrinkings);
  if (ended->ok()) cache_size_ = next_cache_size_;
  if (ended->code() == Errc::integrity) fail("the cache device does not become smaller: " + ended->message());
  next_cache_size_ = 0;
  check_cache_size();
}

// After an opening a change of the size that was under way may have come about or not.
void Simulation::find_cache_size() {
  if (cache_->stats().size_bytes == next_cache_size_) cache_size_ = next_cache_size_;
  next_cache_size_ = 0;
  check_cache_size();
}

void Simulation::check_cache_size() {
  const std::uint64_t found = cache_->stats().size_bytes;
  if (found == cache_size_) return;
  fail("the cache device has " + std::to_string(found) + " bytes, not " + std::to_string(cache_size_));
}

}  // namespace pcache
