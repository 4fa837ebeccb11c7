// Random operations, restarts, kills and power cuts against a plain byte array. After every step of writeback the
// backing alone has to be the device's state as of some moment at which an epoch closed. A failure prints the seed;
// PCACHE_SEED runs that one alone, PCACHE_MODEL_STEPS sets the length of each run.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/crc32c.h"
#include "base/units.h"
#include "tests/support/engine_rig.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

// A third of the seeds asks for no order of epochs.
RigShape with_settings(RigShape shape, std::uint64_t seed) {
  const auto order = seed % 3 == 0 ? WritebackOrder::none : WritebackOrder::epoch;
  shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(order));
  return shape;
}

class Model {
 public:
  Model(const RigShape& shape, std::uint64_t seed)
      : shape_(shape),
        rig_(with_settings(shape, seed)),
        random_(seed),
        content_(shape.device_bytes),
        allowed_(block_count()) {
    rig_.on_epoch_closed = [this] { boundaries_.insert(checksum(content_)); };
    boundaries_.insert(checksum(content_));
    settle();
  }

  void run(std::uint64_t steps) {
    for (std::uint64_t i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      step();
    }
    if (testing::Test::HasFailure()) return;
    rig_.space().heal();
    EXPECT_EQ(rig_.drain(), 0);
    EXPECT_TRUE(rig_.backing_image().durable == content_) << "the backing alone after a drain";
    EXPECT_EQ(rig_.device().dirty_bytes(), 0U);
  }

 private:
  struct Range {
    std::uint64_t offset;
    std::uint64_t length;
  };

  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  }
  std::uint64_t block_count() const { return div_ceil(shape_.device_bytes, kBlockSize); }
  static std::uint32_t checksum(std::span<const std::byte> bytes) { return crc32c(bytes.data(), bytes.size()); }
  std::uint32_t block_checksum(std::uint64_t block) const {
    const std::size_t begin = block * kBlockSize;
    return checksum({content_.data() + begin, std::min(content_.size() - begin, kBlockSize)});
  }

  Range any_range(std::uint64_t longest) {
    const std::uint64_t unit = std::array<std::uint64_t, 4>{4096, 4096, 512, 1}[below(4)];
    const std::uint64_t hot = below(3) == 0 ? shape_.device_bytes : shape_.device_bytes / 8;
    const std::uint64_t offset = below(hot) / unit * unit;
    const std::uint64_t length = (1 + below(std::max<std::uint64_t>(longest / unit, 1))) * unit;
    return {offset, std::min(length, shape_.device_bytes - offset)};
  }

  // From now on each block is as `content_` says, whatever happens.
  void settle() {
    for (std::uint64_t block = 0; block < allowed_.size(); ++block) allowed_[block] = {block_checksum(block)};
  }

  // The model changes; until the operation is safe the old content may come back.
  void change(const Range& range, const std::vector<std::byte>& bytes) {
    std::copy(bytes.begin(), bytes.end(), content_.begin() + static_cast<std::ptrdiff_t>(range.offset));
    for (std::uint64_t block = range.offset / kBlockSize; block * kBlockSize < range.offset + range.length; ++block) {
      allowed_[block].push_back(block_checksum(block));
    }
  }
  void changed(const Range& range) {
    if (!durable()) return;
    for (std::uint64_t block = range.offset / kBlockSize; block * kBlockSize < range.offset + range.length; ++block) {
      allowed_[block] = {block_checksum(block)};
    }
  }
  bool durable() const {
    return shape_.granularity != Granularity::page || shape_.ack.value_or(Ack::flush) == Ack::durable;
  }

  void step() {
    if (below(8) == 0) {
      rig_.step_bytes = below(2) == 0 ? WritebackPace::kUnlimited : (1 + below(40)) * kBlockSize;
    }
    // Room is made first, so that no epoch closes in the middle of an operation.
    ASSERT_TRUE(rig_.make_room(2));
    check_backing();
    const std::uint64_t choice = below(1000);
    if (choice < 520) {
      write();
    } else if (choice < 800) {
      read(any_range(256 * kKiB));
    } else if (choice < 860) {
      discard();
    } else if (choice < 920) {
      ASSERT_EQ(rig_.flush(), 0);
      settle();
    } else if (choice < 930) {
      configure();
    } else if (choice < 970) {
      for (std::uint64_t steps = 1 + below(4); steps > 0; --steps) rig_.step();
    } else if (choice < 985) {
      rig_.reopen();
      read_all();
      restarted();
    } else if (choice < 993) {
      rig_.kill();
      read_all();
      restarted();
    } else {
      power_cut();
    }
    check_backing();
  }

  void write() {
    const Range range = any_range(64 * kKiB);
    std::vector<std::byte> bytes(range.length);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    change(range, bytes);
    ASSERT_EQ(rig_.write(range.offset, bytes), 0);
    changed(range);
  }

  void discard() {
    const Range range = any_range(below(20) == 0 ? shape_.device_bytes : 512 * kKiB);
    change(range, std::vector<std::byte>(range.length));
    ASSERT_EQ(rig_.discard(range.offset, range.length), 0);
    changed(range);
  }

  void configure() {
    Settings settings;
    settings.set(Setting::admission, below(2));
    settings.set(Setting::sequential_bypass, below(2) * 32 * kKiB);
    ASSERT_TRUE(rig_.device().configure(settings).ok());
  }

  void read(const Range& range) {
    std::vector<std::byte> bytes(range.length, std::byte{0xa5});
    ASSERT_EQ(rig_.read(range.offset, bytes), 0);
    const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(range.offset);
    const auto wrong = std::mismatch(bytes.begin(), bytes.end(), begin);
    ASSERT_TRUE(wrong.first == bytes.end()) << "wrong at byte " << range.offset + (wrong.first - bytes.begin());
  }

  void read_all() { read({0, shape_.device_bytes}); }

  // The power goes while operations store; what was acknowledged has to be there, of the one under way any of its
  // blocks.
  void power_cut() {
    if (below(2) == 0) {
      rig_.space().cut_after(below(200), below(8) * 8);
      for (int i = 0; i < 40 && !rig_.space().was_cut() && !testing::Test::HasFailure(); ++i) {
        switch (below(4)) {
          case 0:
            rig_.step();
            break;
          case 1:
            change_under_power_cut(any_range(512 * kKiB), true);
            break;
          default:
            change_under_power_cut(any_range(64 * kKiB), false);
        }
      }
    }
    rig_.power_cut([this](std::size_t) { return below(2) == 0; });
    std::vector<std::byte> found(content_.size());
    ASSERT_EQ(rig_.read(0, found), 0);
    content_ = std::move(found);
    for (std::uint64_t block = 0; block < allowed_.size(); ++block) {
      ASSERT_TRUE(std::count(allowed_[block].begin(), allowed_[block].end(), block_checksum(block)) != 0)
          << "block " << block << " is none of its " << allowed_[block].size() << " possible contents";
    }
    restarted();
  }

  void change_under_power_cut(const Range& range, bool discard) {
    std::vector<std::byte> bytes(range.length);
    if (!discard) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    }
    if (rig_.cache().pool().free_count() < rig_.cache().reserve() + 2) return;
    change(range, bytes);
    const int error = discard ? rig_.discard(range.offset, range.length) : rig_.write(range.offset, bytes);
    if (rig_.space().was_cut()) return;  // nobody is there any more to be told
    ASSERT_EQ(error, 0);
    changed(range);
  }

  // What opening found is durable, and where its last epoch ends.
  void restarted() {
    settle();
    boundaries_.insert(checksum(content_));
  }

  void check_backing() {
    ASSERT_EQ(boundaries_.count(checksum(rig_.backing_image().durable)), 1U)
        << "the backing alone is not the state of any flush boundary";
  }

  const RigShape shape_;
  EngineRig rig_;
  std::mt19937_64 random_;
  std::vector<std::byte> content_;
  std::vector<std::vector<std::uint32_t>> allowed_;  // checksums of what each block may be after a power cut
  std::unordered_set<std::uint32_t> boundaries_;     // checksums of the device's states at which an epoch closed
};

