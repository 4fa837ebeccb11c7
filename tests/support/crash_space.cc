#include "tests/support/crash_space.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace pcache {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kWord = 8;
constexpr std::size_t kMaxVersions = 8;  // of one unit; of more, the first and the latest are kept

}  // namespace

void CrashImage::store(std::size_t offset, const void* source, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();  // the engine's error, never the test's
  if (length == 0) return;
  std::byte* const to = bytes_.data() + offset;
  if (marked_) saved_.push_back({offset, {to, to + length}});
  std::memcpy(to, source, length);
}

void CrashImage::mark() {
  marked_ = true;
  saved_.clear();
}

void CrashImage::roll_back() {
  marked_ = false;
  for (auto it = saved_.rbegin(); it != saved_.rend(); ++it) {
    std::memcpy(bytes_.data() + it->offset, it->content.data(), it->content.size());
  }
  saved_.clear();
}

CrashSpace::CrashSpace(CrashImage& image, Granularity granularity, PendingUnits pending)
    : image_(image),
      granularity_(granularity),
      unit_(granularity == Granularity::page ? kBlockSize : kLine),
      pending_(std::move(pending)) {}

bool CrashSpace::write(std::size_t offset, const void* source, std::size_t length) {
  const std::size_t end = align_up(offset + length, unit_);
  for (std::size_t at = align_down(offset, unit_); at < end; at += unit_) {
    Pending& pending = pending_[at];
    if (pending.versions.empty()) pending.versions.emplace_back(base() + at, base() + at + unit_);
  }
  image_.store(offset, source, length);
  for (std::size_t at = align_down(offset, unit_); at < end; at += unit_) {
    auto& versions = pending_[at].versions;
    if (versions.size() == kMaxVersions) versions.erase(versions.begin() + 1);
    versions.emplace_back(base() + at, base() + at + unit_);
  }
  return true;
}

void CrashSpace::drain() {
  if (granularity_ != Granularity::page) settle(0, size());
}

Status CrashSpace::persist(std::size_t offset, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();
  settle(align_down(offset, unit_), align_up(offset + length, unit_));
  return Status();
}

void CrashSpace::settle(std::size_t begin, std::size_t end) {
  const auto first = pending_.lower_bound(begin);
  const auto last = pending_.lower_bound(end);
  if (first == last) return;
  if (on_fence) on_fence();
  for (auto it = first; it != last; ++it) {
    if (on_durable) on_durable(it->first, {base() + it->first, unit_});
  }
  pending_.erase(first, last);
}

bool CrashSpace::read(std::size_t offset, void* destination, std::size_t length) const {
  if (offset > size() || length > size() - offset) std::abort();
  if (length != 0) std::memcpy(destination, base() + offset, length);
  return true;
}

std::vector<CrashSpace::Patch> CrashSpace::lose_all() const { return choose(0); }

std::vector<CrashSpace::Patch> CrashSpace::choose(std::uint64_t survivors) const {
  std::vector<Patch> patches;
  std::size_t i = 0;
  for (const auto& [offset, pending] : pending_) {
    const bool survives = i < 64 ? (survivors >> i & 1) != 0 : survivors != 0;
    if (survives) patches.push_back({offset, pending.versions.back()});
    ++i;
  }
  return patches;
}

std::vector<CrashSpace::Patch> CrashSpace::tear(std::mt19937_64& random) const {
  const std::size_t piece = granularity_ == Granularity::page ? kSectorSize : kWord;
  const std::uint64_t likelihood = random() % 4;  // of survival: cuts differ in how much had drained
  std::vector<Patch> patches;
  for (const auto& [offset, pending] : pending_) {
    const auto& versions = pending.versions;
    const auto any = [&] { return random() % 4 < likelihood ? versions.size() - 1 : random() % versions.size(); };
    std::vector<std::byte> content = versions[any()];
    if (random() % 3 == 0) {
      for (std::size_t at = 0; at < unit_; at += piece) std::memcpy(&content[at], &versions[any()][at], piece);
    }
    if (content != versions.front()) patches.push_back({offset, std::move(content)});
  }
  return patches;
}

}  // namespace pcache
