#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <vector>

#include "pcache/inspect.h"
#include "tests/unit/device/cache_file.h"

namespace pcache {
namespace {

class SalvageTest : public testing::Test {
 protected:
  // The whole logical device, while it is mounted.
  std::string mounted() { return read_from(*file_.device(), 0, CacheFile::kDeviceBytes); }

  // Dirty and clean data, a discard, and the last block; then what the device reads as, and all is unmounted.
  void prepare() {
    file_.write_blocks(10, 10, 'c');
    file_.write_back();
    file_.write_blocks(15, 3, 'd');
    file_.write_blocks(300, 40, 'e');
    ASSERT_EQ(finish([&](Completion done) { file_.device()->discard(500 * kBlockSize, 100 * kBlockSize, done); }), 0);
    file_.write_blocks(kLastBlock, 1, 'f');
    expected_ = mounted();
    file_.unmount();
  }

  // Cache and backing must be as before.
  Result<SalvageReport> try_salvage(const std::string& backing = "") {
    const std::string cache_before = file_.content();
    const auto backing_before = backing_content();
    damages_.clear();
    const auto report = salvage_logic_dev(file_.path(), "dev", {image(), backing},
                                          [this](const Damage& damage) { damages_.push_back(damage); });
    EXPECT_TRUE(file_.content() == cache_before) << "the cache device was changed";
    EXPECT_TRUE(backing_content() == backing_before) << "the backing was changed";
    EXPECT_TRUE(!report.ok() || report->damages == damages_.size());
    return report;
  }
  // The image.
  std::string salvage(const std::string& backing = "") {
    const auto report = try_salvage(backing);
    if (!report.ok()) return "(" + report.status().message() + ")";
    report_ = *report;
    const std::string content = read_file(image(), 0, CacheFile::kDeviceBytes + 1);
    EXPECT_EQ(content.size(), CacheFile::kDeviceBytes);
    std::filesystem::remove(image());
    return content;
  }
  // Compared like this, a difference does not print megabytes.
  static testing::AssertionResult same(const std::string& a, const std::string& b) {
    if (a == b) return testing::AssertionSuccess();
    const auto at = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    return testing::AssertionFailure() << "of " << a.size() << " and " << b.size()
                                       << " bytes the first difference is at " << at.first - a.begin()
                                       << "; it begins with " << a.substr(0, 100);
  }
  std::string with_zeroes(std::uint64_t first, std::uint64_t count) const {
    std::string content = expected_;
    content.replace(first * kBlockSize, count * kBlockSize, count * kBlockSize, '\0');
    return content;
  }
  std::optional<std::string> backing_content() const {
    if (!std::filesystem::exists(file_.backing())) return std::nullopt;
    return read_file(file_.backing(), 0, 2 * CacheFile::kDeviceBytes);
  }
  std::string image() const { return file_.in_dir("image"); }

  static constexpr std::uint64_t kLastBlock = CacheFile::kDeviceBytes / kBlockSize;

