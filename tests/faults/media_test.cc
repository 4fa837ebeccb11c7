// Media errors at run time, on a real mapping: pages that are poisoned (userfaultfd), and a file that is truncated.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "cache/cache.h"
#include "pcache/device_manager.h"
#include "pcache/pmem_space.h"
#include "tests/support/fake_backing_dev.h"
#include "tests/support/stored.h"
#include "tests/support/temp_dir.h"

#ifndef UFFDIO_POISON
// From Linux 6.6 on; as in its linux/userfaultfd.h.
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

namespace pcache {
namespace {

constexpr std::uint64_t kDeviceBlocks = 4096;

// Makes pages of a mapping of a tmpfs file answer every access with SIGBUS, as broken memory does.
class Poison {
 public:
  // Empty, or why there is no such thing here.
  std::string open(const std::byte* base, std::size_t size) {
    fd_.reset(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
    if (!fd_) return std::string("userfaultfd: ") + std::strerror(errno);
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_POISON;
    if (ioctl(fd_.get(), UFFDIO_API, &api) != 0) return "userfaultfd cannot poison before Linux 6.6";
    uffdio_register registration{};
    registration.range = {reinterpret_cast<std::uintptr_t>(base), size};
    registration.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(fd_.get(), UFFDIO_REGISTER, &registration) != 0)
      return std::string("UFFDIO_REGISTER: ") + strerror(errno);
    base_ = base;
    return "";
  }

  void page(std::uint64_t offset) {
    const auto address = reinterpret_cast<std::uintptr_t>(base_) + align_down(offset, kBlockSize);
    ASSERT_EQ(madvise(reinterpret_cast<void*>(address), kBlockSize, MADV_DONTNEED), 0);
    uffdio_poison poison{};
    poison.range = {address, kBlockSize};
    ASSERT_EQ(ioctl(fd_.get(), UFFDIO_POISON, &poison), 0) << std::strerror(errno);
  }

 private:
  UniqueFd fd_;
  const std::byte* base_ = nullptr;
};

// An engine on a file that is mapped, stepped by hand.
class MappedMedia : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { setenv("PMEM2_FORCE_GRANULARITY", GetParam(), 1); }
  void TearDown() override {
    close();
    unsetenv("PMEM2_FORCE_GRANULARITY");
  }

  void make(std::uint64_t bytes) {
    close();
    FormatOptions options;
    options.size_bytes = bytes;
    options.segment_size_bytes = 256 << 10;
    options.force = options.discard_dirty = true;
    const Status made = format_cache_dev(path_, options);
    ASSERT_TRUE(made.ok()) << made.message();
    image_ = std::make_shared<BackingImage>(kDeviceBlocks * kBlockSize);
    put(image_->current, 0, blocks_of(0, kDeviceBlocks, 1));
    image_->durable = image_->current;
    open();
  }
  // With pages that are bad from the beginning.
  void open(Poison* poison = nullptr, const std::vector<std::uint64_t>& bad = {}) {
    auto space = open_pmem_space(path_);
    ASSERT_TRUE(space.ok()) << space.status().message();
    if (poison != nullptr) {
      ASSERT_EQ(poison->open((*space)->base(), (*space)->size()), "");
      for (const std::uint64_t offset : bad) ASSERT_NO_FATAL_FAILURE(poison->page(offset));
    }
    auto cache_dev = CacheDev::open(std::move(*space));
    ASSERT_TRUE(cache_dev.ok()) << cache_dev.status().message();
    auto cache = Cache::open(std::move(*cache_dev), {});
    ASSERT_TRUE(cache.ok()) << cache.status().message();
    cache_ = std::move(*cache);
    const auto held = cache_->cache_dev().devices();
    auto backing = std::make_unique<FakeBackingDev>(image_);
    auto device = held.empty() ? cache_->add("dev", std::move(backing)) : cache_->attach(held[0], std::move(backing));
    ASSERT_TRUE(device.ok()) << device.status().message();
    device_ = *device;
  }
  void close() {
    device_.reset();
    cache_.reset();
  }

