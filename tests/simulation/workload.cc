// What happens around the engine: users, background work, faults of the backing devices, ends of the process.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/units.h"
#include "tests/simulation/simulation.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSectorsPerBlock = kBlockSize / kSectorSize;
// However bad it was, once faults have ended every operation is answered within this time.
constexpr std::uint64_t kAnswerMs = 60'000;

}  // namespace

// What this seed is about.
void Simulation::plan() {
  const auto one_of = [this](std::initializer_list<std::uint32_t> values) {
    return values.begin()[below(values.size())];
  };
  granularity_ = std::array{Granularity::cache_line, Granularity::cache_line, Granularity::byte, Granularity::page,
                            Granularity::page}[below(5)];
  if (granularity_ == Granularity::page && one_in(3)) options_.ack = Ack::durable;
  options_.settings.set(Setting::dirty_max_age, one_of({0, 100, 1000, 20'000}));
  const std::uint32_t high = one_of({5, 30, 50, 90});
  options_.settings.set(Setting::dirty_high, kPercent | high);
  options_.settings.set(Setting::dirty_low, kPercent | std::min(high, one_of({0, 5, 40})));
  options_.settings.set(Setting::writeback_rate_min, one_of({0, 0, 100'000}));
  options_.settings.set(Setting::writeback_rate_max, one_of({0, 0, 300'000, 3'000'000}));
  options_.settings.set(Setting::writeback_order, one_of({0, 0, 1}));
  options_.settings.set(Setting::full_policy,
                        static_cast<std::uint64_t>(one_in(4) ? FullPolicy::error : FullPolicy::throttle));
  options_.settings.set(Setting::full_max_wait, one_of({30'000, 60'000, 86'400'000}));
  options_.epoch_max_ms = one_of({50, 1000, 1000, 10'000});
  busy_seconds_ = busy_seconds_ / 2 + below(busy_seconds_);
  faults_every_ms_ = one_of({0, 10'000, 40'000});
  end_every_ms_ = one_of({0, 15'000, 60'000});
  operate_every_ms_ = one_of({0, 5'000, 20'000, 60'000});
  resize_every_ms_ = one_of({0, 0, 5'000, 30'000});
  const std::uint64_t device_count = 1 + below(3);
  medium_ = std::make_unique<CrashMedium>((3 + device_count) * kMiB + below(12) * 256 * kKiB, granularity_);
  cache_size_ = medium_->size();

  for (std::uint64_t i = 0; i < device_count; ++i) {
    auto device = std::make_unique<Device>();
    device->name = "dev" + std::to_string(i);
    device->sectors = (200 + below(1000)) * kSectorsPerBlock + below(kSectorsPerBlock);
    device->disk = std::make_unique<SimDisk>(device->sectors * kSectorSize);
    for (std::uint64_t sector = 0; sector < device->sectors; ++sector) {
      SectorHistory::encode(SectorHistory::kInitial, sector, &device->disk->current[sector * kSectorSize]);
    }
    device->disk->durable = device->disk->current;
    device->history = std::make_unique<SectorHistory>(device->sectors);
    const std::uint64_t user_count = 1 + below(4);
    for (std::uint64_t j = 0; j < user_count; ++j) {
      auto user = std::make_unique<User>();
      user->device = device.get();
      user->habit = static_cast<User::Habit>(below(5));
      user->writes_percent = one_of({10, 40, 60, 90});
      user->think_ms = one_of({100, 400, 1000, 2000});
      user->hot = below(device->sectors);
      users_.push_back(std::move(user));
    }
    devices_.push_back(std::move(device));
  }
}

// An engine has come up.
void Simulation::start_life() {
  for (const auto& device : devices_) {
    device->out ? schedule_return(*device, below(5000)) : schedule_background(*device, below(200));
  }
  schedule_reclaim(below(100));
  for (const auto& user : users_) {
    user->waiting = false;
    user_acts(*user);
  }
  if (end_every_ms_ != 0 && one_in(3) && !finishing_) {
    fences_left_ = 1 + below(one_in(2) ? 20 : 500);
    fence_end_ = one_in(2) ? End::kill : End::power_cut;
  }
}

// --- Users

// Users work for a while, and then for a while they do not.
void Simulation::begin_phase() {
  quiet_ = false;
  for (const auto& user : users_) {
    if (opening_) break;  // it lets all of them begin
    if (std::exchange(user->waiting, false)) user_acts(*user);
  }
  events_.after(10'000 + below(50'000), [this] {
    quiet_ = true;
    const std::uint64_t pause_ms = one_in(6) ? below(3 * 3600'000) : below(20'000);
    events_.after(pause_ms, [this] {
      if (!finishing_) begin_phase();
    });
  });
}

void Simulation::user_acts(User& user) {
  const std::uint64_t pause_ms = one_in(4) ? 0 : below(user.think_ms);
  events_.after(pause_ms, [this, &user, life = life_] {
    if (life != life_) return;
    if (quiet_) {
      user.waiting = true;
      return;
    }
    if (user.device->out || user.device->cached == nullptr) {  // or is being brought back
      events_.after(500, [this, &user, life] {
        if (life == life_) user_acts(user);
      });
      return;
    }
    const Request::Kind kind = choose_kind(user);
    start(&user, *user.device, kind, choose_range(user, kind));
  });
}

Simulation::Request::Kind Simulation::choose_kind(const User& user) {
  const std::uint64_t choice = below(100);
  if (choice < 4) return Request::Kind::flush;
  if (choice < 8) return Request::Kind::discard;
  return below(100) < user.writes_percent ? Request::Kind::write : Request::Kind::read;
}

SectorHistory::Range Simulation::choose_range(User& user, Request::Kind kind) {
  using Habit = User::Habit;
  const std::uint64_t sectors = user.device->sectors;
  const Habit habit = user.habit == Habit::mixed ? static_cast<Habit>(below(4)) : user.habit;
  std::uint64_t first = 0;
  std::uint64_t count = (1 + below(16)) * kSectorsPerBlock;
  switch (habit) {
    case Habit::sequential:
      first = user.next;
      count = (4 + below(29)) * kSectorsPerBlock;
      user.next = first + count < sectors ? first + count : 0;
      break;
    case Habit::hot_spot:
      first = (user.hot + below(64 * kSectorsPerBlock)) % sectors / kSectorsPerBlock * kSectorsPerBlock;
      break;
    case Habit::partial:
      first = (user.hot + below(200 * kSectorsPerBlock)) % sectors;
      count = 1 + below(24);
      break;
    default:
      first = below(sectors) / kSectorsPerBlock * kSectorsPerBlock;
  }
  if (kind == Request::Kind::discard && one_in(2)) count *= 1 + below(20);
  if (kind == Request::Kind::discard && one_in(20)) return {0, sectors};
  return {first, std::min(count, sectors - first)};
}

void Simulation::start(User* user, Device& device, Request::Kind kind, const SectorHistory::Range& range) {
  auto request = std::make_unique<Request>(Request{*this, life_, device, user, kind, range, 0, 0, 0, {}});
  request->began = moment();
  request->began_ms = events_.now_ms();
  const std::uint64_t offset = range.first * kSectorSize;
  const std::uint64_t length = range.count * kSectorSize;
  const bool changes = kind == Request::Kind::write || kind == Request::Kind::discard;
  if (changes) request->operation = device.history->begin(range, kind == Request::Kind::discard, request->began);
  if (kind == Request::Kind::read) request->content.assign(length, std::byte{0x5a});
  if (kind == Request::Kind::write) {
    request->content.resize(length);
    for (std::uint64_t i = 0; i < range.count; ++i) {
      SectorHistory::encode(request->operation, range.first + i, &request->content[i * kSectorSize]);
    }
  }
  Request* const raw = request.release();
  mark_busy(!requests_.empty());
  requests_.insert(raw);
  const Completion done{[](void* context, int error) {
                          std::unique_ptr<Request> ended(static_cast<Request*>(context));
                          Simulation& simulation = ended->simulation;
                          simulation.completed(std::move(ended), error);
                        },
                        raw};
  Device* const outer = std::exchange(entered_, &device);
  switch (kind) {
    case Request::Kind::read:
      ++counts_.reads;
      device.cached->read(offset, raw->content, done);
      break;
    case Request::Kind::write:
      ++counts_.writes;
      device.cached->write(offset, raw->content, done);
      break;
    case Request::Kind::discard:
      ++counts_.discards;
      device.cached->discard(offset, length, done);
      break;
    case Request::Kind::flush:
      ++counts_.flushes;
      device.history->close_epoch(moment());
      device.cached->flush(done);
      break;
  }
  entered_ = outer;
}

void Simulation::completed(std::unique_ptr<Request> request, int error) {
  if (request->life != life_ || !failure_.empty()) return;
  mark_busy(true);
  requests_.erase(request.get());
  Device& device = request->device;
  const SectorHistory::Moment now = moment();
  note(now ^ static_cast<std::uint64_t>(error) << 32);
  std::string wrong;
  if (error != 0) {
    ++counts_.failed_operations;
    if (request->kind != Request::Kind::flush) wrong = check_error(*request, error);  // that is judged below
  }
  switch (request->kind) {
    case Request::Kind::read:
      if (error == 0) {
        note(request->content.empty() ? 0 : static_cast<std::uint64_t>(request->content[0]));
        wrong = device.history->check_read(request->range, request->content, request->began, now);
      }
      break;
    case Request::Kind::write:
    case Request::Kind::discard:
      device.history->end(request->operation, error == 0, now);
      break;
    case Request::Kind::flush: {
      // One that failed may have been several users', or that of a write that went around the log.
      const bool shares_failure =
          (writes_directly(device) || device.may_go_around) && device.last_flush_fault > request->began;
      if (error == 0) device.last_flush = std::max(device.last_flush, request->began);
      // During the writeback whose flush it was, a failure may be told or not yet.
      if (error != 0 && device.untold_flushes == 0 && !shares_failure && check_error(*request, error) != "") {
        wrong = "failed, and no flush of the backing did";
      }
      if (error == 0 && device.untold_flushes != 0 && !device.told && !device.busy && !device.may_go_around) {
        wrong = "hides a failed flush";
      }
      if (error != 0) device.told = true;
      if (error != 0 && device.untold_flushes != 0) device.untold_flushes = device.busy ? device.untold_flushes - 1 : 0;
      break;
    }
  }
  if (!wrong.empty()) {
    constexpr const char* kNames[] = {"read", "write", "discard", "flush"};
    return fail(device.name + ", " + kNames[static_cast<int>(request->kind)] + " of sectors " +
                std::to_string(request->range.first) + "+" + std::to_string(request->range.count) + ", begun at " +
                std::to_string(request->began_ms) + " ms (moment " + std::to_string(request->began) + "): " + wrong);
  }
  SectorHistory::Moment oldest = device.last_flush;
  for (const Request* other : requests_) oldest = std::min(oldest, other->began);
  device.history->forget_before(oldest);
  if (request->user != nullptr) user_acts(*request->user);
}

// Whether the backing's faults, or the engine's being closed, explain that it failed.
std::string Simulation::check_error(const Request& request, int error) const {
  const Device& device = request.device;
  if (closing_ || close_wanted_) return "";
  const bool refused = device.out || device.last_refusal > request.began || device.refuses;
  if (refused && error == EIO) return "";
  const bool read_failed = device.last_read_fault > request.began;
  const bool no_writeback = device.last_change_fault > std::min(device.recovered, request.began) ||
                            (device.cached != nullptr && device.cached->backing_failing());
  const bool changes = request.kind == Request::Kind::write || request.kind == Request::Kind::discard;
  if (request.kind == Request::Kind::flush) return "failed";
  if (error == ENOSPC) {
    if (!changes) return "is told that there is no space";
    const bool fails_at_once =
        setting_of(device, Setting::full_policy) == static_cast<std::uint64_t>(FullPolicy::error);
    if (fails_at_once || device.last_no_space > request.began) return "";
    const bool waited = events_.now_ms() >= request.began_ms + options_.settings.get(Setting::full_max_wait);
    return waited && faults_end_ms_ > request.began_ms ? "" : "is told too early that there is no space";
  }
  if (read_failed) return "";
  if (changes && no_writeback) return "";
  return "failed, and nothing explains it";
}

// The second that it is was a busy one, and those since the last busy one too if something was under way all the time.
void Simulation::mark_busy(bool all_the_time) {
  const std::uint64_t second = events_.now_ms() / 1000 + 1;
  if (second <= marked_second_) return;
  counts_.busy_seconds += all_the_time ? second - marked_second_ : 1;
  marked_second_ = second;
}

// --- Background work

void Simulation::schedule_background(Device& device, std::uint64_t delay_ms) {
  events_.after(delay_ms, [this, &device, life = life_] {
    if (life != life_ || dead_ || closing_ || device.out) return;
    if (device.busy) return schedule_background(device, 1 + below(50));
    if (one_in(200) && !finishing_) {
      drain(device);
      if (life != life_ || dead_) return;
      return schedule_background(device, 1);
    }
    device.busy = true;
    Device* const outer = std::exchange(entered_, &device);
    const auto idle = static_cast<std::uint64_t>(device.cached->background_step().count());
    entered_ = outer;
    if (life != life_ || dead_) return;
    device.busy = false;
    const bool nothing_to_do = quiet_ && requests_.empty() && device.cached->dirty_bytes() == 0;
    schedule_background(device, nothing_to_do ? 1000 + below(30'000) : std::max<std::uint64_t>(idle, 1) + below(5));
  });
}

void Simulation::schedule_reclaim(std::uint64_t delay_ms) {
  events_.after(delay_ms, [this, life = life_] {
    if (life != life_ || dead_ || closing_) return;
    const bool more = cache_->reclaim_step();
    if (life != life_ || dead_) return;
    const bool throttled = cache_->throttle_step().count() == 1;
    if (life != life_ || dead_) return;
    schedule_reclaim(more || throttled ? 1 + below(10) : cache_->short_of_space() ? 1 + below(200) : 100 + below(900));
  });
}

int Simulation::drain(Device& device) {
  ++counts_.drains;
  const SectorHistory::Moment began = moment();
  const SectorHistory::Moment epoch = device.history->close_epoch(moment());
  int error = 0;
  if (!engaged(device, [&] { error = device.cached->drain(0); })) return EIO;
  const bool explained = device.last_change_fault > std::min(device.recovered, began);
  if (error != 0 && !explained) fail("a drain of " + device.name + " failed, and nothing explains it");
  if (error == 0 && !writes_directly(device)) check_epoch(device, epoch);
  return error;
}

void Simulation::check_epoch(Device& device, SectorHistory::Moment oldest) {
  // Without order only a device that was drained is in a state that it ever was in.
  const auto order = static_cast<WritebackOrder>(setting_of(device, Setting::writeback_order));
  if (order == WritebackOrder::none && (oldest == 0 || device.may_go_around)) return;
  ++counts_.epochs_checked;
  if (device.history->is_epoch(device.disk->durable, oldest)) return;
  // What goes around the log is flushed when it is done, or in doubt, wherever writeback is then.
  if (device.may_go_around && oldest == 0 && device.history->is_part_of_epoch(device.disk->durable)) return;
  fail("the backing of " + device.name + " alone is not the state at the end of an epoch" +
       (oldest == 0 ? "" : " that a drain had to reach"));
}

// --- What goes wrong

void Simulation::schedule_faults(Device& device) {
  if (faults_every_ms_ == 0) return;
  events_.after(below(2 * faults_every_ms_), [this, &device] {
    if (finishing_) return;
    const std::uint64_t length_ms = 100 + below(one_in(4) ? 40'000 : 5'000);
    const std::uint64_t end_ms = events_.now_ms() + length_ms;
    faults_end_ms_ = std::max(faults_end_ms_, end_ms);
    if (one_in(3)) {
      ++counts_.stalls;
      device.faults.stalled_until_ms = end_ms;
    } else {
      const auto rate = [this] { return static_cast<std::uint32_t>(one_in(2) ? 0 : one_in(3) ? 1000 : below(300)); };
      device.faults.reads = rate();
      device.faults.writes = rate();
      device.faults.flushes = rate();
    }
    events_.after(length_ms, [this, &device] {
      device.faults.reads = device.faults.writes = device.faults.flushes = 0;
      schedule_faults(device);
    });
  });
}

void Simulation::schedule_end() {
  if (end_every_ms_ == 0) return;
  events_.after(1 + below(2 * end_every_ms_), [this] {
    if (finishing_) return;
    schedule_end();
    if (dead_) return;
    switch (below(4)) {
      case 0:
        close_wanted_ = true;
        break;
      case 1:
        die(End::kill);
        break;
      default:
        die(End::power_cut);
    }
  });
}

void Simulation::check_liveness() {
  for (const Request* request : requests_) {
    const std::uint64_t since = std::max(request->began_ms, faults_end_ms_);
    if (events_.now_ms() <= since + kAnswerMs) continue;
    return fail("an operation on " + request->device.name + ", begun at " + std::to_string(request->began_ms) +
                " ms, is not answered; faults ended at " + std::to_string(faults_end_ms_) + " ms");
  }
  events_.after(2000, [this] { check_liveness(); });
}

}  // namespace pcache
