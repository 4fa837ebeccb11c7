#include "tests/support/crash_space.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "base/units.h"

namespace pcache {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kWord = 8;
constexpr std::size_t kMaxBetween = 6;  // of one unit; of more, the latest are kept

}  // namespace

void CrashPatch::clear() {
  places_.clear();
  content_.clear();
}

void CrashPatch::add(std::size_t offset, const std::byte* content, std::size_t length) {
  places_.push_back({offset, content_.size(), length});
  content_.insert(content_.end(), content, content + length);
}

CrashMedium::CrashMedium(std::size_t size, Granularity granularity)
    : granularity_(granularity),
      unit_(granularity == Granularity::page ? kPage : kLine),
      bytes_(size),
      in_pool_(size / kPage) {}

// Of `page`'s units, as bits, those that [begin, end) touches.
std::uint64_t CrashMedium::units_in(std::size_t page, std::size_t begin, std::size_t end) const {
  if (unit_ == kPage) return 1;
  const std::size_t first = std::max(begin, page * kPage) / kLine % (kPage / kLine);
  const std::size_t last = (std::min(end, (page + 1) * kPage) - 1) / kLine % (kPage / kLine);
  return (~std::uint64_t{0} >> (63 - (last - first))) << first;
}

CrashMedium::Page& CrashMedium::pending_page(std::size_t page) {
  if (in_pool_[page] == 0) {
    if (unused_.empty()) {
      pool_.emplace_back();
      unused_.push_back(static_cast<std::uint32_t>(pool_.size()));
    }
    in_pool_[page] = unused_.back();
    unused_.pop_back();
    pending_.insert(std::lower_bound(pending_.begin(), pending_.end(), page), page);
  }
  return pool_[in_pool_[page] - 1];
}

void CrashMedium::store(std::size_t offset, const void* source, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();  // the engine's error, never the test's
  if (length == 0) return;
  if (tracking_) {
    for (std::size_t page = offset / kPage; page * kPage < offset + length; ++page) {
      Page& pending = pending_page(page);
      for (std::uint64_t units = units_in(page, offset, offset + length); units != 0; units &= units - 1) {
        const auto unit = static_cast<std::uint32_t>(std::countr_zero(units));
        const std::byte* const old = bytes_.data() + page * kPage + unit * unit_;
        if ((pending.units >> unit & 1) == 0) {
          std::memcpy(pending.durable.data() + unit * unit_, old, unit_);
          pending.units |= std::uint64_t{1} << unit;
          continue;
        }
        const auto same = [unit](const Page::Between& between) { return between.unit == unit; };
        if (std::count_if(pending.between.begin(), pending.between.end(), same) == kMaxBetween) {
          pending.between.erase(std::find_if(pending.between.begin(), pending.between.end(), same));
        }
        pending.between.push_back({unit, {old, old + unit_}});
      }
    }
  }
  std::byte* const to = bytes_.data() + offset;
  if (saving_) {
    saved_.push_back({offset, length});
    saved_bytes_.insert(saved_bytes_.end(), to, to + length);
  }
  std::memcpy(to, source, length);
}

void CrashMedium::settle(std::size_t begin, std::size_t end) {
  const auto touches = [&](std::size_t page) {
    return (pool_[in_pool_[page] - 1].units & units_in(page, begin, end)) != 0;
  };
  if (begin == end) return;
  auto it = std::lower_bound(pending_.begin(), pending_.end(), begin / kPage);
  const auto last = std::lower_bound(it, pending_.end(), div_ceil(end, kPage));
  if (std::none_of(it, last, touches)) return;
  ++fences_;
  if (on_fence) on_fence();
  auto kept = it;
  for (; it != last; ++it) {
    Page& page = pool_[in_pool_[*it] - 1];
    std::uint64_t settled = page.units & units_in(*it, begin, end);
    page.units &= ~settled;
    std::erase_if(page.between, [&](const auto& between) { return (settled >> between.unit & 1) != 0; });
    while (on_durable && settled != 0) {  // in runs
      const int first = std::countr_zero(settled);
      const int length = std::countr_one(settled >> first);
      const std::size_t offset = *it * kPage + static_cast<std::size_t>(first) * unit_;
      on_durable(offset, {data() + offset, static_cast<std::size_t>(length) * unit_});
      settled &= length == 64 ? 0 : ~(((std::uint64_t{1} << length) - 1) << first);
    }
    if (page.units != 0) {
      *kept++ = *it;
    } else {
      unused_.push_back(in_pool_[*it]);
      in_pool_[*it] = 0;
    }
  }
  pending_.erase(kept, last);
}

