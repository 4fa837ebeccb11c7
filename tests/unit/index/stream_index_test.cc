#include "index/stream_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/backoff_lock.h"

namespace pcache {
namespace {

constexpr std::size_t kSlots = 1 << 14;

// A slot's value says which block it was filled for.
std::uint32_t value_of(std::uint64_t block) { return static_cast<std::uint32_t>(block * 2654435761U + 1); }

class StreamIndexTest : public testing::Test {
 protected:
  SlotId put(SlotId slot, std::uint64_t block) {
    return index_.insert(slot, block, SlotType::write, true, value_of(block));
  }

  // Distinct blocks of one chain: as long as there are no more than 8 of them the index does not grow.
  static std::vector<std::uint64_t> colliding_blocks(std::size_t count) {
    std::vector<std::uint64_t> blocks;
    for (std::uint64_t block = 0; blocks.size() < count; ++block) {
      if (StreamIndex::bucket_of(block, 16) == 5) blocks.push_back(block);
    }
    return blocks;
  }

  SlotTable slots_{kSlots};
  StreamIndex index_{slots_};
};

// --- The slot table

TEST(SlotKey, UnpacksWhatItPacked) {
  for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0xffffffffffff}}) {
    for (int type = 0; type <= 5; ++type) {
      for (int flags = 0; flags < 4; ++flags) {
        const SlotKey key{block, static_cast<SlotType>(type), (flags & 1) != 0, (flags & 2) != 0};
        const SlotKey again = SlotKey::unpack(key.pack());
        EXPECT_EQ(again.block, key.block);
        EXPECT_EQ(again.type, key.type);
        EXPECT_EQ(again.linked, key.linked);
        EXPECT_EQ(again.dirty, key.dirty);
      }
    }
  }
}

TEST(SlotTableTest, FreshSlotsHoldNothingAndEndTheirChain) {
  const SlotTable slots(100);
  for (SlotId slot = 0; slot < 100; ++slot) {
    EXPECT_EQ(slots.key(slot).type, SlotType::none);
    EXPECT_FALSE(slots.key(slot).linked);
    EXPECT_EQ(slots.next(slot), kNoSlot);
    EXPECT_EQ(slots.frequency(slot), 0);
  }
}

TEST(SlotTableTest, FieldsOfASlotAreItsOwn) {
  SlotTable slots(3);
  slots.set_key(1, {9, SlotType::clean, true, false});
  slots.set_value(1, 77);
  slots.set_next(1, 0);  // slot 0 is not "none"
  slots.count_read(1);
  EXPECT_EQ(slots.key(1).block, 9U);
  EXPECT_EQ(slots.value(1), 77U);
  EXPECT_EQ(slots.next(1), 0U);
  EXPECT_EQ(slots.frequency(1), 1);
  slots.set_next(1, kNoSlot);
  EXPECT_EQ(slots.next(1), kNoSlot);
  for (int reads = 0; reads < 300; ++reads) slots.count_read(1);
  EXPECT_EQ(slots.frequency(1), SlotTable::kMostFrequent);
  slots.clear(1);
  EXPECT_EQ(slots.key(1).pack(), 0U);
  EXPECT_EQ(slots.frequency(1), 0);
  for (const SlotId other : {0U, 2U}) {
    EXPECT_EQ(slots.key(other).pack(), 0U);
    EXPECT_EQ(slots.value(other), 0U);
    EXPECT_EQ(slots.next(other), kNoSlot);
    EXPECT_EQ(slots.frequency(other), 0);
  }
}

// --- Finding and changing

TEST_F(StreamIndexTest, FindsOnlyWhatWasInserted) {
  EXPECT_EQ(index_.find(0), kNoSlot);  // a fresh slot's key has block 0
  EXPECT_EQ(put(4, 0), kNoSlot);
  EXPECT_EQ(put(0, 300), kNoSlot);
  EXPECT_EQ(index_.find(0), 4U);
  EXPECT_EQ(index_.find(300), 0U);
  EXPECT_EQ(index_.find(1), kNoSlot);
  EXPECT_EQ(index_.count(), 2U);
}