  // Steps the engine until the operation has completed. -1: that leads nowhere.
  template <typename Start>
  int run(Start start) {
    Outcome outcome;
    start(outcome.completion());
    while (!outcome.done) {
      bool progress = device_->writeback_step();
      if (!progress && cache_->commit({device_.get()}).ok()) progress = device_->writeback_step();
      while (cache_->reclaim_step()) progress = true;
      if (!progress && !outcome.done) {
        ADD_FAILURE() << "an operation waits for ever";
        std::abort();  // it would complete into this frame
      }
    }
    return outcome.error;
  }
  int write(std::uint64_t block, std::uint64_t count, std::uint64_t version) {
    const Bytes bytes = blocks_of(block, count, version);
    return run([&](Completion done) { device_->write(block * kBlockSize, bytes, done); });
  }
  int read(std::uint64_t block, Bytes& bytes) {
    bytes.assign(kBlockSize, std::byte{0xa5});
    return run([&](Completion done) { device_->read(block * kBlockSize, bytes, done); });
  }
  void expect_blocks(std::uint64_t first, std::uint64_t end, std::uint64_t version) {
    Bytes bytes;
    for (std::uint64_t block = first; block < end; ++block) {
      ASSERT_EQ(read(block, bytes), 0) << "block " << block;
      ASSERT_TRUE(bytes == blocks_of(block, 1, version)) << "block " << block;
    }
  }

  // Where the cell of each block is; the newest.
  std::vector<std::uint64_t> cells() {
    const Geometry& g = cache_->cache_dev().geometry();
    std::vector<std::uint64_t> offsets(kDeviceBlocks);
    std::vector<std::uint64_t> lsns(kDeviceBlocks);
    for (const auto& [id, entry] : cache_->pool().in_use()) {
      for (std::uint32_t slot = 0; slot < g.slots_per_segment; ++slot) {
        KeyRecord record;
        if (!cache_->cache_dev().space().read(g.record_offset(id, slot), &record, sizeof record)) continue;
        if (record.crc != record_crc(record) || record.generation != entry.generation) continue;
        if (record.type != RecordType::write && record.type != RecordType::clean) continue;
        if (offsets[record.block] != 0 && record.lsn < lsns[record.block]) continue;
        offsets[record.block] = g.cell_offset(id, slot);
        lsns[record.block] = record.lsn;
      }
    }
    return offsets;
  }

  std::string open_poison(Poison& poison) {
    const PmemSpace& space = cache_->cache_dev().space();
    return poison.open(space.base(), space.size());
  }

  TempDir dir_{"/dev/shm"};
  const std::string path_ = dir_ / "cache";
  std::shared_ptr<BackingImage> image_;
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<CachedDevice> device_;
};

TEST_P(MappedMedia, AThousandBadPagesCostNoCleanBlockAndOnlyTheirOwnDirtyOnes) {
  make(24 << 20);
  Poison poison;
  if (const std::string why = open_poison(poison); !why.empty()) GTEST_SKIP() << why;
  constexpr std::uint64_t kEnd = 2000;  // the first half is clean, the second dirty
  ASSERT_EQ(write(0, kEnd / 2, 2), 0);
  ASSERT_EQ(device_->drain(0), 0);
  ASSERT_EQ(write(kEnd / 2, kEnd / 2, 2), 0);
  const auto cell = cells();
  std::vector<std::uint64_t> shuffled(kEnd / 2);
  for (std::uint64_t i = 0; i < shuffled.size(); ++i) shuffled[i] = i;
  std::mt19937_64 random(1);
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  std::set<std::uint64_t> bad;
  for (std::uint64_t i = 0; i < 500; ++i) {
    for (const std::uint64_t block : {shuffled[i], kEnd / 2 + shuffled[i]}) {
      bad.insert(block);
      ASSERT_NE(cell[block], 0U);
      ASSERT_NO_FATAL_FAILURE(poison.page(cell[block]));
    }
  }

  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, kEnd / 2, 2));
  const std::uint64_t misses = device_->stats().read_misses;
  EXPECT_EQ(misses, 500U) << "what was bad came from the backing";
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, kEnd / 2, 2));
  EXPECT_EQ(device_->stats().read_misses, misses) << "and is cached again, elsewhere";

  Bytes bytes;
  for (std::uint64_t block = kEnd / 2; block < kEnd; ++block) {
    const int error = read(block, bytes);
    ASSERT_EQ(error, bad.count(block) != 0 ? EIO : 0) << "block " << block;
    ASSERT_TRUE(error != 0 || bytes == blocks_of(block, 1, 2)) << "block " << block;
  }
  EXPECT_EQ(device_->drain(0), EIO);
  const LogicDevStats stats = device_->stats();
  EXPECT_EQ(stats.dirty_bytes, 0U) << "all else is written back";
  EXPECT_EQ(stats.lost_bytes, 500 * kBlockSize);
  EXPECT_FALSE(stats.lost_ranges.empty());
  for (const ByteRange& range : stats.lost_ranges) {
    for (std::uint64_t at = range.offset; at < range.offset + range.length; at += kBlockSize) {
      EXPECT_EQ(bad.count(at / kBlockSize), 1U) << "block " << at / kBlockSize << " is not lost";
    }
  }
  for (std::uint64_t block = kEnd / 2; block < kEnd; ++block) {
    const std::uint64_t version = bad.count(block) != 0 ? 1 : 2;
    ASSERT_TRUE(part(image_->durable, block * kBlockSize, kBlockSize) == blocks_of(block, 1, version));
    ASSERT_EQ(read(block, bytes), bad.count(block) != 0 ? EIO : 0);
  }

  // Until all segments were used again: the bad cells are left out.
  for (std::uint64_t version = 3; version < 12; ++version) ASSERT_EQ(write(0, kEnd, version), 0) << version;
  EXPECT_GE(device_->stats().bad_cells, 1000U);
  EXPECT_EQ(device_->stats().lost_bytes, 0U);
  EXPECT_TRUE(device_->stats().lost_ranges.empty());
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, kEnd, 11));
  EXPECT_EQ(device_->drain(0), 0);
  close();
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_FALSE(device_->failed()) << device_->stats().detail;
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, kEnd, 11));
}

