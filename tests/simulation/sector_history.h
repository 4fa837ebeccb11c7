// What each sector of a logical device may be: the oracle of the simulation. It takes operations that overlap in time
// as LogicDev does: in some order, but what began after another's completion comes after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace pcache {

class SectorHistory {
 public:
  // Moments are numbered: each call that takes one is given a later one than the call before.
  using Moment = std::uint64_t;
  using Value = std::uint64_t;
  static constexpr Value kZeroes = 0;   // what a discard leaves
  static constexpr Value kInitial = 1;  // what the backing held at first
  static constexpr Value kDamaged = std::numeric_limits<Value>::max();
  static constexpr std::size_t kSectorBytes = 512;

  explicit SectorHistory(std::uint64_t sectors);

  // What a sector with `value` holds, and back: kDamaged for what no operation wrote there.
  static void encode(Value value, std::uint64_t sector, std::byte* out);
  static Value decode(std::uint64_t sector, const std::byte* content);

  // --- Operations

  struct Range {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  // A write or discard begins. Returns its number, which is a write's value.
  std::uint64_t begin(const Range& range, bool discard, Moment now);
  // It ended; not acknowledged: any part of it may have taken effect.
  void end(std::uint64_t operation, bool acknowledged, Moment now);
  // A read that began at `began` returned `content` now. Returns why it must not, or nothing.
  std::string check_read(const Range& range, std::span<const std::byte> content, Moment began, Moment now);

  // --- Epochs and crashes

  // An epoch closes: the backing alone may be as the device is now. Returns when the device came to be like that.
  Moment close_epoch(Moment now);
  // Whether `content` is the state at the end of an epoch that closed at `oldest` or later, and is not older than the
  // last one found.
  bool is_epoch(std::span<const std::byte> content, Moment oldest);
  // Whether each sector of `content` is as at some time between the ends of two epochs that are not far apart.
  bool is_part_of_epoch(std::span<const std::byte> content) const;

  // The backing alone is as the device is now; no older state counts any more.
  void only_epoch(Moment now);
  // While set, operations may tear blocks: they write to the backing, sector by sector.
  void allow_torn(bool on);
  enum class Losable { everything, what_failed };
  // What came after `safe` may be lost, sector by sector, though nothing ends: also what a read that is under way has
  // already seen. With `what_failed` nothing that was acknowledged is.
  void may_revert(Losable losable, Moment safe, Moment now);
  // From now on every sector is as in `content`, which may be any that it ever had. False: it is not.
  bool reset(std::span<const std::byte> content, Moment now);

  // The engine starts anew. What was acknowledged after `safe` may be lost, block by block; everything that has not
  // ended has by now.
  void restart(Moment safe, Moment now);
  // From now on every sector is as in `content`. Returns why it must not be, or nothing.
  std::string settle(std::span<const std::byte> content, Moment now);

  // Nothing asks about moments before `oldest` any more, but for epochs.
  void forget_before(Moment oldest) { oldest_read_ = oldest; }

 private:
  static constexpr Moment kNever = std::numeric_limits<Moment>::max();

  struct Operation {
    Value value = 0;
    Range range;
    Moment began = 0;
    Moment ended = kNever;
    bool may_tear = false;
    bool acknowledged = false;
  };
  // A sector may have an operation's value from one moment to another.
  struct Candidate {
    std::uint64_t operation = 0;
    Moment from = 0;
    Moment until = kNever;
    Moment back = 0;        // when what came after it may last have been lost
    bool replaced = false;  // by what was acknowledged
  };
  using Candidates = std::vector<Candidate>;

  std::vector<Value> decode_all(std::span<const std::byte> content) const;
  const Candidate* find(std::uint64_t sector, Value value, Moment since, Moment now) const;
  void overwrite(std::uint64_t sector, const Operation& by, Moment seen, Moment now);
  void prune(Candidates& candidates) const;
  std::string check_blocks(const Range& range, std::span<const Value> values) const;
  std::string describe(std::uint64_t sector, Value value, Moment since) const;

  std::vector<Operation> operations_;  // by number
  std::vector<Candidates> sectors_;
  std::deque<Moment> epochs_;  // ends of epochs, from the last one found on
  bool tears_ = false;
  bool changed_ = false;  // since the last end of an epoch
  Moment oldest_read_ = 0;
};

}  // namespace pcache