TEST_F(StreamIndexTest, InsertFillsTheSlotIn) {
  index_.insert(3, 0xffffffffffff, SlotType::clean, false, 17);
  const SlotKey key = slots_.key(3);
  EXPECT_EQ(key.block, 0xffffffffffffU);
  EXPECT_EQ(key.type, SlotType::clean);
  EXPECT_TRUE(key.linked);
  EXPECT_FALSE(key.dirty);
  EXPECT_EQ(slots_.value(3), 17U);
}

TEST_F(StreamIndexTest, InsertTakesThePlaceOfTheSlotBefore) {
  put(1, 40);
  EXPECT_EQ(put(2, 40), 1U);
  EXPECT_EQ(index_.find(40), 2U);
  EXPECT_EQ(index_.count(), 1U);
  // Writeback still reads what the superseded slot holds.
  EXPECT_FALSE(slots_.key(1).linked);
  EXPECT_EQ(slots_.key(1).block, 40U);
  EXPECT_EQ(slots_.key(1).type, SlotType::write);
  EXPECT_TRUE(slots_.key(1).dirty);
  EXPECT_EQ(slots_.value(1), value_of(40));
}

TEST_F(StreamIndexTest, EraseOfASupersededSlotLeavesTheNewOne) {
  put(1, 40);
  put(2, 40);
  EXPECT_FALSE(index_.erase(1));
  EXPECT_EQ(index_.find(40), 2U);
  EXPECT_TRUE(index_.erase(2));
  EXPECT_FALSE(index_.erase(2));
  EXPECT_EQ(index_.find(40), kNoSlot);
  EXPECT_EQ(index_.count(), 0U);
}

TEST_F(StreamIndexTest, ErasesAnywhereInAChain) {
  const auto blocks = colliding_blocks(5);
  for (std::size_t gone = 0; gone < blocks.size(); ++gone) {
    for (SlotId slot = 0; slot < blocks.size(); ++slot) put(slot, blocks[slot]);
    ASSERT_TRUE(index_.erase(static_cast<SlotId>(gone)));
    for (SlotId slot = 0; slot < blocks.size(); ++slot) {
      EXPECT_EQ(index_.find(blocks[slot]), slot == gone ? kNoSlot : slot) << gone << " erased";
    }
    EXPECT_EQ(index_.count(), blocks.size() - 1);
  }
}

TEST_F(StreamIndexTest, ReplacesAnywhereInAChain) {
  const auto blocks = colliding_blocks(5);
  for (SlotId slot = 0; slot < blocks.size(); ++slot) put(slot, blocks[slot]);
  for (SlotId slot = 0; slot < blocks.size(); ++slot) {
    EXPECT_EQ(put(slot + 100, blocks[slot]), slot);
    for (SlotId other = 0; other < blocks.size(); ++other) {
      EXPECT_EQ(index_.find(blocks[other]), other <= slot ? other + 100 : other);
    }
  }
}

TEST_F(StreamIndexTest, UpdateChangesTheKeyAndKeepsTheChain) {
  const auto blocks = colliding_blocks(3);
  for (SlotId slot = 0; slot < blocks.size(); ++slot) put(slot, blocks[slot]);
  index_.update(1, {blocks[1], SlotType::lost, true, false});
  for (SlotId slot = 0; slot < blocks.size(); ++slot) EXPECT_EQ(index_.find(blocks[slot]), slot);
  EXPECT_EQ(slots_.key(1).type, SlotType::lost);
  EXPECT_FALSE(slots_.key(1).dirty);
}

TEST_F(StreamIndexTest, AgreesWithAMap) {
  const unsigned seed = 7;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::map<std::uint64_t, SlotId> model;
  std::vector<SlotId> unused;
  for (SlotId slot = 0; slot < 600; ++slot) unused.push_back(slot);
  for (int round = 0; round < 20000; ++round) {
    const std::uint64_t block = random() % 3 * 1000003 + random() % 300;
    const auto old = model.find(block);
    if (random() % 3 != 0 && !unused.empty()) {
      const SlotId slot = unused.back();
      unused.pop_back();
      ASSERT_EQ(put(slot, block), old == model.end() ? kNoSlot : old->second);
      if (old != model.end()) unused.insert(unused.begin(), old->second);
      model[block] = slot;
    } else if (old != model.end()) {
      ASSERT_TRUE(index_.erase(old->second));
      unused.insert(unused.begin(), old->second);
      model.erase(old);
    }
    ASSERT_EQ(index_.count(), model.size());
    for (int i = 0; i < 10; ++i) {
      const std::uint64_t asked = random() % 3 * 1000003 + random() % 300;
      const auto known = model.find(asked);
      ASSERT_EQ(index_.find(asked), known == model.end() ? kNoSlot : known->second) << "block " << asked;
    }
  }
}