  CacheFile file_;
  std::string expected_;
  std::vector<Damage> damages_;
  SalvageReport report_;
};

TEST_F(SalvageTest, TheImageIsWhatTheLogicalDeviceReadAs) {
  prepare();
  EXPECT_TRUE(same(salvage(), expected_));
  EXPECT_TRUE(damages_.empty());
  EXPECT_EQ(report_.size_bytes, CacheFile::kDeviceBytes);
  EXPECT_EQ(report_.dirty_bytes, (3 + 40 + 100) * kBlockSize + 512);
  EXPECT_EQ(report_.missing_bytes, 0U);
  EXPECT_EQ(report_.backing, std::filesystem::canonical(file_.backing()).string());
}

TEST_F(SalvageTest, BlocksOfZeroesAreHoles) {
  file_.unmount();
  make_file(file_.backing(), CacheFile::kDeviceBytes);
  ASSERT_TRUE(try_salvage(file_.backing()).ok());
  EXPECT_EQ(stat_of(image()).st_size, static_cast<off_t>(CacheFile::kDeviceBytes));
  EXPECT_LT(stat_of(image()).st_blocks, 64);
}

TEST_F(SalvageTest, DirtyDataThatIsDamagedIsNamedAndReadsAsZeroes) {
  prepare();
  for (const std::uint64_t block : {310, 311, 313}) file_.damage(file_.find(block).cell_offset + 7);
  std::string expected = with_zeroes(310, 2);
  expected.replace(313 * kBlockSize, kBlockSize, kBlockSize, '\0');
  EXPECT_TRUE(same(salvage(), expected));
  ASSERT_EQ(damages_.size(), 2U);
  EXPECT_EQ(damages_[0].kind, DamageKind::dirty_data);
  EXPECT_EQ(damages_[0].range, (ByteRange{310 * kBlockSize, 2 * kBlockSize}));
  EXPECT_EQ(damages_[1].range, (ByteRange{313 * kBlockSize, kBlockSize}));
  EXPECT_TRUE(damages_[0].dirty && damages_[0].certain);
  EXPECT_EQ(report_.missing_bytes, 3 * kBlockSize);
}

TEST_F(SalvageTest, DamagedCleanDataComesFromTheBacking) {
  prepare();
  file_.damage(file_.find(12).cell_offset);
  EXPECT_TRUE(same(salvage(), expected_));
  EXPECT_TRUE(damages_.empty());
}

// A failed device gives EIO to everything; here all but what the damaged record was of is got.
TEST_F(SalvageTest, AFailedDeviceGivesAllButWhatItsDamagedRecordsWereOf) {
  prepare();
  file_.damage(file_.find(310).record_offset + offsetof(KeyRecord, payload_crc));
  std::string expected = expected_;
  expected.replace(310 * kBlockSize, kBlockSize, kBlockSize, 'b');  // older than it should be
  EXPECT_TRUE(same(salvage(), expected));
  ASSERT_EQ(damages_.size(), 1U);
  EXPECT_EQ(damages_[0].kind, DamageKind::key_record);
  EXPECT_EQ(damages_[0].range, (ByteRange{310 * kBlockSize, kBlockSize}));
  EXPECT_FALSE(damages_[0].certain);
  EXPECT_EQ(report_.missing_bytes, 0U);
  file_.mount();
  EXPECT_EQ(file_.manager().status().logic_devs.at(0).state, "failed");
}

TEST_F(SalvageTest, ADeviceWithoutItsDirtyTailGivesEverything) {
  prepare();
  file_.damage(device_state_slot(file_.geometry(), 0));
  EXPECT_TRUE(same(salvage(), expected_));
  EXPECT_TRUE(damages_.empty()) << damages_.front().detail;
}

// On a failed device damage may hide that cached clean data is old; the backing is right about it.
TEST_F(SalvageTest, CleanDataIsTakenFromTheBackingOfAFailedDevice) {
  file_.write_blocks(10, 1, 'o');
  file_.write_back();
  file_.write_blocks(10, 1, 'n');
  file_.write_back();
  file_.write_blocks(20, 1, 'd');
  expected_ = mounted();
  file_.unmount();
  file_.damage(file_.find(10).record_offset + offsetof(KeyRecord, payload_crc));
  EXPECT_TRUE(same(salvage(), expected_));
  EXPECT_EQ(damages_.size(), 1U);
}

TEST_F(SalvageTest, ALostBlockIsMissing) {
  prepare();
  file_.damage(file_.find(310).cell_offset);
  file_.mount();
  EXPECT_FALSE(file_.manager().flush("dev").ok());
  file_.unmount();
  EXPECT_TRUE(same(salvage(), with_zeroes(310, 1)));
  ASSERT_EQ(damages_.size(), 1U);
  EXPECT_EQ(damages_[0].kind, DamageKind::lost_data);
}

TEST_F(SalvageTest, DataOfASegmentWithoutAnEntryIsNamed) {
  file_.write_blocks(10, 4, 'd');
  file_.unmount();
  file_.damage(segment_entry_slot(file_.geometry(), file_.find(10).segment));
  ASSERT_TRUE(same(salvage(), std::string(CacheFile::kDeviceBytes, 'b')));
  bool named = false;
  for (const Damage& damage : damages_) named |= damage.range == ByteRange{10 * kBlockSize, 4 * kBlockSize};
  EXPECT_TRUE(named);
}

// --- The backing

TEST_F(SalvageTest, WithoutTheBackingTheImageHasWhatIsCached) {
  file_.write_blocks(10, 10, 'c');
  file_.write_back();
  file_.write_blocks(15, 3, 'd');
  expected_ = mounted();  // caches everything
  file_.write_blocks(16, 1, 'e');
  expected_.replace(16 * kBlockSize, kBlockSize, kBlockSize, 'e');
  file_.unmount();
  file_.damage(file_.find(100).cell_offset);
  file_.damage(file_.find(kLastBlock).cell_offset);
  std::filesystem::rename(file_.backing(), file_.in_dir("moved"));
  std::string expected = with_zeroes(100, 1);
  expected.replace(kLastBlock * kBlockSize, 512, 512, '\0');
  EXPECT_TRUE(same(salvage(), expected));
  EXPECT_EQ(report_.backing, "");
  EXPECT_NE(report_.backing_detail, "");
  ASSERT_EQ(damages_.size(), 2U);
  EXPECT_EQ(damages_[0].kind, DamageKind::backing);
  EXPECT_EQ(damages_[0].range, (ByteRange{100 * kBlockSize, kBlockSize}));
  EXPECT_FALSE(damages_[0].dirty);
  EXPECT_EQ(damages_[1].range, (ByteRange{kLastBlock * kBlockSize, 512}));
  EXPECT_EQ(report_.missing_bytes, kBlockSize + 512);

  EXPECT_TRUE(same(salvage(file_.in_dir("moved")), expected_)) << "that is where it is now";
  EXPECT_TRUE(damages_.empty());
}

TEST_F(SalvageTest, AnotherBackingInItsPlaceIsNotTakenUnlessItIsNamed) {
  prepare();
  std::filesystem::rename(file_.backing(), file_.in_dir("moved"));
  std::filesystem::copy_file(file_.in_dir("moved"), file_.backing());
  EXPECT_TRUE(same(salvage(), expected_)) << "all of it is cached";
  EXPECT_EQ(report_.backing, "");
  EXPECT_NE(report_.backing_detail.find("another device"), std::string::npos) << report_.backing_detail;
  EXPECT_TRUE(same(salvage(file_.backing()), expected_));
}

// --- Refusals, which leave no image

TEST_F(SalvageTest, WhatIsRefusedLeavesNoImage) {
  EXPECT_EQ(try_salvage().status().code(), Errc::busy) << "it is mounted";
  file_.unmount();
  EXPECT_EQ(salvage_logic_dev(file_.path(), "none", {image(), ""}, {}).status().code(), Errc::not_found);
  EXPECT_EQ(salvage_logic_dev(file_.in_dir("none"), "dev", {image(), ""}, {}).status().code(), Errc::not_found);
  EXPECT_EQ(try_salvage(file_.in_dir("none")).status().code(), Errc::not_found);
  make_file(file_.in_dir("small"), 1 << 20);
  EXPECT_EQ(try_salvage(file_.in_dir("small")).status().code(), Errc::invalid);
  EXPECT_FALSE(std::filesystem::exists(image()));
  EXPECT_EQ(salvage_logic_dev(file_.path(), "dev", {file_.in_dir("none/image"), ""}, {}).status().code(),
            Errc::not_found);
}

TEST_F(SalvageTest, AFileThatExistsIsLeftAlone) {
  file_.unmount();
  make_file(image(), 1000, 'i');
  EXPECT_EQ(try_salvage().status().code(), Errc::busy);
  EXPECT_EQ(read_file(image(), 0, 2000), std::string(1000, 'i'));
  std::filesystem::remove(image());
  std::filesystem::create_symlink(file_.in_dir("elsewhere"), image());
  EXPECT_EQ(try_salvage().status().code(), Errc::busy);
  EXPECT_FALSE(std::filesystem::exists(file_.in_dir("elsewhere")));
}

}  // namespace
}  // namespace pcache
