// A whole system in simulated time: the engine, its cache device and backing devices, the users of several logical
// devices, and everything that may happen to them. One thread and one random sequence: a seed does the same every time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cache/cache.h"
#include "cache/mode.h"
#include "tests/simulation/event_queue.h"
#include "tests/simulation/sector_history.h"
#include "tests/simulation/sim_backing.h"
#include "tests/support/crash_space.h"

namespace pcache {

// What happened, summed up over all seeds of a run.
struct SimCounts {
  std::uint64_t seeds = 0;
  std::uint64_t simulated_ms = 0;
  std::uint64_t busy_seconds = 0;  // in which an operation began, was under way or ended
  std::uint64_t reads = 0, writes = 0, discards = 0, flushes = 0, drains = 0;
  std::uint64_t failed_operations = 0;  // with EIO, as a fault allows
  std::uint64_t closes = 0, kills = 0, power_cuts = 0;
  std::uint64_t in_recovery = 0;  // kills and power cuts during it
  std::uint64_t in_writeback = 0, in_operation = 0;
  std::uint64_t backing_faults = 0, stalls = 0;
  std::uint64_t epochs_checked = 0;
  std::uint64_t switches = 0, failed_switches = 0, changes = 0, parks = 0, removals = 0;
  std::uint64_t growths = 0, shrinkings = 0, failed_shrinkings = 0;  // of the cache device; those that ended
  std::uint64_t evicted_blocks = 0, relocated_blocks = 0, space_waits = 0;
};

class Simulation {
 public:
  // Ends when operations were under way in about `busy_seconds` seconds.
  Simulation(std::uint64_t seed, std::uint64_t busy_seconds, SimCounts& counts);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  // Returns why the engine is wrong, or nothing.
  std::string run();
  // Of all that happened: two runs of a seed have the same.
  std::uint64_t digest() const { return digest_; }

  // The engine's thread, which is the only one, has come to a pause point of that name.
  void reached(const std::string& point);

 private:
  struct Device;
  struct Request;
  // Somebody who uses a device, one operation at a time.
  struct User {
    enum class Habit { random, sequential, hot_spot, partial, mixed };
    Device* device = nullptr;
    Habit habit = Habit::mixed;
    std::uint32_t writes_percent = 50;
    std::uint64_t think_ms = 0;  // the longest pause between two operations
    std::uint64_t next = 0;      // the sector that a sequential one comes to
    std::uint64_t hot = 0;       // the hot spot's first sector
    bool waiting = true;         // for the next phase
  };
  struct Device {
    std::string name;
    std::uint64_t sectors = 0;
    std::unique_ptr<SimDisk> disk;
    std::unique_ptr<SectorHistory> history;
    SimFaults faults;
    SectorHistory::Moment last_read_fault = 0;
    SectorHistory::Moment last_change_fault = 0;
    SectorHistory::Moment recovered = 0;   // since the last failure a flush of the backing succeeded
    SectorHistory::Moment last_flush = 0;  // when the last flush that was acknowledged was asked for
    std::shared_ptr<CachedDevice> cached;
    SimBacking* backing = nullptr;
    bool busy = false;                 // in writeback or a drain
    std::uint64_t untold_flushes = 0;  // of the backing that failed, and a user's flush may still say so
    bool told = false;                 // by a user's flush since the last one
    bool unsettled = false;            // a power cut may have taken what was acknowledged
    bool cut = false;                  // a power cut left the disk as it is flushed

    // As an operator left it.
    ModeChoice mode;
    std::optional<ModeChoice> next_mode;  // being switched to
    Settings stored;
    Settings mount;                         // of those given at opening, what nothing took the place of
    std::optional<Settings> next_settings;  // being stored
    SectorHistory::Moment held = 0;         // when the last switch held all operations
    SectorHistory::Moment last_flush_fault = 0;
    std::uint32_t device_id = 0;              // as it was added the last time; 0: never
    bool removing = false;                    // it may not be there any more
    bool refuses = false;                     // writes, until it is removed
    bool out = false;                         // kept for later, or removed: users wait
    bool forgotten = false;                   // removed, its data thrown away
    SectorHistory::Moment last_refusal = 0;   // when it last took no operations, on purpose
    SectorHistory::Moment last_no_space = 0;  // when writes were last to fail for lack of space
    bool may_go_around = false;               // a full log, as bypass says or said
  };
  struct Request {
    Simulation& simulation;
    std::uint64_t life;
    Device& device;
    User* user = nullptr;
    enum class Kind { read, write, discard, flush } kind = Kind::read;
    SectorHistory::Range range;
    SectorHistory::Moment began = 0;
    std::uint64_t began_ms = 0;
    std::uint64_t operation = 0;
    std::vector<std::byte> content;
  };
  enum class End { close, kill, power_cut };