// --- Growing

TEST_F(StreamIndexTest, GrowingKeepsEveryBlock) {
  const unsigned seed = 11;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::unordered_set<std::uint64_t> seen;
  std::vector<std::uint64_t> blocks;
  while (blocks.size() < kSlots) {  // each slot there is, so that the index becomes as large as it can
    const std::uint64_t block = random() % (std::uint64_t{1} << 48);
    if (!seen.insert(block).second) continue;
    put(static_cast<SlotId>(blocks.size()), block);
    blocks.push_back(block);
    if (blocks.size() > 1000 && blocks.size() % 1024 != 0) continue;
    for (SlotId slot = 0; slot < blocks.size(); ++slot) {
      ASSERT_EQ(index_.find(blocks[slot]), slot) << "with " << blocks.size() << " blocks";
    }
  }
  for (SlotId slot = 0; slot < blocks.size(); ++slot) ASSERT_TRUE(index_.erase(slot));
  EXPECT_EQ(index_.count(), 0U);
}

TEST_F(StreamIndexTest, HasTwoBucketsForEachBlockAndNoMoreThanTwoForEachSlot) {
  EXPECT_EQ(index_.bucket_bytes(), 16U * 4);
  for (SlotId slot = 0; slot < kSlots; ++slot) {
    put(slot, slot);
    ASSERT_EQ(index_.bucket_bytes(), std::max<std::uint64_t>(16, 2 * (slot + 1)) * 4);
  }
  for (SlotId slot = 0; slot < kSlots; ++slot)
    put(slot, slot + kSlots);  // the slots' new life: nothing is left to grow
  EXPECT_EQ(index_.bucket_bytes(), 2 * kSlots * 4);
}

// What makes it safe to rehash one chain only.
TEST(BucketOf, OneBucketMoreMovesBlocksOnlyFromOneIntoTheNewOne) {
  std::mt19937_64 random(3);
  std::vector<std::uint64_t> blocks;
  for (std::uint64_t i = 0; i < 2000; ++i) blocks.push_back(i < 600 ? i : random() % (std::uint64_t{1} << 48));
  std::vector<std::uint32_t> sizes;
  for (std::uint32_t buckets = 1; buckets < 200; ++buckets) sizes.push_back(buckets);
  for (int bit = 8; bit < 32; ++bit) {
    for (int off = -3; off <= 3; ++off) sizes.push_back((1U << bit) + static_cast<std::uint32_t>(off));
  }
  sizes.push_back(0xfffffffe);  // two for each slot of the largest cache device is more than can be numbered
  for (const std::uint32_t buckets : sizes) {
    const std::uint32_t parent = buckets & (std::bit_floor(buckets) - 1);
    for (const std::uint64_t block : blocks) {
      const std::uint32_t before = StreamIndex::bucket_of(block, buckets);
      const std::uint32_t after = StreamIndex::bucket_of(block, buckets + 1);
      ASSERT_LT(before, buckets) << "block " << block;
      ASSERT_TRUE(after == before || (before == parent && after == buckets))
          << "block " << block << " goes from bucket " << before << " of " << buckets << " to " << after;
    }
  }
}

// --- Chains

struct Chains {
  double steps = 0;      // slots looked at to find a block, on average
  unsigned longest = 0;  // slots
};

Chains chains_of(const std::vector<std::uint64_t>& blocks) {
  std::vector<std::uint32_t> lengths(blocks.size() * 2);
  for (const std::uint64_t block : blocks)
    ++lengths[StreamIndex::bucket_of(block, static_cast<std::uint32_t>(lengths.size()))];
  Chains chains;
  for (const std::uint32_t length : lengths) {
    chains.steps += length * (length + 1) / 2.0 / static_cast<double>(blocks.size());
    chains.longest = std::max(chains.longest, length);
  }
  return chains;
}

// Random placement takes 1.25 steps where the number of buckets is a power of two, and up to 1.3 where it is not.
void expect_short_chains(const std::vector<std::uint64_t>& blocks) {
  const Chains chains = chains_of(blocks);
  EXPECT_LT(chains.steps, 1.4) << "longest chain: " << chains.longest;
  EXPECT_LE(chains.longest, 12U);
}