TEST_P(MappedMedia, CellsThatAreBadWhenItIsOpenedAreNoMoreThanThat) {
  make(5 << 20);
  {
    Poison poison;
    if (const std::string why = open_poison(poison); !why.empty()) GTEST_SKIP() << why;
  }
  ASSERT_EQ(write(0, 100, 2), 0);
  ASSERT_EQ(device_->drain(0), 0);
  ASSERT_EQ(write(100, 100, 2), 0);
  const auto cell = cells();
  std::vector<std::uint64_t> bad;
  for (std::uint64_t i = 0; i < 10; ++i) {
    for (const std::uint64_t block : {i, 100 + i}) {
      ASSERT_NE(cell[block], 0U);
      bad.push_back(cell[block]);
    }
  }
  close();
  Poison poison;
  ASSERT_NO_FATAL_FAILURE(open(&poison, bad));
  EXPECT_FALSE(device_->failed()) << device_->stats().detail;
  EXPECT_EQ(device_->dirty_bytes(), 100 * kBlockSize);
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 100, 2));
  Bytes bytes;
  for (std::uint64_t block = 100; block < 110; ++block) EXPECT_EQ(read(block, bytes), EIO) << "block " << block;
  ASSERT_NO_FATAL_FAILURE(expect_blocks(110, 200, 2));
  EXPECT_EQ(device_->drain(0), EIO);
  EXPECT_EQ(device_->stats().lost_ranges, (std::vector<ByteRange>{{100 * kBlockSize, 10 * kBlockSize}}));
  close();
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_EQ(device_->stats().lost_ranges, (std::vector<ByteRange>{{100 * kBlockSize, 10 * kBlockSize}}));
  ASSERT_EQ(write(100, 10, 3), 0);
  EXPECT_TRUE(device_->stats().lost_ranges.empty());
  ASSERT_NO_FATAL_FAILURE(expect_blocks(100, 110, 3));
  EXPECT_EQ(device_->drain(0), 0);
}

TEST_P(MappedMedia, ARecordPageThatIsBadFailsWritesOnly) {
  make(5 << 20);
  Poison poison;
  if (const std::string why = open_poison(poison); !why.empty()) GTEST_SKIP() << why;
  ASSERT_EQ(write(0, 10, 2), 0);
  for (const auto& [id, entry] : cache_->pool().in_use()) {
    ASSERT_NO_FATAL_FAILURE(poison.page(cache_->cache_dev().geometry().record_offset(id, 0)));
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(write(0, 10, 3), EIO);
    ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 10, 2));
  }
  EXPECT_EQ(device_->drain(0), 0);
  EXPECT_TRUE(part(image_->durable, 0, 10 * kBlockSize) == blocks_of(0, 10, 2));
  close();
  ASSERT_NO_FATAL_FAILURE(open());  // another mapping, where the page is as it was left
  EXPECT_FALSE(device_->failed()) << device_->stats().detail;
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 10, 2));
  ASSERT_EQ(write(0, 10, 3), 0);
  ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 10, 3));
}