class ModelTest : public testing::TestWithParam<RigShape> {};

TEST_P(ModelTest, BehavesLikeAByteArray) {
  const std::uint64_t steps = from_environment("PCACHE_MODEL_STEPS", 1500);
  std::vector<std::uint64_t> seeds = {1, 2, 3};
  if (std::getenv("PCACHE_SEED") != nullptr) seeds = {from_environment("PCACHE_SEED", 0)};
  for (const std::uint64_t seed : seeds) {
    SCOPED_TRACE("PCACHE_SEED=" + std::to_string(seed));
    Model(GetParam(), seed).run(steps);
    if (HasFailure()) return;
  }
}

constexpr std::size_t kOddSize = 5 * kMiB + 7 * 512;

INSTANTIATE_TEST_SUITE_P(Shapes, ModelTest,
                         testing::Values(RigShape{8 * kMiB, 256 * kKiB, 3 * kMiB, Granularity::cache_line, {}},
                                         RigShape{
                                             4 * kMiB + 256 * kKiB, 256 * kKiB, kOddSize, Granularity::cache_line, {}},
                                         RigShape{12 * kMiB, 256 * kKiB, kOddSize, Granularity::byte, {}},
                                         RigShape{40 * kMiB, 256 * kKiB, 24 * kMiB, Granularity::cache_line, {}},
                                         RigShape{5 * kMiB, 256 * kKiB, kOddSize, Granularity::page, {}},
                                         RigShape{12 * kMiB, 256 * kKiB, kOddSize, Granularity::page, {}},
                                         RigShape{5 * kMiB, 256 * kKiB, kOddSize, Granularity::page, Ack::durable}),
                         [](const auto& shape) { return shape.param.name(); });

}  // namespace
}  // namespace pcache