void CrashMedium::forget_pending() {
  for (const std::size_t page : pending_) {
    pool_[in_pool_[page] - 1].units = 0;
    pool_[in_pool_[page] - 1].between.clear();
    unused_.push_back(in_pool_[page]);
    in_pool_[page] = 0;
  }
  pending_.clear();
}

std::size_t CrashMedium::mark() {
  saving_ = true;
  return saved_.size();
}

void CrashMedium::roll_back(std::size_t mark) {
  forget_pending();
  while (saved_.size() > mark) {
    const Saved& saved = saved_.back();
    std::memcpy(bytes_.data() + saved.offset, saved_bytes_.data() + saved_bytes_.size() - saved.length, saved.length);
    saved_bytes_.resize(saved_bytes_.size() - saved.length);
    saved_.pop_back();
  }
}

void CrashMedium::durable_since(std::size_t mark, CrashPatch& patch) const {
  for (std::size_t i = mark; i < saved_.size(); ++i) {
    patch.add(saved_[i].offset, data() + saved_[i].offset, saved_[i].length);
  }
  each_pending([&](std::size_t offset, const Page& page, std::uint32_t unit) {
    patch.add(offset, page.durable.data() + unit * unit_, unit_);
  });
}

void CrashMedium::copy_durable_to(CrashMedium& other) const {
  other.store(0, data(), size());
  each_pending([&](std::size_t offset, const Page& page, std::uint32_t unit) {
    other.store(offset, page.durable.data() + unit * unit_, unit_);
  });
}

void CrashMedium::track(bool on) {
  tracking_ = on;
  if (!on) forget_pending();
}

template <typename Visit>
void CrashMedium::each_pending(const Visit& visit) const {
  for (const std::size_t number : pending_) {
    const Page& page = pool_[in_pool_[number] - 1];
    for (std::uint64_t units = page.units; units != 0; units &= units - 1) {
      const auto unit = static_cast<std::uint32_t>(std::countr_zero(units));
      visit(number * kPage + unit * unit_, page, unit);
    }
  }
}

std::size_t CrashMedium::pending_units() const {
  std::size_t count = 0;
  for (const std::size_t page : pending_) count += std::popcount(pool_[in_pool_[page] - 1].units);
  return count;
}

void CrashMedium::choose(std::uint64_t survivors, CrashPatch& patch) const {
  std::size_t i = 0;
  each_pending([&](std::size_t offset, const Page&, std::uint32_t) {
    const bool survives = i < 64 ? (survivors >> i & 1) != 0 : survivors != 0;
    if (survives) patch.add(offset, data() + offset, unit_);
    ++i;
  });
}

void CrashMedium::tear(CrashRandom& random, CrashPatch& patch) const {
  const std::size_t piece = granularity_ == Granularity::page ? kSectorSize : kWord;
  const std::uint64_t likelihood = random.below(4);  // of survival: cuts differ in how much had drained
  std::vector<const std::byte*> versions;
  std::array<std::byte, kPage> content;
  each_pending([&](std::size_t offset, const Page& page, std::uint32_t unit) {
    versions.clear();
    versions.push_back(page.durable.data() + unit * unit_);
    for (const auto& between : page.between) {
      if (between.unit == unit) versions.push_back(between.content.data());
    }
    versions.push_back(data() + offset);
    const auto any = [&] {
      return versions[random.below(4) < likelihood ? versions.size() - 1 : random.below(versions.size())];
    };
    std::memcpy(content.data(), any(), unit_);
    if (random.below(3) == 0) {
      for (std::size_t at = 0; at < unit_; at += piece) std::memcpy(&content[at], any() + at, piece);
    }
    if (std::memcmp(content.data(), versions.front(), unit_) != 0) patch.add(offset, content.data(), unit_);
  });
}

Status CrashSpace::grow(std::size_t, std::size_t to) {
  if (to > medium_.size()) return Status(Errc::no_space, "the medium ends here");
  size_ = std::max(size_, to);
  return Status();
}

Status CrashSpace::shrink(std::size_t size) {
  size_ = size;
  return Status();
}

bool CrashSpace::write(std::size_t offset, const void* source, std::size_t length) {
  if (!dead_) medium_.store(offset, source, length);
  return true;
}

void CrashSpace::drain() {
  if (!dead_ && granularity() != Granularity::page) medium_.settle(0, size());
}

Status CrashSpace::persist(std::size_t offset, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();
  if (!dead_) medium_.settle(offset, offset + length);
  return Status();
}

bool CrashSpace::read(std::size_t offset, void* destination, std::size_t length) const {
  if (offset > size() || length > size() - offset) std::abort();
  if (length != 0) std::memcpy(destination, base() + offset, length);
  return true;
}

}  // namespace pcache