// Each page before the segments, and each together with its copy. What cannot be recorded is refused; what was there
// before stays.
TEST_P(MappedMedia, ABadPageOfMetadataLosesNothing) {
  make(5 << 20);
  const Geometry g = cache_->cache_dev().geometry();
  struct Area {
    std::uint64_t begin, end, copy;
  };
  const Area areas[] = {{0, kMediaPage, kMediaPage},
                        {g.device_records, g.device_records + 2 * kMediaPage, g.device_records_copy},
                        {g.device_states, g.device_states_copy, g.device_states_copy},
                        {g.segment_table, g.segment_table_copy, g.segment_table_copy}};
  for (const Area& area : areas) {
    for (std::uint64_t page = area.begin; page < area.end; page += kMediaPage) {
      const std::uint64_t copy = area.copy + (page - area.begin);
      for (const std::vector<std::uint64_t>& bad : {std::vector{page}, std::vector{copy}, std::vector{page, copy}}) {
        SCOPED_TRACE("pages at " + std::to_string(bad.front()) + (bad.size() == 2 ? " and its copy" : ""));
        make(5 << 20);
        Poison poison;
        if (const std::string why = open_poison(poison); !why.empty()) GTEST_SKIP() << why;
        ASSERT_EQ(write(0, 40, 2), 0);
        for (const std::uint64_t offset : bad) ASSERT_NO_FATAL_FAILURE(poison.page(offset));
        ASSERT_EQ(write(40, 10, 2), 0) << "there is room in the head";
        ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 50, 2));
        const int error = device_->drain(0);
        if (error != 0) {
          EXPECT_EQ(device_->dirty_bytes(), 50 * kBlockSize);
          EXPECT_NE(device_->stats().detail.find(path_), std::string::npos) << device_->stats().detail;
        }
        // Needs another segment.
        const int wrote = write(100, 60, 3);
        EXPECT_TRUE(wrote == 0 || wrote == EIO) << wrote;
        ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 50, 2));
        close();
        ASSERT_NO_FATAL_FAILURE(open());  // another mapping, where the pages are as they were left
        EXPECT_FALSE(device_->failed()) << device_->stats().detail;
        ASSERT_NO_FATAL_FAILURE(expect_blocks(0, 50, 2));
        if (wrote == 0) {
          ASSERT_NO_FATAL_FAILURE(expect_blocks(100, 160, 3));
        }
        EXPECT_EQ(device_->drain(0), 0);
      }
    }
  }
}

TEST_P(MappedMedia, ATruncatedFileGivesErrorsAndNoWrongData) {
  make(24 << 20);
  ASSERT_EQ(write(0, 2000, 2), 0);
  ASSERT_EQ(truncate(path_.c_str(), 4 << 20), 0);
  Bytes bytes;
  std::uint64_t failed = 0;
  for (std::uint64_t block = 0; block < 2000; ++block) {
    const int error = read(block, bytes);
    ASSERT_TRUE(error == 0 || error == EIO) << error;
    ASSERT_TRUE(error != 0 || bytes == blocks_of(block, 1, 2)) << "block " << block;
    failed += error != 0 ? 1 : 0;
  }
  EXPECT_GT(failed, 500U);
  EXPECT_LT(failed, 1500U);
  for (std::uint64_t block = 2000; block < 2010; ++block) {
    const int error = write(block, 1, 3);
    ASSERT_TRUE(error == 0 || error == EIO) << error;
    ASSERT_EQ(read(block, bytes), 0);
    ASSERT_TRUE(bytes == blocks_of(block, 1, error == 0 ? 3 : 1));
  }
  EXPECT_EQ(device_->drain(0), EIO);
  EXPECT_NE(device_->dirty_bytes() + device_->stats().lost_bytes, 0U);
  for (std::uint64_t block = 0; block < 2000; ++block) {
    const Bytes now = part(image_->current, block * kBlockSize, kBlockSize);
    ASSERT_TRUE(now == blocks_of(block, 1, 1) || now == blocks_of(block, 1, 2)) << "block " << block;
  }
}

INSTANTIATE_TEST_SUITE_P(Granularity, MappedMedia, testing::Values("CACHE_LINE", "PAGE"),
                         [](const auto& granularity) { return granularity.param; });

}  // namespace
}  // namespace pcache
