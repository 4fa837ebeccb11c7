#include "tests/simulation/sector_history.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace pcache {
namespace {

constexpr std::uint64_t kSectorsPerBlock = 8;
constexpr std::size_t kWords = SectorHistory::kSectorBytes / sizeof(std::uint64_t);
using Words = std::array<std::uint64_t, kWords>;

// Words 1 and on count up from here, but for zeroes.
std::uint64_t base_of(SectorHistory::Value value, std::uint64_t sector) {
  return value * 0x9e3779b97f4a7c15 + sector * kWords;
}

}  // namespace

SectorHistory::SectorHistory(std::uint64_t sectors) : sectors_(sectors, {Candidate{kInitial, 0, kNever}}) {
  operations_.push_back({kZeroes, {0, 0}, 0, 0});  // no operation has a discard's value for its number
  operations_.push_back({kInitial, {0, sectors}, 0, 0});
  epochs_.push_back(0);
}

void SectorHistory::encode(Value value, std::uint64_t sector, std::byte* out) {
  Words words{};
  if (value != kZeroes) {
    const std::uint64_t base = base_of(value, sector);
    for (std::size_t i = 0; i < kWords; ++i) words[i] = base + i;
    words[0] = value;
  }
  std::memcpy(out, words.data(), sizeof words);
}

SectorHistory::Value SectorHistory::decode(std::uint64_t sector, const std::byte* content) {
  Words words;
  std::memcpy(words.data(), content, sizeof words);
  const std::uint64_t base = base_of(words[0], sector);
  const std::uint64_t step = words[0] == kZeroes ? 0 : 1;
  std::uint64_t difference = 0;  // all of them at once is faster than to stop at the first
  for (std::size_t i = 1; i < kWords; ++i) difference |= words[i] ^ (base + i) * step;
  return difference == 0 ? words[0] : kDamaged;
}

std::uint64_t SectorHistory::begin(const Range& range, bool discard, Moment now) {
  const std::uint64_t number = operations_.size();
  operations_.push_back({discard ? kZeroes : number, range, now, kNever, tears_});
  for (std::uint64_t sector = range.first; sector < range.first + range.count; ++sector) {
    prune(sectors_[sector]);
    sectors_[sector].push_back({number, now, kNever});
  }
  changed_ = true;
  return number;
}

void SectorHistory::end(std::uint64_t number, bool acknowledged, Moment now) {
  Operation& operation = operations_[number];
  operation.ended = now;
  operation.acknowledged = acknowledged;
  changed_ = true;
  if (!acknowledged) return;
  const Range range = operation.range;
  for (std::uint64_t sector = range.first; sector < range.first + range.count; ++sector) {
    overwrite(sector, operation, now, now);
  }
}

// What ended before `by` began is not there any more, unless `by`, which was there at `seen` or later, may have been
// lost since.
void SectorHistory::overwrite(std::uint64_t sector, const Operation& by, Moment seen, Moment now) {
  for (Candidate& candidate : sectors_[sector]) {
    if (candidate.back > seen || operations_[candidate.operation].ended >= by.began) continue;
    candidate.until = std::min(candidate.until, now);
    candidate.replaced |= by.acknowledged;
  }
}

void SectorHistory::prune(Candidates& candidates) const {
  const Moment oldest = std::min(oldest_read_, epochs_.front());
  std::erase_if(candidates, [oldest](const Candidate& candidate) { return candidate.until < oldest; });
}

// A candidate for `value` that was there at some time in [since, now]; of several the one that began first.
const SectorHistory::Candidate* SectorHistory::find(std::uint64_t sector, Value value, Moment since, Moment now) const {
  const Candidate* found = nullptr;
  for (const Candidate& candidate : sectors_[sector]) {
    const Operation& operation = operations_[candidate.operation];
    if (operation.value != value || candidate.until <= since || candidate.from > now) continue;
    if (found == nullptr || operation.began < operations_[found->operation].began) found = &candidate;
  }
  return found;
}

std::string SectorHistory::check_read(const Range& range, std::span<const std::byte> content, Moment began,
                                      Moment now) {
  std::vector<Value> values(range.count);
  for (std::uint64_t i = 0; i < range.count; ++i) {
    const std::uint64_t sector = range.first + i;
    values[i] = decode(sector, content.data() + i * kSectorBytes);
    const Candidate* const candidate = find(sector, values[i], began, now);
    if (candidate == nullptr) return describe(sector, values[i], began);
    // Whoever reads from now on must not see what came before it.
    const Operation by = operations_[candidate->operation];
    overwrite(sector, by, began, now);
  }
  return check_blocks(range, values);
}

// A block never has one part of a write, and for another part of the same write what came before it.
std::string SectorHistory::check_blocks(const Range& range, std::span<const Value> values) const {
  for (std::uint64_t at = 0; at < range.count;) {
    const std::uint64_t block = (range.first + at) / kSectorsPerBlock;
    std::uint64_t end = at;
    while (end < range.count && (range.first + end) / kSectorsPerBlock == block) ++end;
    for (std::uint64_t i = at; i < end; ++i) {
      if (values[i] == kZeroes) continue;
      const Operation& shown = operations_[values[i]];
      if (shown.may_tear) continue;
      for (std::uint64_t j = at; j < end; ++j) {
        const std::uint64_t sector = range.first + j;
        const bool covered = sector >= shown.range.first && sector < shown.range.first + shown.range.count;
        if (values[j] == values[i] || values[j] == kZeroes || !covered) continue;
        if (operations_[values[j]].ended < shown.began) {
          return "block " + std::to_string(block) + " is torn: sector " + std::to_string(range.first + i) +
                 " is of operation " + std::to_string(values[i]) + ", sector " + std::to_string(sector) +
                 " still of operation " + std::to_string(values[j]);
        }
      }
    }
    at = end;
  }
  return "";
}

