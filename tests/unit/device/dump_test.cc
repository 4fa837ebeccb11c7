#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "pcache/inspect.h"
#include "tests/unit/device/cache_file.h"

namespace pcache {
namespace {

const CopyWords kBothGood = {"good", "good"};

class DumpTest : public testing::Test {
 protected:
  void dump() {
    const std::string before = file_.content();
    superblocks_.clear();
    devices_.clear();
    segments_.clear();
    records_.clear();
    const Status status =
        dump_cache_dev(file_.path(), {[this](const DumpedSuperblock& s) { superblocks_.push_back(s); },
                                      [this](const DumpedDevice& d) { devices_.push_back(d); },
                                      [this](const DumpedSegment& s) {
                                        segments_.push_back(s);
                                        EXPECT_TRUE(records_.empty()) << "records come last";
                                      },
                                      [this](const DumpedRecord& r) { records_.push_back(r); }});
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(file_.content() == before) << "the cache device was changed";
    ASSERT_EQ(superblocks_.size(), 1U);
  }

  CacheFile file_;
  std::vector<DumpedSuperblock> superblocks_;
  std::vector<DumpedDevice> devices_;
  std::vector<DumpedSegment> segments_;
  std::vector<DumpedRecord> records_;
};

TEST_F(DumpTest, TellsWhatIsStored) {
  file_.write_blocks(3, 2, 'x');
  file_.write_back();
  ASSERT_EQ(finish([&](Completion done) { file_.device()->discard(0, 2 * kBlockSize, done); }), 0);
  file_.write_blocks(4, 1, 'y');
  file_.unmount();
  dump();
  const DumpedSuperblock& superblock = superblocks_[0];
  EXPECT_EQ(superblock.path, file_.path());
  EXPECT_EQ(superblock.copies, kBothGood);
  EXPECT_EQ(superblock.label, "cache");
  EXPECT_EQ(superblock.size_bytes, CacheFile::kCacheBytes);
  EXPECT_EQ(superblock.segments, file_.geometry().segment_count);
  EXPECT_EQ(superblock.first_segment, file_.geometry().first_segment);
  EXPECT_EQ(superblock.next_device_id, 2U);

  ASSERT_EQ(devices_.size(), 1U);
  EXPECT_TRUE(devices_[0].usable);
  EXPECT_EQ(devices_[0].device_id, 1U);
  EXPECT_EQ(devices_[0].name, "dev");
  EXPECT_EQ(devices_[0].size_bytes, CacheFile::kDeviceBytes);
  EXPECT_EQ(devices_[0].backing_path, std::filesystem::canonical(file_.backing()).string());
  EXPECT_EQ(devices_[0].state_copies, kBothGood);
  ASSERT_TRUE(devices_[0].clean_epoch);
  EXPECT_EQ(devices_[0].closed_lsns, records_.size());

  ASSERT_FALSE(segments_.empty());
  for (const DumpedSegment& segment : segments_) {
    EXPECT_TRUE(segment.usable && segment.in_use);
    EXPECT_EQ(segment.device_id, 1U);
    EXPECT_EQ(segment.generation, 1U);
    EXPECT_EQ(segment.offset, file_.geometry().segment_offset(segment.segment));
  }
  std::vector<std::string> types;
  for (const DumpedRecord& record : records_) {
    EXPECT_TRUE(record.valid);
    types.push_back(record.type);
    const bool dirty = record.epoch > *devices_[0].clean_epoch;
    const bool newest = record.block == 4 && record.lsn == file_.find(4).record.lsn;
    EXPECT_EQ(dirty, record.type == "zero" || newest) << "lsn " << record.lsn;
    if (record.type == "zero") {
      EXPECT_EQ(record.block, 0U);
      EXPECT_EQ(record.count, 2U);
    }
  }
  EXPECT_EQ(std::count(types.begin(), types.end(), "write"), 3);
  EXPECT_EQ(std::count(types.begin(), types.end(), "zero"), 1);
}

TEST_F(DumpTest, ShowsDamageAndGoesOn) {
  file_.write_blocks(3, 3, 'x');
  file_.unmount();
  const CacheFile::Place place = file_.find(4);
  file_.damage(place.record_offset + offsetof(KeyRecord, epoch));
  file_.damage(kSuperblockSlot.second + 100);
  file_.damage(device_state_slot(file_.geometry(), 0));
  file_.damage(device_record_slot(file_.geometry(), 0).first + 50);
  dump();
  EXPECT_EQ(superblocks_[0].copies, (CopyWords{"good", "damaged"}));
  ASSERT_EQ(devices_.size(), 1U);
  EXPECT_EQ(devices_[0].copies, (CopyWords{"damaged", "good"}));
  EXPECT_EQ(devices_[0].state_copies, (CopyWords{"damaged", "damaged"}));
  EXPECT_FALSE(devices_[0].clean_epoch);
  ASSERT_EQ(records_.size(), 3U);
  for (const DumpedRecord& record : records_) EXPECT_EQ(record.valid, record.offset != place.record_offset);

  file_.damage(segment_entry_slot(file_.geometry(), place.segment));
  dump();
  ASSERT_EQ(segments_.size(), 1U);
  EXPECT_FALSE(segments_[0].usable);
  EXPECT_TRUE(records_.empty()) << "whose they are is not known";
}

TEST_F(DumpTest, AFreeSegmentsRecordsAndEarlierLivesAreLeftOut) {
  file_.write_blocks(3, 3, 'x');
  ASSERT_TRUE(file_.manager().remove("dev").ok());
  file_.unmount();
  dump();
  ASSERT_EQ(devices_.size(), 1U);
  EXPECT_EQ(devices_[0].device_id, 0U);
  ASSERT_FALSE(segments_.empty());
  for (const DumpedSegment& segment : segments_) EXPECT_FALSE(segment.in_use);
  EXPECT_TRUE(records_.empty());

  file_.mount();
  ASSERT_TRUE(file_.manager().add("dev", file_.backing(), {}).ok());
  file_.write_blocks(3, 1, 'y');
  file_.unmount();
  dump();
  ASSERT_EQ(records_.size(), 1U);
  EXPECT_EQ(records_[0].generation, 2U);
  EXPECT_EQ(records_[0].device_id, 2U);
}

TEST_F(DumpTest, WhatIsMountedIsBusy) { EXPECT_EQ(dump_cache_dev(file_.path(), {}).code(), Errc::busy); }

}  // namespace
}  // namespace pcache
