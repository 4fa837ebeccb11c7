// The engine on media that lose power: every fence and every call to the backing is a moment at which the power may go.
// There the states that a cut may leave are made, one after another, and from each the engine recovers, is compared
// with the oracle, and goes on working.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "cache/cache.h"
#include "tests/support/crash_space.h"
#include "tests/support/fake_backing_dev.h"

namespace pcache {

struct CrashShape {
  Granularity granularity = Granularity::cache_line;
  std::optional<Ack> ack;
  Settings settings = {};
  std::size_t cache_bytes = 5 << 20;             // 12 segments of 256 KiB
  std::size_t device_bytes = (160 << 10) - 512;  // 40 blocks, the last one short
  std::uint32_t exhaustive_units = 5;            // all subsets of so many pending units are tried
  std::uint32_t torn_states = 2;                 // and so many torn ones of any number of units
  std::uint32_t work_every = 8;                  // one of so many recoveries goes on to work and to be opened again
  std::uint32_t recut_every = 3;                 // one of so many recoveries is cut itself
  std::uint32_t deepest = 3;                     // and so many in a row at most
};

// What was tried; the sum over all sequences of a test is what it reports.
struct CrashCounts {
  std::uint64_t moments = 0;      // at which the power may go
  std::uint64_t states = 0;       // cut states recovered from
  std::uint64_t distinct = 0;     // of these, that differ from all others in what is on the two media
  std::uint64_t work_cuts = 0;    // of these, cuts of the work after a recovery
  std::uint64_t second_cuts = 0;  // of these, cuts of a recovery
  std::uint64_t third_cuts = 0;   // of these, cuts of the recovery from a cut recovery, or deeper
};

// A set of numbers that are digests, so that they need no hashing; small enough for millions of them.
class DigestSet {
 public:
  // Whether `digest` was not in it before.
  bool insert(std::uint64_t digest);

 private:
  std::vector<std::uint64_t> table_ = std::vector<std::uint64_t>(1024);  // 0: a free place
  std::size_t count_ = 0;
};

class CrashRig {
 public:
  // Formats, adds a logical device whose backing holds data, and caches some of it. Nothing of this is explored. Next
  // to it is another logical device, which is never written to and has to stay as it is.
  CrashRig(const CrashShape& shape, std::uint64_t seed);
  ~CrashRig();

  // Begins a sequence of operations, all from the same state. What is tried in it depends on nothing but the rig's
  // seed and this number. Nothing is explored until explore(true).
  void start(std::uint64_t number);
  // Whether the moments of the operations that follow are explored.
  void explore(bool on) { exploring_ = on; }

  std::size_t device_bytes() const { return shape_.device_bytes; }

  // Operations; in bytes, in multiples of 512.
  void write(std::uint64_t offset, std::uint64_t length);
  void discard(std::uint64_t offset, std::uint64_t length);
  void read(std::uint64_t offset, std::uint64_t length);
  void flush();
  void close_epoch();
  void writeback();
  // Several epochs, written back in parts of a block.
  void writeback_joined();
  // Writeback while the backing fails: its flush, and what was written since the last one is lost; or the first write,
  // and then once more.
  void failing_flush();
  void failing_write();
  void drain();
  // Writes until the log goes on in another segment.
  void roll();
  // Releases the oldest segment, if it is clean.
  void reclaim();
  // The same until blocks that were read lately, and are in an old segment, have been appended again.
  void reclaim_hot();
  // Closes in order, or dies, and recovers.
  void reopen();
  void kill();
  // Drains and forgets the logical device; then adds one anew.
  void remove();
  // Drains, closes, and formats the cache device; then adds the logical devices anew.
  void format();
  // Switches; fails where the switch does.
  void switch_mode(Mode mode, bool detached = false);
  // The switch finds the backing's first flush failing, and is done once more.
  void failing_switch(Mode mode);
  // Nothing happens; the power may go all the same.
  void idle();

  // Why the oracle disagrees; empty while it does not.
  const std::string& failure() const { return failure_; }
  const CrashCounts& counts() const { return counts_; }
  // Moments so far, whether they were explored or not.
  std::uint64_t moments() const { return image_.fences() + backing_calls_; }

 private:
  // Per sector of the device: its value. Each sector is filled with one 8-byte value.
  using Values = std::vector<std::uint64_t>;
  // Per sector: the values that it may have after a cut.
  using Possible = std::vector<Values>;
  using Uuid = std::array<std::uint8_t, 16>;

  struct Engine {
    std::unique_ptr<Cache> cache;
    std::shared_ptr<CachedDevice> device;  // null: the cache device was refused
    std::shared_ptr<CachedDevice> other;
    CrashSpace* space = nullptr;
    FakeBackingDev* backing = nullptr;

