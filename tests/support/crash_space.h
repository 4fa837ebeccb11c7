// Persistent memory as the processor and the power supply see it: what was stored is visible at once and durable only
// once it was made so; at a cut everything in between survives, is lost, or is torn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "pcache/pmem_space.h"

namespace pcache {

// The bytes of a medium, with an undo log: what is stored after mark() can be taken back.
class CrashImage {
 public:
  explicit CrashImage(std::size_t size) : bytes_(size) {}
  CrashImage(const CrashImage&) = default;

  std::size_t size() const { return bytes_.size(); }
  const std::byte* data() const { return bytes_.data(); }
  void store(std::size_t offset, const void* source, std::size_t length);

  // From now on old content is kept, until roll_back() restores it.
  void mark();
  void roll_back();

 private:
  struct Saved {
    std::size_t offset;
    std::vector<std::byte> content;
  };
  std::vector<std::byte> bytes_;
  bool marked_ = false;
  std::vector<Saved> saved_;
};

// Used by one thread. The unit of durability is a cache line of 64 bytes (byte and cache_line media: any write-back may
// happen by itself, a drain completes all) or a page of 4096 (page media: any page may be written at any time,
// persist() completes those of its range). Words of 8 bytes (sectors of 512 on page media) are never torn.
class CrashSpace final : public PmemSpace {
 public:
  // Content of a unit that is stored and not durable: what the medium holds for sure, and every later state of it.
  struct Pending {
    std::vector<std::vector<std::byte>> versions;
  };
  // What a cut leaves of one unit.
  struct Patch {
    std::size_t offset = 0;
    std::vector<std::byte> content;
  };

  using PendingUnits = std::map<std::size_t, Pending>;  // by offset

  // `image` outlives the space. `pending`: what a process that died had stored there, and the kernel still has.
  CrashSpace(CrashImage& image, Granularity granularity, PendingUnits pending = {});

  std::size_t size() const override { return image_.size(); }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return image_.data(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override;
  void drain() override;
  Status persist(std::size_t offset, std::size_t length) override;
  void prefault(std::size_t, std::size_t) override {}
  bool read(std::size_t offset, void* destination, std::size_t length) const override;

  // Called before each drain and persist that has something to make durable takes effect: the moment for a cut, since
  // whatever was stored until then may be there or not.
  std::function<void()> on_fence;
  // Called after a unit became durable.
  std::function<void(std::size_t offset, std::span<const std::byte> content)> on_durable;

  const CrashImage& image() const { return image_; }
  std::size_t unit() const { return unit_; }
  const PendingUnits& pending() const { return pending_; }

  // States that a cut now may leave of the pending units, in the order of their offsets.
  std::vector<Patch> lose_all() const;
  // Whole units: bit i decides whether the newest state of unit i survives.
  std::vector<Patch> choose(std::uint64_t survivors) const;
  // Each unit lost, whole, an earlier state, or torn into words of several states.
  std::vector<Patch> tear(std::mt19937_64& random) const;

 private:
  void settle(std::size_t begin, std::size_t end);

  CrashImage& image_;
  const Granularity granularity_;
  const std::size_t unit_;
  const std::string path_ = "crash";
  PendingUnits pending_;
};

}  // namespace pcache