const std::array<std::uint64_t, 5> kCounts = {20000, 40000, 65536, 100000, 262144};

TEST(BucketOf, SequentialBlocksMakeShortChains) {
  for (const std::uint64_t count : kCounts) {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{12345}, std::uint64_t{1} << 40}) {
      SCOPED_TRACE(testing::Message() << count << " blocks from " << first);
      std::vector<std::uint64_t> blocks;
      for (std::uint64_t i = 0; i < count; ++i) blocks.push_back(first + i);
      expect_short_chains(blocks);
    }
  }
}

TEST(BucketOf, BlocksAtOneStrideMakeShortChains) {
  for (const std::uint64_t count : kCounts) {
    for (const std::uint64_t stride : {2U, 3U, 16U, 100U, 255U, 256U, 257U, 512U, 4096U, 65536U, 1U << 20, 1U << 28}) {
      for (const std::uint64_t first : {0U, 77U}) {
        SCOPED_TRACE(testing::Message() << count << " blocks from " << first << " at a stride of " << stride);
        std::vector<std::uint64_t> blocks;
        for (std::uint64_t i = 0; i < count; ++i) blocks.push_back(first + i * stride);
        expect_short_chains(blocks);
      }
    }
  }
}

// An index has one stream's windows only: what chose them must not be what chooses the buckets.
TEST(BucketOf, WindowsOfOneStreamMakeShortChains) {
  for (const std::uint32_t streams : {2U, 3U, 4U, 8U}) {
    for (std::uint32_t stream = 0; stream < streams; ++stream) {
      SCOPED_TRACE(testing::Message() << "stream " << stream << " of " << streams);
      std::vector<std::uint64_t> blocks;
      for (std::uint64_t block = 0; blocks.size() < 100000; ++block) {
        if ((block / 256 * 0xd1342543de82ef95 >> 40) % streams == stream) blocks.push_back(block);
      }
      expect_short_chains(blocks);
    }
  }
}

// --- Without the lock

TEST_F(StreamIndexTest, FindsWithoutTheLockWhatTheIndexSays) {
  put(8, 123);
  const StreamIndex::Found found = index_.find_unlocked(123);
  EXPECT_EQ(found.slot, 8U);
  EXPECT_EQ(found.key.block, 123U);
  EXPECT_EQ(found.key.type, SlotType::write);
  EXPECT_TRUE(found.key.dirty);
  EXPECT_EQ(found.value, value_of(123));
  EXPECT_EQ(index_.find_unlocked(124).slot, kNoSlot);
}

// Whoever chooses the blocks can make all of them meet.
TEST_F(StreamIndexTest, FindsInAChainOfAnyLength) {
  constexpr std::uint32_t kCount = 9000;
  constexpr std::uint32_t kMostBuckets = 2 * kSlots;
  std::vector<std::uint64_t> blocks;
  for (std::uint64_t run = 0; blocks.size() <= kCount; ++run) {
    const std::uint32_t in_run = StreamIndex::bucket_of(run * 256, kMostBuckets) ^ 5;
    if (in_run < 256) blocks.push_back(run * 256 + in_run);
  }
  for (SlotId slot = 0; slot < kCount; ++slot) put(slot, blocks[slot]);
  for (const SlotId slot : {SlotId{0}, kCount / 2, kCount - 1}) {
    EXPECT_EQ(index_.find_unlocked(blocks[slot]).slot, slot);
  }
  EXPECT_EQ(index_.find_unlocked(blocks[kCount]).slot, kNoSlot);
}

TEST_F(StreamIndexTest, AnswerIsValidUntilTheIndexChanges) {
  put(8, 123);
  const auto answer = [this] { return index_.find_unlocked(123); };

  StreamIndex::Found found = answer();
  index_.find(123);
  index_.find_unlocked(5);
  EXPECT_FALSE(index_.erase(9));  // nothing to erase: no change
  EXPECT_TRUE(index_.still_valid(found));
  put(9, 5);
  EXPECT_FALSE(index_.still_valid(found)) << "after an insertion";

  found = answer();
  index_.erase(9);
  EXPECT_FALSE(index_.still_valid(found)) << "after an erasure";

  found = answer();
  index_.update(8, {123, SlotType::lost, true, false});
  EXPECT_FALSE(index_.still_valid(found)) << "after an update";
  EXPECT_EQ(answer().key.type, SlotType::lost);

  const StreamIndex::Found nothing = index_.find_unlocked(700);
  put(10, 700);
  EXPECT_FALSE(index_.still_valid(nothing)) << "that there is nothing is an answer too";
}

