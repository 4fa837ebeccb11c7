// A logical device that behaves like a byte array, whatever is done to it: random steps of an engine, and the oracle
// that each of them is held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <unordered_set>
#include <vector>

#include "tests/support/engine_rig.h"

namespace pcache {

// One thread; nothing happens by itself. What is wrong becomes a failure of the test that runs.
//
// In the modes that write to the backing at once, what was acknowledged and not flushed may be gone after a power cut,
// in whole blocks here; whatever is left, cache and backing agree about it.
class EngineModel {
 public:
  EngineModel(const RigShape& shape, std::uint64_t seed);

  // So many steps, and then everything is written back.
  void run(std::uint64_t steps);

 private:
  struct Range {
    std::uint64_t offset;
    std::uint64_t length;
  };
  using Bytes = std::vector<std::byte>;

  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  }
  Range any_range(std::uint64_t longest);
  Bytes random_bytes(std::uint64_t length);
  std::uint32_t block_checksum(std::uint64_t block) const;

  void step();

  // What users do.
  void write();
  void discard();
  void change(const Range& range, const Bytes& bytes, bool is_discard);
  void read_some();
  void read(const Range& range);
  void read_all() { read({0, content_.size()}); }
  void flush();

  // What an operator does.
  void configure();
  void switch_mode();
  void detach_and_attach();
  void park();
  void remove();
  void drain();
  void resize();

  // What happens by itself, and what goes wrong.
  void engine_step();
  void background();
  void idle();
  void failing();
  void restart();
  bool flushes_part_at_opening();
  void power_cut();
  void operate_until_cut();
  void change_until_cut(const Range& range, bool is_discard);
  void switch_until_cut();
  void after_power_cut();

  // --- The oracle

  bool is_direct_now() { return is_direct(rig_.device().mode()); }
  bool has_unflushed();
  // Between the two operations are done, at whose ends the backing alone may be.
  void begin_changing();
  void end_changing();
  bool survives_when_acknowledged();
  // From now on each block is as `content_` says, whatever happens.
  void settle();
  void settle_blocks(const Range& range);
  // The device's content is now that; until the operation is safe the old one may come back.
  void may_become(const Range& range, const Bytes& bytes);
  // An operation on `range` failed: each sector is as `content_` says, or as before.
  void failed(const Range& range, const Bytes& before);
  // What opening found is durable, and where its last epoch ends.
  void restarted();
  void boundary();
  void check_backing();
  void check_settings_in_force();
  // A flush of the backing may have failed: the next flush of a user says so, once.
  void note_failed_flushes(std::uint64_t failed_before);
  Settings settings_in_force() const;

  RigShape shape_;
  EngineRig rig_;
  std::mt19937_64 random_;
  Bytes content_;
  std::vector<std::vector<std::uint32_t>> allowed_;  // checksums of what each block may be after a power cut
  std::unordered_set<std::uint32_t> boundaries_;     // checksums of the states that the backing alone may have
  std::size_t most_bytes_;                           // that the device may come to have
  ModeChoice mode_;
  std::optional<ModeChoice> or_mode_;  // a switch to it was cut off
  Settings stored_;
  Settings mount_;                  // of the settings given at opening, those that nothing took the place of
  std::uint64_t around_bytes_ = 0;  // that went around a full log so far
  bool mixed_ = false;              // without order: the backing alone is of no use until all is written back
  bool changing_ = false;           // an operation is under way, so that the content is not known from outside
  bool flush_may_fail_ = false;     // once more: what writes around the log failed to flush is told by writeback too
  bool flush_must_fail_ = false;    // the backing failed one, and the users' flushes have not said it yet
};

}  // namespace pcache
