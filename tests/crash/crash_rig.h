// The engine on media that lose power: every fence and every call to the backing is a moment at which the power may go.
// There the states that a cut may leave are made, one after another, and from each the engine recovers, is compared
// with the oracle, and goes on working.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
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
  std::size_t cache_bytes = 4 << 20;
  std::size_t device_bytes = (160 << 10) - 512;  // 40 blocks, the last one short
  std::uint32_t exhaustive_units = 5;            // all subsets of so many pending units are tried
  std::uint32_t torn_states = 2;                 // and so many torn ones of any number of units
  std::uint32_t work_every = 8;                  // each so many-th recovery goes on to work and to be opened again
  std::uint32_t recut_every = 32;                // each so many-th recovery is cut itself
};

// What was tried; the sum over all rigs of a test is what it reports.
struct CrashCounts {
  std::uint64_t fences = 0;       // moments at which the power may go
  std::uint64_t states = 0;       // cut states recovered from
  std::uint64_t distinct = 0;     // of these, different from all others of their rig
  std::uint64_t second_cuts = 0;  // of these, cuts of a recovery or of the work after it
};

class CrashRig {
 public:
  // Formats, adds a logical device whose backing holds data, and caches some of it. Nothing of this is explored.
  CrashRig(const CrashShape& shape, std::uint64_t seed, CrashCounts& counts);
  ~CrashRig();

  std::size_t device_bytes() const { return shape_.device_bytes; }

  // Operations; in bytes, in multiples of 512.
  void write(std::uint64_t offset, std::uint64_t length);
  void discard(std::uint64_t offset, std::uint64_t length);
  void read(std::uint64_t offset, std::uint64_t length);
  void flush();
  void close_epoch();
  void writeback();
  void drain();
  void reclaim();
  // Closes in order, or dies, and recovers.
  void reopen();
  void kill();
  // Drains and forgets the logical device; then adds one anew.
  void remove();

  // Why the oracle disagrees; empty while it does not.
  const std::string& failure() const { return failure_; }

 private:
  // Per sector of the device: the values that it may have. Each sector is filled with one 8-byte value.
  using Values = std::vector<std::uint64_t>;

  struct Engine {
    std::unique_ptr<Cache> cache;
    std::shared_ptr<CachedDevice> device;  // null: the cache device holds none
    CrashSpace* space = nullptr;
    FakeBackingDev* backing = nullptr;
  };

  // `on_fence`: called at each fence while it opens; may be empty.
  Engine open(CrashImage& image, const std::shared_ptr<BackingImage>& backing,
              const std::function<void(const CrashSpace&)>& on_fence);
  void attach_hooks();
  void fail(const std::string& what);

  void explore();
  void recover_from(const std::vector<CrashSpace::Patch>& patches);
  // What a cut left, and what the oracle then allows.
  struct Cut {
    CrashImage image;
    std::shared_ptr<BackingImage> backing;
    std::vector<Values> possible;
  };
  Cut cut_now(const CrashSpace& space, const BackingImage& backing, const std::vector<Values>& possible);
  void check_recovered(CrashImage& image, const std::shared_ptr<BackingImage>& backing,
                       const std::vector<Values>& possible, bool cut_recovery, bool work);
  void recover_again(std::vector<Cut>& cuts);
  void go_on_working(Engine& engine, CrashImage& image, const std::shared_ptr<BackingImage>& backing, Values values);
  std::optional<Values> read_all(Engine& engine);
  void check_possible(const Values& found, const std::vector<Values>& possible);
  void check_backing();
  std::shared_ptr<BackingImage> backing_after_cut(const BackingImage& backing);

  std::uint64_t sectors() const { return shape_.device_bytes / 512; }
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool durable_when_acknowledged() const;
  void make_room();
  std::vector<std::byte> new_content(std::uint64_t length);
  void may_become(std::uint64_t offset, const std::vector<std::byte>& content);
  void has_become(std::uint64_t offset, std::uint64_t length);
  void boundary();
  void settle_all();
  static std::uint64_t value_at(const std::byte* sector);
  static std::uint64_t digest(const Values& values);

  const CrashShape shape_;
  CrashCounts& counts_;
  std::mt19937_64 random_;
  std::string failure_;

  CrashImage image_;    // of the cache device, as the processor sees it
  CrashImage scratch_;  // as the medium has it for sure; states are made and recovered here and rolled back
  std::shared_ptr<BackingImage> backing_;
  Engine engine_;
  bool exploring_ = false;
  bool may_be_absent_ = false;  // the logical device is being added or removed

  std::uint64_t next_value_ = 1;
  Values latest_;                                 // what a read has to return
  std::vector<Values> possible_;                  // what may be there after a cut
  std::unordered_set<std::uint64_t> boundaries_;  // digests of the states that the backing alone may have
  std::unordered_set<std::uint64_t> seen_;        // digests of the states that were recovered from
};

}  // namespace pcache
