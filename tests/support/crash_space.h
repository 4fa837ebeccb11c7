// Persistent memory as the processor and the power supply see it: what was stored is visible at once and durable only
// once it was made so; at a cut everything in between survives, is lost, or is torn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "pcache/pmem_space.h"

namespace pcache {

// Numbers that a seed alone decides (SplitMix64 by Sebastiano Vigna); made and seeded in no time.
class CrashRandom {
 public:
  explicit CrashRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t operator()() {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  }
  std::uint64_t below(std::uint64_t limit) { return (*this)() % limit; }

 private:
  std::uint64_t state_;
};

// What is at some places of a medium. Later ones count where they overlap.
class CrashPatch {
 public:
  void clear();
  void add(std::size_t offset, const std::byte* content, std::size_t length);

  std::size_t count() const { return places_.size(); }
  std::size_t offset(std::size_t i) const { return places_[i].offset; }
  std::span<const std::byte> content(std::size_t i) const {
    return {content_.data() + places_[i].start, places_[i].length};
  }

 private:
  struct Place {
    std::size_t offset;
    std::size_t start;
    std::size_t length;
  };
  std::vector<Place> places_;
  std::vector<std::byte> content_;
};

// A medium: what the processor sees of it, which units of that are not durable yet, and how to get back to an earlier
// content. Used by one thread.
//
// The unit of durability is a cache line of 64 bytes (byte and cache_line media: any write-back may happen by itself, a
// drain completes all) or a page of 4096 (page media: any page may be written at any time, persist() completes those of
// its range). Words of 8 bytes (sectors of 512 on page media) are never torn.
class CrashMedium {
 public:
  CrashMedium(std::size_t size, Granularity granularity);

  std::size_t size() const { return bytes_.size(); }
  Granularity granularity() const { return granularity_; }
  const std::byte* data() const { return bytes_.data(); }
  void store(std::size_t offset, const void* source, std::size_t length);
  // Makes what is pending in the range durable.
  void settle(std::size_t begin, std::size_t end);

  // --- Going back

  // The content as it is now, for roll_back(). Marks nest.
  std::size_t mark();
  // Nothing is pending afterwards.
  void roll_back(std::size_t mark);
  // What has to be stored over the content at `mark` to get what is durable for sure now.
  void durable_since(std::size_t mark, CrashPatch& patch) const;

  // --- Cuts

  // Whether what is stored is pending at first, or durable at once.
  void track(bool on);
  // Called before something that is pending becomes durable: the moment for a cut, since whatever was stored until then
  // may be there or not.
  std::function<void()> on_fence;
  // Called after it became durable.
  std::function<void(std::size_t offset, std::span<const std::byte> content)> on_durable;
  // How often on_fence was, or would have been, called.
  std::uint64_t fences() const { return fences_; }

  // What is durable for sure, to another medium of this size.
  void copy_durable_to(CrashMedium& other) const;

  std::size_t pending_units() const;
  // States that a cut now may leave of the pending units; to be stored over what is durable for sure.
  // Whole units: bit i decides whether the newest state of unit i, by their offsets, survives; those from 64 on survive
  // if any bit is set.
  void choose(std::uint64_t survivors, CrashPatch& patch) const;
  // Each unit lost, whole, an earlier state, or torn into words of several states.
  void tear(CrashRandom& random, CrashPatch& patch) const;

 private:
  static constexpr std::size_t kPage = 4096;

  // A page with pending units.
  struct Page {
    std::uint64_t units = 0;               // as bits
    std::array<std::byte, kPage> durable;  // of these units, what the medium holds for sure
    // Of units that were stored to more than once, what they were in between; oldest first.
    struct Between {
      std::uint32_t unit;
      std::vector<std::byte> content;
    };
    std::vector<Between> between;
  };

  std::uint64_t units_in(std::size_t page, std::size_t begin, std::size_t end) const;
  Page& pending_page(std::size_t page);
  void forget_pending();
  template <typename Visit>
  void each_pending(const Visit& visit) const;

  const Granularity granularity_;
  const std::size_t unit_;
  std::vector<std::byte> bytes_;

  struct Saved {
    std::size_t offset;
    std::size_t length;
  };
  bool saving_ = false;
  std::vector<Saved> saved_;
  std::vector<std::byte> saved_bytes_;

  bool tracking_ = false;
  std::uint64_t fences_ = 0;
  std::vector<Page> pool_;
  std::vector<std::uint32_t> unused_;   // of the pool
  std::vector<std::uint32_t> in_pool_;  // by page: its place in the pool + 1, or 0
  std::vector<std::size_t> pending_;    // pages, ascending
};

// A cache device on a CrashMedium, which outlives it. Used by one thread.
class CrashSpace final : public PmemSpace {
 public:
  explicit CrashSpace(CrashMedium& medium) : medium_(medium), size_(medium.size()) {}

  std::size_t size() const override { return size_; }
  std::size_t available() const override { return medium_.size(); }
  // Within the medium.
  Status grow(std::size_t from, std::size_t to) override;
  Status shrink(std::size_t size) override;
  Granularity granularity() const override { return medium_.granularity(); }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return medium_.data(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override;
  void drain() override;
  Status persist(std::size_t offset, std::size_t length) override;
  void prefault(std::size_t, std::size_t) override {}
  bool read(std::size_t offset, void* destination, std::size_t length) const override;

  // The process is dead: whatever it still does changes nothing.
  void die() { dead_ = true; }

 private:
  CrashMedium& medium_;
  std::size_t size_;
  const std::string path_ = "crash";
  bool dead_ = false;
};

}  // namespace pcache
