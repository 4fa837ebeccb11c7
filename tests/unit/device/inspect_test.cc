#include "pcache/inspect.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "tests/unit/device/cache_file.h"

namespace pcache {
namespace {

class CheckTest : public testing::Test {
 protected:
  // What check says of the cache device, or of another file. The file must be as before.
  void check(const std::string& path) {
    const std::string before = read_file(path, 0, CacheFile::kCacheBytes);
    const std::string backing = read_file(file_.backing(), 0, CacheFile::kDeviceBytes);
    damages_.clear();
    const auto report = check_cache_dev(path, [this](const Damage& damage) { damages_.push_back(damage); });
    ASSERT_TRUE(report.ok()) << report.status().message();
    report_ = *report;
    EXPECT_EQ(report_.damages, damages_.size());
    EXPECT_TRUE(read_file(path, 0, CacheFile::kCacheBytes) == before) << "the cache device was changed";
    EXPECT_TRUE(read_file(file_.backing(), 0, CacheFile::kDeviceBytes) == backing) << "the backing was changed";
  }
  void check() { check(file_.path()); }

  // The one thing that is wrong.
  const Damage& only() {
    static const Damage kNone;
    EXPECT_EQ(damages_.size(), 1U);
    for (const Damage& damage : damages_) {
      if (damages_.size() != 1) ADD_FAILURE() << to_string(damage.kind) << " " << damage.detail;
    }
    return damages_.empty() ? kNone : damages_.front();
  }
  static ByteRange blocks(std::uint64_t first, std::uint64_t count) { return {first * kBlockSize, count * kBlockSize}; }