    bool up() const { return device != nullptr; }
    void close();  // in order
    void die();
  };

  Engine open(CrashMedium& medium, const std::shared_ptr<BackingImage>& backing);
  std::shared_ptr<CachedDevice> bring_up(Engine& engine, bool other, bool may_be_absent,
                                         std::unique_ptr<FakeBackingDev> backing);
  std::unique_ptr<FakeBackingDev> make_backing(const std::shared_ptr<BackingImage>& image, bool explored);
  std::unique_ptr<FakeBackingDev> make_other_backing();
  void check_other(Engine& engine);
  void fail(const std::string& what);

  // What a cut left, and what the oracle then allows.
  struct Cut {
    CrashPatch state;  // over what was durable at the moment that is explored
    std::vector<std::byte> backing;
    std::shared_ptr<const Possible> possible;
    bool of_recovery = false;
    std::uint64_t seed = 0;
  };

  void moment();
  void try_state();
  void check_recovered(std::shared_ptr<const Possible> possible, CrashRandom& random, std::uint32_t depth);
  void recover_again(const std::vector<Cut>& cuts, std::uint32_t depth);
  void sample_cuts(std::vector<Cut>& cuts, const std::shared_ptr<const Possible>& possible, CrashRandom& random,
                   bool of_recovery);
  void stop_sampling();
  void go_on_working(Engine& engine, Values values, CrashRandom& random, std::vector<Cut>* cuts);
  std::optional<Values> read_all(Engine& engine);
  void check_possible(const Values& found, const Possible& possible);
  void check_backing();
  std::uint64_t apply(const CrashPatch& patch);
  bool is_new_state(std::uint64_t image_digest, std::uint64_t oracle_digest);
  void restore_backing();

  std::uint64_t sectors() const { return shape_.device_bytes / 512; }
  bool durable_when_acknowledged(const Engine& engine) const;
  bool is_direct_now() const { return engine_.device != nullptr && is_direct(engine_.device->mode()); }
  void check_agreement(Engine& engine, const Values& values);
  void make_room();
  void dirty_other();
  void boundary();
  void settle_all();
  std::vector<std::byte> new_content(std::uint64_t length, std::uint64_t& next_value);
  void may_become(std::uint64_t offset, const std::vector<std::byte>& content);
  void has_become(std::uint64_t offset, std::uint64_t length);

  // What the operations work on, apart from the cache device.
  struct Oracle {
    std::uint64_t next_value = 1;
    Values latest;      // what a read has to return
    Possible possible;  // what may be there after a cut
    // Digests of the states that the backing alone may have.
    std::unordered_set<std::uint64_t> boundaries;
  };

  const CrashShape shape_;
  const std::uint64_t seed_;
  CrashCounts counts_;
  std::string failure_;
  std::uint64_t backing_calls_ = 0;

  CrashMedium image_;    // of the cache device, as the processor sees it
  CrashMedium scratch_;  // as the medium has it for sure; states are made and recovered here and rolled back
  std::shared_ptr<BackingImage> backing_;
  std::shared_ptr<BackingImage> other_backing_;
  Values other_values_;
  std::uint64_t digest_ = 0;  // of scratch_, as far as it changed since start()
  Oracle oracle_;
  CrashRandom random_{0};

  // What start() goes back to.
  std::size_t image_mark_ = 0;
  std::size_t scratch_mark_ = 0;
  Oracle first_oracle_;
  BackingImage first_backing_;
  BackingImage first_other_backing_;
  Uuid first_uuid_{};

  Engine engine_;
  bool exploring_ = false;
  bool flush_must_fail_ = false;  // the backing failed one, and the users' flushes have not said it yet
  bool formatting_ = false;
  std::vector<ModeChoice> modes_;  // that it may be in: one, two during a switch
  bool device_may_be_absent_ = false;
  bool other_may_be_absent_ = false;
  Uuid uuid_{};
  Uuid old_uuid_{};  // while formatting

  // Of the moment that is explored.
  std::shared_ptr<const Possible> possible_now_;
  std::uint64_t oracle_digest_ = 0;
  std::vector<std::uint64_t> unflushed_;  // sectors in which the backing is not what it was told to flush
  CrashPatch patch_;
  bool first_recovery_ = false;  // nothing was recovered on scratch_ since it was durable
  std::size_t cut_base_ = 0;     // scratch_ as it was durable
  std::shared_ptr<BackingImage> cut_backing_;
  bool cut_backing_used_ = false;
  std::vector<std::byte> buffer_;

  // Digests over all sequences.
  DigestSet seen_media_;
  DigestSet seen_;  // with what the oracle allows
};

}  // namespace pcache
