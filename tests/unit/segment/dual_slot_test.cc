#include "segment/dual_slot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "media/layout.h"
#include "tests/support/memory_space.h"

namespace pcache {
namespace {

// As large as the smallest items on the medium.
struct Item {
  static constexpr std::uint32_t kMagic = 0x54534554;

  MetaHeader header;
  std::uint64_t value;
  std::array<std::uint64_t, 4> more;  // the value again, so that every part of an item changes with it
};
static_assert(sizeof(Item) == kRecordSize);

struct OtherItem : Item {
  static constexpr std::uint32_t kMagic = Item::kMagic + 1;
};

constexpr DualSlot kSlot{kMediaPage, 3 * kMediaPage, 5};
constexpr std::uint32_t kTag = 0x1234;
constexpr std::size_t kSize = 4 * kMediaPage;

template <typename T = Item>
std::optional<std::uint64_t> load(const PmemSpace& space, std::uint32_t tag = kTag) {
  const auto item = load_dual<T>(space, kSlot, tag);
  if (!item) return std::nullopt;
  for (const std::uint64_t part : item->more) EXPECT_EQ(part, item->value) << "a mixture of two items";
  return item->value;
}

// Updates the item as everybody does: what was loaded is changed and stored.
Status store(PmemSpace& space, std::uint64_t value) {
  Item item = load_dual<Item>(space, kSlot, kTag).value_or(Item{});
  item.value = value;
  item.more.fill(value);
  return store_dual(space, kSlot, kTag, item);
}

using States = std::array<CopyState, 2>;

class DualSlotTest : public testing::Test {
 protected:
  using Image = std::shared_ptr<MemorySpace::Image>;

  // What is left of `image` when the power goes after so many writes of an update to `value`.
  static Image cut_off(const Image& image, std::uint64_t value, std::uint64_t writes, std::size_t torn_bytes) {
    const auto left = MemorySpace::copy_image(*image);
    MemorySpace space(left);
    space.cut_after(writes, torn_bytes);
    EXPECT_TRUE(store(space, value).ok());
    return left;
  }
  static std::optional<std::uint64_t> load_from(const Image& image) { return load(MemorySpace(image)); }

  // Calls `check` with each state that a crash in an update of `image` to `value` may leave.
  template <typename Check>
  static void each_crash(const Image& image, std::uint64_t value, const Check& check) {
    for (std::uint64_t writes = 0; writes <= 2; ++writes) {
      for (std::size_t torn_bytes = 0; torn_bytes <= sizeof(Item); torn_bytes += 8) {
        SCOPED_TRACE(testing::Message() << "cut after " << writes << " writes and " << torn_bytes << " bytes");
        check(cut_off(image, value, writes, torn_bytes));
        if (HasFailure()) return;
      }
    }
  }

  void damage(std::uint64_t copy, std::size_t byte) { (*image_)[copy + byte] ^= std::byte{0x20}; }