  CacheFile file_;
  std::vector<Damage> damages_;
  CheckReport report_;
};

TEST_F(CheckTest, ASoundCacheDeviceHasNoDamageAndStaysAsItIs) {
  file_.write_blocks(0, 20, 'x');
  file_.write_back();
  file_.write_blocks(10, 5, 'y');
  ASSERT_EQ(finish([&](Completion done) { file_.device()->discard(100 * kBlockSize, 50 * kBlockSize, done); }), 0);
  file_.unmount();
  check();
  EXPECT_TRUE(damages_.empty()) << damages_.front().detail;
  EXPECT_TRUE(report_.closed_in_order);
  EXPECT_EQ(report_.path, file_.path());
  EXPECT_EQ(report_.label, "cache");
  EXPECT_EQ(report_.size_bytes, CacheFile::kCacheBytes);
  ASSERT_EQ(report_.logic_devs.size(), 1U);
  EXPECT_EQ(report_.logic_devs[0].name, "dev");
  EXPECT_EQ(report_.logic_devs[0].size_bytes, CacheFile::kDeviceBytes);
  EXPECT_EQ(report_.logic_devs[0].dirty_bytes, 5 * kBlockSize);
  EXPECT_EQ(report_.logic_devs[0].cached_bytes, 20 * kBlockSize);
  EXPECT_FALSE(report_.logic_devs[0].failed);
}

TEST_F(CheckTest, WhatAKilledDaemonLeavesIsNoDamage) {
  file_.write_blocks(0, 20, 'x');
  const std::string copy = file_.in_dir("copy");
  std::filesystem::copy_file(file_.path(), copy);
  check(copy);
  EXPECT_TRUE(damages_.empty()) << damages_.front().detail;
  EXPECT_FALSE(report_.closed_in_order);
  EXPECT_EQ(report_.logic_devs.at(0).dirty_bytes, 20 * kBlockSize);
}

TEST_F(CheckTest, ADamagedCellOfDirtyDataIsNamedWithItsRange) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  for (const std::uint64_t block : {4, 5}) file_.damage(file_.find(block).cell_offset + 4095);
  check();
  EXPECT_EQ(only().kind, DamageKind::dirty_data);
  EXPECT_EQ(only().logic_dev, "dev");
  EXPECT_EQ(only().range, blocks(4, 2));
  EXPECT_TRUE(only().certain);
  EXPECT_TRUE(only().dirty);
  EXPECT_FALSE(only().harmless);
  EXPECT_EQ(only().cache_offset, file_.find(4).cell_offset);
}

TEST_F(CheckTest, ADamagedCellOfCleanDataIsHarmless) {
  file_.write_blocks(3, 4, 'x');
  file_.write_back();
  file_.unmount();
  file_.damage(file_.find(5).cell_offset);
  check();
  EXPECT_EQ(only().kind, DamageKind::clean_data);
  EXPECT_EQ(only().range, blocks(5, 1));
  EXPECT_FALSE(only().dirty);
  EXPECT_TRUE(only().harmless);
}

TEST_F(CheckTest, TheRangeOfTheLastBlockEndsWithTheDevice) {
  const std::uint64_t last = CacheFile::kDeviceBytes / kBlockSize;
  file_.write_blocks(last, 1, 'x');
  file_.unmount();
  file_.damage(file_.find(last).cell_offset);
  check();
  EXPECT_EQ(only().range, (ByteRange{last * kBlockSize, 512}));
}

TEST_F(CheckTest, ACellThatWasOverwrittenIsNotLookedAt) {
  file_.write_blocks(3, 1, 'x');
  file_.write_blocks(3, 1, 'y');
  file_.write_blocks(4, 1, 'y');
  file_.unmount();
  const std::uint64_t newest = file_.find(3).record_offset;
  file_.damage(file_.find(3).cell_offset - kBlockSize);  // of the slot before
  ASSERT_EQ(file_.find(3).record_offset, newest);
  check();
  EXPECT_TRUE(damages_.empty()) << damages_.front().detail;
}

TEST_F(CheckTest, ADamagedRecordOfDirtyDataIsNamedWithWhatItSeemsToBeOf) {
  for (std::uint64_t block = 3; block < 7; ++block) file_.write_blocks(block, 1, 'x');
  file_.unmount();
  const CacheFile::Place place = file_.find(4);
  file_.damage(place.record_offset + offsetof(KeyRecord, payload_crc));
  check();
  EXPECT_EQ(only().kind, DamageKind::key_record);
  EXPECT_EQ(only().logic_dev, "dev");
  EXPECT_EQ(only().range, blocks(4, 1));
  EXPECT_FALSE(only().certain);
  EXPECT_TRUE(only().dirty);
  EXPECT_EQ(only().cache_offset, place.record_offset);
  EXPECT_TRUE(report_.logic_devs.at(0).failed);
  EXPECT_NE(report_.logic_devs.at(0).detail, "");
}

TEST_F(CheckTest, OfARecordThatIsDamagedAllOverTheRangeIsNotKnown) {
  for (std::uint64_t block = 3; block < 7; ++block) file_.write_blocks(block, 1, 'x');
  file_.unmount();
  write_file(file_.path(), file_.find(4).record_offset, std::string(sizeof(KeyRecord), 'z'));
  check();
  EXPECT_EQ(only().kind, DamageKind::key_record);
  EXPECT_FALSE(only().range);
  EXPECT_TRUE(only().dirty);
}

TEST_F(CheckTest, ADamagedLastRecordIsFoundAfterAnOrderlyClose) {
  for (std::uint64_t block = 3; block < 7; ++block) file_.write_blocks(block, 1, 'x');
  file_.unmount();
  file_.damage(file_.find(6).record_offset + offsetof(KeyRecord, payload_crc));
  check();
  EXPECT_EQ(only().kind, DamageKind::key_record);
  EXPECT_EQ(only().range, blocks(6, 1));
  EXPECT_TRUE(only().dirty);
}

TEST_F(CheckTest, ADamagedRecordOfCleanDataIsHarmless) {
  for (std::uint64_t block = 3; block < 7; ++block) file_.write_blocks(block, 1, 'x');
  file_.write_back();
  file_.unmount();
  file_.damage(file_.find(4).record_offset + offsetof(KeyRecord, epoch));
  check();
  EXPECT_EQ(only().kind, DamageKind::key_record);
  EXPECT_FALSE(only().dirty);
  EXPECT_TRUE(only().harmless);
  EXPECT_FALSE(report_.logic_devs.at(0).failed);
}

TEST_F(CheckTest, ABlockThatIsRecordedAsLostIsNamed) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  file_.damage(file_.find(5).cell_offset);
  file_.mount();
  EXPECT_FALSE(file_.manager().flush("dev").ok());
  file_.unmount();
  check();
  EXPECT_EQ(only().kind, DamageKind::lost_data);
  EXPECT_EQ(only().range, blocks(5, 1));
  EXPECT_TRUE(only().dirty);
  EXPECT_EQ(report_.logic_devs.at(0).lost_bytes, kBlockSize);
}

// --- Items that exist twice

struct ItemCase {
  const char* name;
  DamageKind kind;
  DualSlot (*slot)(const CacheFile& file);
  const char* device;
};

class CheckItemTest : public CheckTest, public testing::WithParamInterface<ItemCase> {};

TEST_P(CheckItemTest, OneDamagedCopyIsHarmlessAndTheNextMountRepairsIt) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  const DualSlot slot = GetParam().slot(file_);
  for (const std::uint64_t copy : {slot.first, slot.second}) {
    file_.damage(copy + 30);
    check();
    EXPECT_EQ(only().kind, GetParam().kind);
    EXPECT_EQ(only().cache_offset, copy);
    EXPECT_EQ(only().logic_dev, GetParam().device);
    EXPECT_TRUE(only().harmless);
    EXPECT_FALSE(only().dirty);
    EXPECT_FALSE(report_.logic_devs.at(0).failed);
    file_.mount();
    EXPECT_EQ(file_.manager().status().cache_devs.at(0).repaired_copies, 1U);
    EXPECT_EQ(file_.manager().status().cache_devs.at(0).unrepaired_copies, 0U);
    file_.unmount();
    check();
    EXPECT_TRUE(damages_.empty());
  }
}