std::string SectorHistory::describe(std::uint64_t sector, Value value, Moment since) const {
  std::string text = "sector " + std::to_string(sector) + " has ";
  text += value == kDamaged ? "what nobody wrote" : "the value " + std::to_string(value);
  text += "; since moment " + std::to_string(since) + " it may have";
  for (const Candidate& candidate : sectors_[sector]) {
    const Operation& operation = operations_[candidate.operation];
    text += " " + std::to_string(operation.value) + "[" + std::to_string(operation.began) + ".." +
            (operation.ended == kNever ? "" : std::to_string(operation.ended)) + ", overwritten " +
            (candidate.until == kNever ? "never" : std::to_string(candidate.until)) + "]";
  }
  return text;
}

SectorHistory::Moment SectorHistory::close_epoch(Moment now) {
  if (changed_) epochs_.push_back(now);
  changed_ = false;
  return epochs_.back();
}

std::vector<SectorHistory::Value> SectorHistory::decode_all(std::span<const std::byte> content) const {
  std::vector<Value> values(sectors_.size());
  for (std::uint64_t sector = 0; sector < sectors_.size(); ++sector) {
    values[sector] = decode(sector, content.data() + sector * kSectorBytes);
  }
  return values;
}

bool SectorHistory::is_epoch(std::span<const std::byte> content, Moment oldest) {
  const std::vector<Value> values = decode_all(content);
  for (auto epoch = epochs_.begin(); epoch != epochs_.end(); ++epoch) {
    if (*epoch < oldest) continue;
    std::uint64_t sector = 0;
    while (sector < sectors_.size() && find(sector, values[sector], *epoch, *epoch) != nullptr) ++sector;
    if (sector < sectors_.size()) continue;
    epochs_.erase(epochs_.begin(), epoch);
    return true;
  }
  return false;
}

bool SectorHistory::is_part_of_epoch(std::span<const std::byte> content) const {
  constexpr std::ptrdiff_t kSoon = 16;  // an epoch of the engine may be several here: others' ends count too
  const std::vector<Value> values = decode_all(content);
  for (auto epoch = epochs_.begin(); epoch != epochs_.end(); ++epoch) {
    const auto end = epoch + std::min(kSoon + 1, epochs_.end() - epoch);
    for (auto next = epoch + 1; next < end; ++next) {
      std::uint64_t sector = 0;
      while (sector < sectors_.size() && find(sector, values[sector], *epoch, *next) != nullptr) ++sector;
      if (sector == sectors_.size()) return true;
    }
  }
  return false;
}

void SectorHistory::only_epoch(Moment now) {
  epochs_ = {now};
  changed_ = false;
}

void SectorHistory::allow_torn(bool on) {
  tears_ = on;
  if (!on) return;
  for (auto operation = operations_.rbegin(); operation != operations_.rend(); ++operation) {
    if (operation->ended == kNever) operation->may_tear = true;
  }
}

bool SectorHistory::reset(std::span<const std::byte> content, Moment now) {
  for (std::uint64_t sector = 0; sector < sectors_.size(); ++sector) {
    const Value value = decode(sector, content.data() + sector * kSectorBytes);
    if (value >= operations_.size()) return false;
    operations_[value].may_tear = true;  // it may have been on its way there
    sectors_[sector] = {{value, now, kNever}};
  }
  only_epoch(now);
  return true;
}

void SectorHistory::restart(Moment safe, Moment now) {
  for (Operation& operation : operations_) operation.ended = std::min(operation.ended, now);
  may_revert(Losable::everything, safe, now);
}

void SectorHistory::may_revert(Losable losable, Moment safe, Moment now) {
  for (Candidates& candidates : sectors_) {
    const std::size_t count = candidates.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t operation = candidates[i].operation;
      const auto there = std::find_if(candidates.begin(), candidates.end(), [operation](const Candidate& candidate) {
        return candidate.operation == operation && candidate.until == kNever;
      });
      if (there != candidates.end()) {
        there->back = now;
      } else if (candidates[i].until > safe && (losable == Losable::everything || !candidates[i].replaced)) {
        candidates.push_back({operation, now, kNever, now});
      }
    }
  }
  changed_ = true;
}

std::string SectorHistory::settle(std::span<const std::byte> content, Moment now) {
  const std::vector<Value> values = decode_all(content);
  for (std::uint64_t sector = 0; sector < sectors_.size(); ++sector) {
    const Candidate* const found = find(sector, values[sector], now, now);
    if (found == nullptr) return describe(sector, values[sector], now);
    for (Candidate& candidate : sectors_[sector]) {
      if (&candidate != found && candidate.until == kNever) candidate.until = now;
    }
  }
  changed_ = true;
  return check_blocks({0, sectors_.size()}, values);
}

}  // namespace pcache