// Changes an index all the time, as its stream's owner does: slots get other blocks at once, chains split.
class Changer {
 public:
  Changer(StreamIndex& index, const SlotTable& slots) : index_(index) {
    // One chain, however large the index: a lookup is on its way for a while.
    const auto last_bucket = static_cast<std::uint32_t>(2 * slots.size() - 1);
    for (std::uint64_t block = 0; resident_.size() < 24; ++block) {
      if (StreamIndex::bucket_of(block, last_bucket + 1) == last_bucket) resident_.push_back(block);
    }
    for (SlotId slot = 0; slot < slots.size(); ++slot) free_.push_back(slot);
    for (const std::uint64_t block : resident_) move(block);
  }

  // Blocks that move from slot to slot but are always there.
  const std::vector<std::uint64_t>& resident() const { return resident_; }
  // Blocks 0 to here come and go.
  static constexpr std::uint64_t kPassing = 3000;

  void change() {
    ++changes_;
    if (changes_ % 2 == 0) return move(resident_[random_() % resident_.size()]);
    // More and more blocks, so that the index keeps growing for a while.
    const std::uint64_t block = random_() % std::min(kPassing, 1 + changes_ / 32);
    if (std::find(resident_.begin(), resident_.end(), block) != resident_.end()) return;
    if (const SlotId slot = index_.find(block); slot != kNoSlot && random_() % 2 == 0) {
      index_.erase(slot);
      free_.push_back(slot);
    } else {
      move(block);
    }
  }

 private:
  void move(std::uint64_t block) {
    const SlotId slot = free_.back();
    free_.pop_back();
    const SlotId old = index_.insert(slot, block, SlotType::write, true, value_of(block));
    if (old != kNoSlot) free_.push_back(old);  // the very next insertion fills it
  }

  StreamIndex& index_;
  std::mt19937 random_{5};
  std::vector<std::uint64_t> resident_;
  std::vector<SlotId> free_;
  std::uint64_t changes_ = 0;
};

TEST_F(StreamIndexTest, LookupDuringChangesIsOfTheBlockAskedFor) {
  constexpr int kLookups = 600000;
  Changer changer(index_, slots_);
  std::atomic<bool> done{false};
  std::atomic<bool> changing{false};
  std::thread writer([&] {
    for (std::uint64_t i = 0; !done.load(std::memory_order_relaxed); ++i) {
      changer.change();
      if (i % 16 == 0) std::this_thread::yield();
      // As after a change in earnest there is time for a lookup, though it may overlap the next change.
      for (std::uint64_t pause = i * 7 % 32; pause > 0; --pause) cpu_pause();
      if (i == 0) changing = true;
    }
  });
  while (!changing) std::this_thread::yield();

  std::mt19937 random(6);
  int wrong = 0;
  int changed_later = 0;
  int missing = 0;
  for (int i = 0; i < kLookups; ++i) {
    const bool resident = i % 2 == 0;
    const std::uint64_t block =
        resident ? changer.resident()[random() % changer.resident().size()] : random() % Changer::kPassing;
    const StreamIndex::Found found = index_.find_unlocked(block);
    if (found.slot == kNoSlot) {
      if (resident) ++missing;
      continue;
    }
    if (found.key.block != block || !found.key.linked || found.value != value_of(block)) ++wrong;
    const SlotKey now = slots_.key(found.slot);
    if (index_.still_valid(found) && now.pack() != found.key.pack()) ++changed_later;
  }
  done = true;
  writer.join();
  EXPECT_EQ(wrong, 0) << "the slot of another block was returned";
  EXPECT_EQ(changed_later, 0) << "a slot was changed under a valid answer";
  EXPECT_EQ(missing, 0) << "a block that is always there was not found";
  for (const std::uint64_t block : changer.resident()) EXPECT_NE(index_.find(block), kNoSlot);
}

}  // namespace
}  // namespace pcache