TEST_P(CheckItemTest, DamageInBothCopiesIsNot) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  file_.damage(GetParam().slot(file_));
  if (GetParam().kind == DamageKind::superblock) {
    const auto report = check_cache_dev(file_.path(), [](const Damage&) { ADD_FAILURE(); });
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.status().code(), Errc::integrity);
    return;
  }
  check();
  ASSERT_FALSE(damages_.empty());
  EXPECT_EQ(damages_[0].kind, GetParam().kind);
  EXPECT_FALSE(damages_[0].harmless);
  EXPECT_TRUE(damages_[0].dirty);
  if (GetParam().kind == DamageKind::device_record) {
    EXPECT_TRUE(report_.logic_devs.empty());
  } else {
    EXPECT_TRUE(report_.logic_devs.at(0).failed);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Items, CheckItemTest,
    testing::Values(
        ItemCase{"superblock", DamageKind::superblock, [](const CacheFile&) { return kSuperblockSlot; }, ""},
        ItemCase{"device_record", DamageKind::device_record,
                 [](const CacheFile& file) { return device_record_slot(file.geometry(), 0); }, "dev"},
        ItemCase{"device_state", DamageKind::device_state,
                 [](const CacheFile& file) { return device_state_slot(file.geometry(), 0); }, "dev"},
        ItemCase{"segment_entry", DamageKind::segment_entry,
                 [](const CacheFile& file) { return segment_entry_slot(file.geometry(), file.find(3).segment); },
                 "dev"}),
    [](const auto& param) { return param.param.name; });

// What was stored once only may be blank in its second copy: a crash in that update left it so.
TEST_F(CheckTest, ACopyThatWasWipedIsDamaged) {
  file_.unmount();
  const DualSlot state = device_state_slot(file_.geometry(), 0);
  for (const std::uint64_t copy : {state.first, state.second}) {
    const std::string content = read_file(file_.path(), copy, kRecordSize);
    write_file(file_.path(), copy, std::string(kRecordSize, '\0'));
    check();
    EXPECT_EQ(only().kind, DamageKind::device_state);
    EXPECT_EQ(only().cache_offset, copy);
    write_file(file_.path(), copy, content);
  }
}

TEST_F(CheckTest, OfASegmentWhoseEntryIsDamagedTheRecordsSayWhatItHolds) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  file_.damage(segment_entry_slot(file_.geometry(), file_.find(3).segment));
  check();
  bool named = false;
  for (const Damage& damage : damages_) {
    if (damage.kind != DamageKind::segment_entry || damage.logic_dev != "dev") continue;
    EXPECT_EQ(damage.range, blocks(3, 4));
    EXPECT_FALSE(damage.certain);
    EXPECT_TRUE(damage.dirty);
    named = true;
  }
  EXPECT_TRUE(named);
}

TEST_F(CheckTest, ADamagedEntryOfASegmentThatWasNeverUsedIsHarmless) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  const std::uint32_t unused = file_.geometry().segment_count - 1;
  ASSERT_NE(file_.find(3).segment, unused);
  file_.damage(segment_entry_slot(file_.geometry(), unused));
  check();
  EXPECT_EQ(only().kind, DamageKind::segment_entry);
  EXPECT_TRUE(only().harmless);
  EXPECT_FALSE(report_.logic_devs.at(0).failed);
  file_.mount();
  EXPECT_EQ(file_.manager().status().logic_devs.at(0).state, "running");
  EXPECT_EQ(read_from(*file_.device(), 3 * kBlockSize, 4 * kBlockSize), std::string(4 * kBlockSize, 'x'));
}

// --- Refusals

TEST_F(CheckTest, WhatIsMountedIsBusy) {
  const auto report = check_cache_dev(file_.path(), [](const Damage&) { ADD_FAILURE(); });
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), Errc::busy);
}

TEST_F(CheckTest, WhatIsNoCacheDeviceIsRefused) {
  const auto code = [](const std::string& path) {
    return check_cache_dev(path, [](const Damage&) { ADD_FAILURE(); }).status().code();
  };
  EXPECT_EQ(code(file_.in_dir("none")), Errc::not_found);
  EXPECT_EQ(code(file_.backing()), Errc::invalid);
  EXPECT_EQ(code("/dev/null"), Errc::invalid);
}

TEST_F(CheckTest, ItTakesNoRightToWrite) {
  file_.write_blocks(3, 4, 'x');
  file_.unmount();
  std::filesystem::permissions(file_.path(), std::filesystem::perms::owner_read);
  check();
  EXPECT_TRUE(damages_.empty());
}

}  // namespace
}  // namespace pcache