  const Image image_ = MemorySpace::make_image(kSize);
  MemorySpace space_{image_};
};

TEST_F(DualSlotTest, FreshMemoryHoldsNothing) {
  EXPECT_FALSE(load(space_));
  EXPECT_TRUE(is_blank<Item>(space_, kSlot.first));
  ASSERT_TRUE(store(space_, 1).ok());
  EXPECT_FALSE(is_blank<Item>(space_, kSlot.first));
  EXPECT_FALSE(is_blank<Item>(space_, kSlot.second));
}

TEST_F(DualSlotTest, LoadsWhatWasStoredLast) {
  for (std::uint64_t value = 1; value < 5; ++value) {
    ASSERT_TRUE(store(space_, value).ok());
    EXPECT_EQ(load(space_), value);
    EXPECT_EQ(load_dual<Item>(space_, kSlot, kTag)->header.sequence, value);
  }
}

TEST_F(DualSlotTest, SaysWhatEachCopyIsWorth) {
  const auto states = [this] { return load_copies<Item>(space_, kSlot, kTag).states; };
  const auto write = [this](std::uint64_t copy, const void* from) { (void)space_.write(copy, from, sizeof(Item)); };
  const Item blank{};
  EXPECT_EQ(states(), (States{CopyState::blank, CopyState::blank}));
  EXPECT_TRUE(load_copies<Item>(space_, kSlot, kTag).never_stored());

  ASSERT_TRUE(store(space_, 1).ok());
  const Item first = *load_dual<Item>(space_, kSlot, kTag);
  EXPECT_EQ(states(), (States{CopyState::good, CopyState::good}));
  write(kSlot.second, &blank);
  EXPECT_EQ(states(), (States{CopyState::good, CopyState::older})) << "a crash in the first update does that";
  damage(kSlot.first, 3);
  EXPECT_EQ(states(), (States{CopyState::damaged, CopyState::blank}));
  EXPECT_TRUE(load_copies<Item>(space_, kSlot, kTag).never_stored());
  damage(kSlot.first, 3);

  ASSERT_TRUE(store(space_, 2).ok());
  const Item second = *load_dual<Item>(space_, kSlot, kTag);
  write(kSlot.first, &first);
  EXPECT_EQ(states(), (States{CopyState::older, CopyState::good}));
  write(kSlot.first, &blank);
  EXPECT_EQ(states(), (States{CopyState::damaged, CopyState::good})) << "the first update stored both";
  write(kSlot.first, &second);
  damage(kSlot.second, 40);
  EXPECT_EQ(states(), (States{CopyState::good, CopyState::damaged}));
  space_.fail_reads(kSlot.first, 1);
  EXPECT_EQ(states(), (States{CopyState::damaged, CopyState::damaged}));
  EXPECT_FALSE(load_copies<Item>(space_, kSlot, kTag).never_stored());
}

TEST_F(DualSlotTest, CrashInTheFirstStoreLeavesNothingOrTheItem) {
  each_crash(image_, 1, [](const Image& left) {
    const auto value = load_from(left);
    EXPECT_TRUE(!value || value == 1U) << *value;
  });
}

// Words of a later first store, torn too, would complete it.
TEST_F(DualSlotTest, WhatACrashLeftOfAFirstStoreIsBlankedByRepair) {
  const auto image = MemorySpace::make_image(kSize);
  MemorySpace space(image);
  ASSERT_TRUE(store(space, 7).ok());
  const MemorySpace::Image whole = *image;
  std::fill(image->begin() + kSlot.second, image->begin() + kSlot.second + sizeof(Item), std::byte{0});
  std::fill_n(image->begin() + kSlot.first + offsetof(Item, more), sizeof(std::uint64_t), std::byte{0});
  ASSERT_EQ(load(space), std::nullopt);

  const Repairs repairs = repair_dual(space, kSlot, load_copies<Item>(space, kSlot, kTag));
  EXPECT_EQ(repairs.repaired, 1U);
  EXPECT_EQ(repairs.failed, 0U);
  const std::size_t word = kSlot.first + offsetof(Item, more);
  std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(word), sizeof(std::uint64_t), image->begin() + word);
  EXPECT_EQ(load(space), std::nullopt) << "the missing word alone makes an item again";
}

TEST_F(DualSlotTest, CrashInAnUpdateLeavesTheOldOrTheNewItem) {
  ASSERT_TRUE(store(space_, 1).ok());
  bool saw_old = false;
  bool saw_new = false;
  each_crash(image_, 2, [&](const Image& left) {
    const auto value = load_from(left);
    EXPECT_TRUE(value == 1U || value == 2U) << (value ? "neither" : "nothing");
    saw_old |= value == 1U;
    saw_new |= value == 2U;
  });
  EXPECT_TRUE(saw_old && saw_new) << "the crashes missed the update";
}

// After a crash the copies may differ. What was loaded then may have been acted upon: it is the old one of the next
// update, and the copy that is older still must not come back.
TEST_F(DualSlotTest, CrashInTheUpdateAfterACrashLeavesTheOldOrTheNewItem) {
  ASSERT_TRUE(store(space_, 1).ok());
  each_crash(image_, 2, [](const Image& left) {
    const auto old_value = load_from(left);
    ASSERT_TRUE(old_value);
    each_crash(left, 3, [&](const Image& left_again) {
      const auto value = load_from(left_again);
      ASSERT_TRUE(value);
      EXPECT_TRUE(value == old_value || value == 3U) << *value << " is neither " << *old_value << " nor 3";
    });
  });
}

TEST_F(DualSlotTest, UpdateAfterACrashMakesBothCopiesTheSame) {
  ASSERT_TRUE(store(space_, 1).ok());
  each_crash(image_, 2, [](const Image& left) {
    MemorySpace space(left);
    ASSERT_TRUE(store(space, 3).ok());
    for (const std::uint64_t copy : {kSlot.first, kSlot.second}) {
      MemorySpace one_copy(MemorySpace::copy_image(*left));
      one_copy.fail_reads(copy, sizeof(Item));
      EXPECT_EQ(load(one_copy), 3U);
    }
  });
}

TEST_F(DualSlotTest, EitherCopyIsEnough) {
  ASSERT_TRUE(store(space_, 1).ok());
  for (const std::uint64_t copy : {kSlot.first, kSlot.second}) {
    for (std::size_t byte = 0; byte < sizeof(Item); ++byte) {
      damage(copy, byte);
      EXPECT_EQ(load(space_), 1U) << "byte " << byte << " of the copy at " << copy << " is damaged";
      damage(copy, byte);
    }
    space_.fail_reads(copy, sizeof(Item));
    EXPECT_EQ(load(space_), 1U) << "the copy at " << copy << " is unreadable";
    space_.heal();
  }
}

TEST_F(DualSlotTest, DamageOfBothCopiesIsNoticed) {
  ASSERT_TRUE(store(space_, 1).ok());
  for (std::size_t byte = 0; byte < sizeof(Item); ++byte) {
    damage(kSlot.first, byte);
    damage(kSlot.second, sizeof(Item) - 1 - byte);
    EXPECT_FALSE(load(space_)) << "byte " << byte;
    damage(kSlot.first, byte);
    damage(kSlot.second, sizeof(Item) - 1 - byte);
  }
  space_.fail_reads(0, kSize);
  EXPECT_FALSE(load(space_));
}

TEST_F(DualSlotTest, NewerCopyCountsWhereverItIs) {
  for (const bool newer_first : {true, false}) {
    for (const std::uint64_t copy : {kSlot.first, kSlot.second}) {
      const bool newer = (copy == kSlot.first) == newer_first;
      Item item{};
      item.header.sequence = newer ? 0x100000000 : 0xffffffff;
      item.value = newer ? 2 : 1;
      item.more.fill(item.value);
      seal(item, kTag, kSlot.place);
      ASSERT_TRUE(space_.write(copy, &item, sizeof item));
    }
    EXPECT_EQ(load(space_), 2U) << (newer_first ? "first" : "second");
  }
}

TEST_F(DualSlotTest, ItemOfAnotherFormattingIsRefused) {
  ASSERT_TRUE(store(space_, 1).ok());
  EXPECT_FALSE(load(space_, kTag + 1));
}

TEST_F(DualSlotTest, ItemOfAnotherKindIsRefused) {
  ASSERT_TRUE(store(space_, 1).ok());
  EXPECT_FALSE(load<OtherItem>(space_));
}

// One copy of another item in the place of this one's is as good as none, whatever its sequence number.
TEST_F(DualSlotTest, ItemFromAnotherPlaceIsRefused) {
  ASSERT_TRUE(store(space_, 1).ok());
  for (const std::uint64_t copy : {kSlot.first, kSlot.second}) {
    const MemorySpace::Image before = *image_;
    Item item{};
    item.header.sequence = 1000;
    seal(item, kTag, kSlot.place + 1);
    ASSERT_TRUE(space_.write(copy, &item, sizeof item));
    EXPECT_EQ(load(space_), 1U);
    each_crash(image_, 2, [](const Image& left) {
      const auto found = load_from(left);
      EXPECT_TRUE(found == 1U || found == 2U);
    });
    *image_ = before;
  }
}

TEST_F(DualSlotTest, OldCopyOutlivesAMediumThatFailsInTheUpdate) {
  for (const std::uint64_t copy : {kSlot.first, kSlot.second}) {
    MemorySpace space(MemorySpace::make_image(kSize));
    ASSERT_TRUE(store(space, 1).ok());
    space.fail_writes(copy, sizeof(Item));
    const Status status = store(space, 2);
    EXPECT_EQ(status.code(), Errc::failed);
    EXPECT_NE(status.message().find(space.path()), std::string::npos) << status.message();
    const auto value = load(space);
    EXPECT_TRUE(value == 1U || value == 2U);
    space.heal();
    ASSERT_TRUE(store(space, 3).ok());
    EXPECT_EQ(load(space), 3U);
  }
}

// Loses, before each write, the copy that is going to be written and all that was not made durable.
class StrictSpace final : public MemorySpace {
 public:
  using MemorySpace::MemorySpace;

  bool write(std::size_t offset, const void* source, std::size_t length) override {
    const auto left = durable_image();
    std::fill_n(left->begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0xff});
    values.push_back(load(MemorySpace(left)));
    return MemorySpace::write(offset, source, length);
  }

  std::vector<std::optional<std::uint64_t>> values;  // what would be loaded then
};

TEST_F(DualSlotTest, OneCopyIsDurableBeforeTheOtherIsWritten) {
  StrictSpace space(image_, Granularity::page);
  ASSERT_TRUE(store(space, 1).ok());
  EXPECT_EQ(load(MemorySpace(space.durable_image())), 1U);
  space.values.clear();
  ASSERT_TRUE(store(space, 2).ok());
  EXPECT_EQ(space.values, (std::vector<std::optional<std::uint64_t>>{1, 2}));
  EXPECT_EQ(load(MemorySpace(space.durable_image())), 2U);
}

}  // namespace
}  // namespace pcache