  // operator.cc: what is changed while it runs
  void schedule_operator(Device& device);
  void operate(Device& device);
  void switch_mode(Device& device);
  void configure(Device& device);
  void park(Device& device);
  void remove(Device& device, bool throw_away);
  bool bring_back(Device& device);
  void came_anew(Device& device);
  void schedule_resizing();
  void resize_cache();
  void note_shrinking();
  void find_cache_size();
  void check_cache_size();
  bool is_whole() const { return cache_size_ == medium_->size() && next_cache_size_ == 0; }
  void schedule_return(Device& device, std::uint64_t delay_ms);
  void note_settings(Device& device);
  Settings settings_of(const Device& device) const;
  std::uint64_t setting_of(const Device& device, Setting setting) const { return settings_of(device).get(setting); }
  bool writes_directly(const Device& device) const;
  void check_operator_settings(Device& device);
  // The engine works for `device` until `act` returns. False: it is dead by then.
  template <typename Act>
  bool engaged(Device& device, Act act) {
    const std::uint64_t life = life_;
    device.busy = true;
    Device* const outer = std::exchange(entered_, &device);
    act();
    entered_ = outer;
    if (life != life_ || dead_) return false;
    device.busy = false;
    return true;
  }

  // simulation.cc: the engine's life
  void format();
  void open();
  void try_open();
  std::unique_ptr<SimBacking> make_backing(Device& device);
  void lose_unflushed(Device& device);
  void lose_what_failed(Device& device);
  void await_direct(Device& device);
  void await_backing();
  void finish_backings();
  void take_down();
  void close();
  void die(End end);
  void came_to_fence();
  void settle(Device& device);
  bool read_all(Device& device, std::vector<std::byte>& content);
  void wait_for(const Device& device, std::size_t changing);
  bool durable_when_acknowledged() const;
  bool step();
  void finish();
  void fail(const std::string& what);

  // workload.cc: what users, background work and faults do
  void plan();
  void start_life();
  void begin_phase();
  void user_acts(User& user);
  Request::Kind choose_kind(const User& user);
  SectorHistory::Range choose_range(User& user, Request::Kind kind);
  void start(User* user, Device& device, Request::Kind kind, const SectorHistory::Range& range);
  void completed(std::unique_ptr<Request> request, int error);
  std::string check_error(const Request& request, int error) const;
  void schedule_background(Device& device, std::uint64_t delay_ms);
  void schedule_reclaim(std::uint64_t delay_ms);
  void schedule_faults(Device& device);
  int drain(Device& device);
  void schedule_end();
  void check_epoch(Device& device, SectorHistory::Moment oldest);
  void check_liveness();
  void mark_busy(bool all_the_time);

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  SectorHistory::Moment moment() { return ++moment_; }
  void note(std::uint64_t what) { digest_ = (digest_ ^ what) * 0x100000001b3; }

  SimCounts& counts_;
  std::mt19937_64 random_;
  EventQueue events_;
  std::string failure_;
  std::uint64_t digest_ = 0xcbf29ce484222325;
  SectorHistory::Moment moment_ = 0;

  // What this seed is about.
  Granularity granularity_ = Granularity::cache_line;
  CacheOptions options_;
  std::uint64_t busy_seconds_;          // to be simulated
  std::uint64_t faults_every_ms_ = 0;   // about how often each backing device gets into trouble; 0: never
  std::uint64_t end_every_ms_ = 0;      // about how often the engine ends; 0: never
  std::uint64_t operate_every_ms_ = 0;  // about how often an operator changes something of each device; 0: never
  std::uint64_t resize_every_ms_ = 0;   // about how often an operator changes the cache device's size; 0: never
  bool finishing_ = false;              // no faults, ends and users any more

  std::unique_ptr<CrashMedium> medium_;       // the cache device
  std::unique_ptr<CrashMedium> next_medium_;  // what is left of it, once the engine is dead
  std::unique_ptr<Cache> cache_;
  std::uint64_t cache_size_ = 0;       // bytes
  std::uint64_t next_cache_size_ = 0;  // that it is becoming smaller or larger to; 0: it is not
  std::vector<std::unique_ptr<Device>> devices_;
  Device* entered_ = nullptr;  // the one that the engine's thread works for, outermost last

  std::uint64_t life_ = 0;  // of the engine; requests of an earlier one are over
  bool dead_ = false;       // the engine is, and only has to be taken down
  bool closing_ = false;
  bool opening_ = false;
  bool close_wanted_ = false;
  std::uint64_t fences_left_ = 0;  // until the engine dies at one; 0: it does not
  End fence_end_ = End::kill;
  int depth_ = 0;  // of events within events

  std::vector<std::unique_ptr<User>> users_;
  bool quiet_ = false;  // between two phases
  std::set<Request*> requests_;
  std::uint64_t faults_end_ms_ = 0;
  std::uint64_t marked_second_ = 0;
};

}  // namespace pcache
