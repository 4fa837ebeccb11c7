#include "cache/ghost_list.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace pcache {

struct GhostList::Row {
  std::array<std::uint16_t, kRow> fingerprints;
};

GhostList::GhostList(std::size_t blocks) : words_(std::max<std::size_t>(1, (blocks + kRow - 1) / kRow) * kWords) {}

GhostList::Place GhostList::place_of(std::uint32_t device_id, std::uint64_t block) const {
  // SplitMix64's finaliser, by Sebastiano Vigna.
  std::uint64_t hash = block + (std::uint64_t{device_id} << 40) + 0x9e3779b97f4a7c15;
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
  hash ^= hash >> 31;
  const std::size_t rows = words_.size() / kWords;
  const auto fingerprint = static_cast<std::uint16_t>(hash);
  return {(hash >> 16) % rows * kWords, fingerprint != 0 ? fingerprint : std::uint16_t{1}};
}

GhostList::Row GhostList::load(const Place& place) const {
  std::array<std::uint64_t, kWords> words;
  for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[place.first_word + i].load(std::memory_order_relaxed);
  Row row;
  static_assert(sizeof row == sizeof words);
  std::memcpy(&row, words.data(), sizeof row);
  return row;
}

void GhostList::store(const Place& place, const Row& row) {
  std::array<std::uint64_t, kWords> words;
  std::memcpy(words.data(), &row, sizeof row);
  for (std::size_t i = 0; i < kWords; ++i) words_[place.first_word + i].store(words[i], std::memory_order_relaxed);
}

void GhostList::add(std::uint32_t device_id, std::uint64_t block) {
  const Place place = place_of(device_id, block);
  Row row = load(place);
  std::copy_backward(row.fingerprints.begin(), row.fingerprints.end() - 1, row.fingerprints.end());
  row.fingerprints.front() = place.fingerprint;
  store(place, row);
  if (!used_.load(std::memory_order_relaxed)) used_.store(true, std::memory_order_relaxed);
}

bool GhostList::take(std::uint32_t device_id, std::uint64_t block) {
  const Place place = place_of(device_id, block);
  Row row = load(place);
  const auto found = std::find(row.fingerprints.begin(), row.fingerprints.end(), place.fingerprint);
  if (found == row.fingerprints.end()) return false;
  std::copy(found + 1, row.fingerprints.end(), found);
  row.fingerprints.back() = 0;
  store(place, row);
  return true;
}

}  // namespace pcache
