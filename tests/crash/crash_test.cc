// The power goes at every fence and every backing call of every sequence of one and two operations, and of many of
// three. In each sequence the moments of the last operation are explored: those of the operations before it are those
// of the shorter sequences.
//
// A failure prints what reruns it: PCACHE_CRASH_SEED and PCACHE_CRASH_SEQUENCE. PCACHE_CRASH_TRIPLES sets the number of
// sequences of three; where it is as large as that, all of them are tried whose first operation is of
// PCACHE_CRASH_SHARD among PCACHE_CRASH_SHARDS. long.sh tries all.

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/crash/crash_rig.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

// Whether there are moments in an operation at which the power may go.
enum class Moments {
  always,     // but for page media, where storing alone is none
  sometimes,  // it depends on the operations before
  on_page,    // on page media sometimes, elsewhere never
};

struct Operation {
  const char* name;
  void (*run)(CrashRig& rig);
  Moments moments = Moments::always;
};

constexpr std::uint64_t kBlock = 4096;

// Around blocks 10 to 13: every shape in which one write can overlap another, and all that the engine does by itself.
// The ones after the first kBasicOperations are for AtEveryStepInEachMode.
constexpr std::size_t kBasicOperations = 34;
const std::array<Operation, 42> kOperations = {{
    {"write", [](CrashRig& rig) { rig.write(10 * kBlock, 4 * kBlock); }},
    {"overwrite-front", [](CrashRig& rig) { rig.write(9 * kBlock, 2 * kBlock); }},
    {"overwrite-back", [](CrashRig& rig) { rig.write(13 * kBlock, 2 * kBlock); }},
    {"overwrite-inside", [](CrashRig& rig) { rig.write(11 * kBlock, kBlock); }},
    {"overwrite-all", [](CrashRig& rig) { rig.write(8 * kBlock, 8 * kBlock); }},
    {"write-part", [](CrashRig& rig) { rig.write(11 * kBlock + 512, 1024); }},
    {"write-part-uncached", [](CrashRig& rig) { rig.write(30 * kBlock + 1024, 512); }},
    {"write-unaligned", [](CrashRig& rig) { rig.write(10 * kBlock + 3584, 2 * kBlock + 1024); }},
    {"write-end", [](CrashRig& rig) { rig.write(rig.device_bytes() - 2 * kBlock - 512, 2 * kBlock + 512); }},
    {"write-large", [](CrashRig& rig) { rig.write(0, 38 * kBlock); }},
    {"write-scattered",
     [](CrashRig& rig) {
       for (const std::uint64_t block : {35, 11, 3}) rig.write(block * kBlock, kBlock);
     }},
    {"write-two-epochs",
     [](CrashRig& rig) {
       rig.write(10 * kBlock, 3 * kBlock);
       rig.close_epoch();
       rig.write(11 * kBlock, 3 * kBlock);
     }},
    {"discard", [](CrashRig& rig) { rig.discard(11 * kBlock, 2 * kBlock); }},
    {"discard-part", [](CrashRig& rig) { rig.discard(10 * kBlock + 512, 2 * kBlock); }},
    {"discard-end", [](CrashRig& rig) { rig.discard(rig.device_bytes() - kBlock - 512, kBlock + 512); }},
    {"discard-all", [](CrashRig& rig) { rig.discard(0, rig.device_bytes()); }},
    {"read-uncached", [](CrashRig& rig) { rig.read(28 * kBlock, 6 * kBlock); }, Moments::sometimes},
    {"read-all", [](CrashRig& rig) { rig.read(0, rig.device_bytes()); }, Moments::sometimes},
    {"flush", [](CrashRig& rig) { rig.flush(); }, Moments::on_page},
    {"close-epoch", [](CrashRig& rig) { rig.close_epoch(); }, Moments::on_page},
    {"writeback", [](CrashRig& rig) { rig.writeback(); }, Moments::sometimes},
    {"drain", [](CrashRig& rig) { rig.drain(); }, Moments::sometimes},
    {"writeback-failing-flush", [](CrashRig& rig) { rig.failing_flush(); }, Moments::sometimes},
    {"writeback-failing-write", [](CrashRig& rig) { rig.failing_write(); }, Moments::sometimes},
    {"roll", [](CrashRig& rig) { rig.roll(); }},
    {"reclaim",
     [](CrashRig& rig) {
       rig.drain();
       rig.reclaim();
     },
     Moments::sometimes},
    {"reclaim-hot", [](CrashRig& rig) { rig.reclaim_hot(); }},
    {"roll-and-reclaim",
     [](CrashRig& rig) {
       rig.write(0, 39 * kBlock);
       rig.drain();
       rig.write(0, 30 * kBlock);
       rig.reclaim();
     }},
    {"reopen", [](CrashRig& rig) { rig.reopen(); }},
    {"kill", [](CrashRig& rig) { rig.kill(); }, Moments::sometimes},  // none where recovery finds all as it should be
    {"kill-twice",
     [](CrashRig& rig) {
       rig.kill();
       rig.write(11 * kBlock, kBlock);
       rig.kill();
     }},
    {"remove-and-add", [](CrashRig& rig) { rig.remove(); }},
    {"format", [](CrashRig& rig) { rig.format(); }},
    {"writeback-in-parts", [](CrashRig& rig) { rig.writeback_joined(); }},
    {"to-writethrough", [](CrashRig& rig) { rig.switch_mode(Mode::writethrough); }},
    {"to-writearound", [](CrashRig& rig) { rig.switch_mode(Mode::writearound); }},
    {"to-passthrough", [](CrashRig& rig) { rig.switch_mode(Mode::passthrough); }},
    {"to-writeonly", [](CrashRig& rig) { rig.switch_mode(Mode::writeonly); }},
    {"to-writeback", [](CrashRig& rig) { rig.switch_mode(Mode::writeback); }},
    {"detach", [](CrashRig& rig) { rig.switch_mode(Mode::writethrough, true); }},
    {"to-writearound-failing", [](CrashRig& rig) { rig.failing_switch(Mode::writearound); }},
    {"to-writeback-failing", [](CrashRig& rig) { rig.failing_switch(Mode::writeback); }},
}};
constexpr std::uint64_t kDefaultTriples = 500;

std::string name_of(const CrashShape& shape) {
  return std::string(to_string(shape.granularity)) + (shape.ack ? std::string("_") + to_string(*shape.ack) : "");
}

CrashShape without_order(Granularity granularity) {
  CrashShape shape{granularity, {}};
  shape.settings.set(Setting::writeback_order, static_cast<std::uint64_t>(WritebackOrder::none));
  return shape;
}

class CrashTest : public testing::TestWithParam<CrashShape> {
 protected:
  using Sequence = std::vector<std::size_t>;

  void TearDown() override {
    const CrashCounts& counts = rig_.counts();
    std::printf(
        "%s: sequences %llu moments %llu states %llu distinct %llu work_cuts %llu second_cuts %llu third_cuts %llu\n",
        testing::UnitTest::GetInstance()->current_test_info()->name(), 0ULL + sequences_, 0ULL + counts.moments,
        0ULL + counts.states, 0ULL + counts.distinct, 0ULL + counts.work_cuts, 0ULL + counts.second_cuts,
        0ULL + counts.third_cuts);
  }

  // Explores the last operation of `sequence`.
  void run(const Sequence& sequence, bool any_mode = false) {
    std::string names;
    std::string numbers;
    std::uint64_t number = 0;
    for (const std::size_t operation : sequence) {
      names += std::string(names.empty() ? "" : ", ") + kOperations[operation].name;
      numbers += (numbers.empty() ? "" : ",") + std::to_string(operation);
      number = number * (kBasicOperations + 1) + operation + 1;
    }
    const std::string rerun = names + "\nrun again: PCACHE_CRASH_SEED=" + std::to_string(seed_) +
                              " PCACHE_CRASH_SEQUENCE=" + numbers + " crash --gtest_filter='" +
                              (GetParam().settings.empty() ? "*OneAndOfTwo*/" : "*WithoutOrder*/") +
                              name_of(GetParam()) + "'";
    rig_.start(number);
    for (std::size_t i = 0; i + 1 < sequence.size(); ++i) kOperations[sequence[i]].run(rig_);
    const std::uint64_t passed = rig_.moments();
    const std::uint64_t explored = rig_.counts().moments;
    rig_.explore(true);
    const Operation& last = kOperations[sequence.back()];
    last.run(rig_);
    const std::uint64_t in_it = rig_.moments() - passed;
    rig_.idle();
    ASSERT_EQ(rig_.failure(), "") << rerun;
    ASSERT_EQ(rig_.counts().moments - explored, in_it + 1) << "moments were passed over in " << rerun;
    ASSERT_TRUE(in_it != 0 || any_mode || last.moments != Moments::always || on_page())
        << "no moment was found in " << rerun;
    moments_in_[sequence.back()] += in_it;
    ++sequences_;
  }

  // By PCACHE_CRASH_SEQUENCE.
  static Sequence asked_for() {
    Sequence sequence;
    const char* const text = std::getenv("PCACHE_CRASH_SEQUENCE");
    for (const char* at = text != nullptr ? text : ""; *at != '\0';) {
      char* end = nullptr;
      sequence.push_back(std::strtoull(at, &end, 10));
      EXPECT_TRUE(end != at && sequence.back() < kOperations.size() && (*end == ',' || *end == '\0')) << text;
      if (HasFailure()) return {};
      at = *end == ',' ? end + 1 : end;
    }
    return sequence;
  }

  bool on_page() const { return GetParam().granularity == Granularity::page; }

  // A run that does less than it is thought to do fails. All floors together are above 100,000 states.
  struct Floor {
    std::uint64_t distinct;
    std::uint64_t second_cuts;
    std::uint64_t third_cuts;
  };
  struct Floors {
    Floor cache_line, page, page_durable;
  };
  static constexpr Floors kPairFloors = {{30'000, 3'100, 1'250}, {17'500, 3'200, 1'600}, {23'500, 2'950, 880}};
  static constexpr Floors kTripleFloors = {{16'500, 1'640, 650}, {9'800, 1'700, 815}, {14'400, 1'780, 580}};
  void expect_at_least(const Floors& floors) {
    if (HasFatalFailure()) return;
    const Floor& floor = !on_page() ? floors.cache_line : GetParam().ack ? floors.page_durable : floors.page;
    EXPECT_GE(rig_.counts().distinct, floor.distinct);
    EXPECT_GE(rig_.counts().second_cuts, floor.second_cuts);
    EXPECT_GE(rig_.counts().third_cuts, floor.third_cuts);
  }

  const std::uint64_t seed_ = from_environment("PCACHE_CRASH_SEED", 1);
  CrashRig rig_{GetParam(), seed_};
  std::uint64_t sequences_ = 0;
  std::array<std::uint64_t, kOperations.size()> moments_in_{};  // by operation, when it came last
};

TEST_P(CrashTest, AtEveryStepOfOneAndOfTwoOperations) {
  if (const Sequence sequence = asked_for(); !sequence.empty()) return run(sequence, true);
  for (std::size_t last = 0; last < kBasicOperations && !HasFatalFailure(); ++last) run({last});
  for (std::size_t first = 0; first < kBasicOperations; ++first) {
    for (std::size_t last = 0; last < kBasicOperations && !HasFatalFailure(); ++last) run({first, last});
  }
  for (std::size_t i = 0; i < kBasicOperations && !HasFatalFailure(); ++i) {
    const bool never = kOperations[i].moments == Moments::on_page && !on_page();
    EXPECT_EQ(moments_in_[i] == 0, never) << kOperations[i].name;
  }
  expect_at_least(kPairFloors);
}

TEST_P(CrashTest, AtEveryStepOfThreeOperations) {
  constexpr std::uint64_t n = kBasicOperations;
  const std::uint64_t triples = from_environment("PCACHE_CRASH_TRIPLES", kDefaultTriples);
  if (triples >= n * n * n) {
    const std::uint64_t shards = from_environment("PCACHE_CRASH_SHARDS", 1);
    for (std::uint64_t first = from_environment("PCACHE_CRASH_SHARD", 0); first < n; first += shards) {
      for (std::uint64_t i = 0; i < n * n && !HasFatalFailure(); ++i) run({first, i / n, i % n});
    }
    return;
  }
  CrashRandom random(seed_);
  for (std::uint64_t i = 0; i < triples && !HasFatalFailure(); ++i) {
    run({random.below(n), random.below(n), random.below(n)});
  }
  if (triples >= kDefaultTriples) expect_at_least(kTripleFloors);
}

// Each operation in each mode, each switch after each operation, and each switch after each other one; then as many
// sequences of three as PCACHE_CRASH_MODE_TRIPLES says that begin with a switch.
TEST_P(CrashTest, AtEveryStepInEachMode) {
  constexpr std::size_t kSwitches = kOperations.size() - kBasicOperations;
  // These wait for the log to grow by writes, which is not what grows it in every mode.
  const auto fits = [](std::size_t operation) {
    const std::string name = kOperations[operation].name;
    return name != "roll" && name != "reclaim-hot";
  };
  for (std::size_t i = 0; i < kSwitches; ++i) {
    const std::size_t to = kBasicOperations + i;
    if (!HasFatalFailure()) run({to}, true);
    for (std::size_t other = 0; other < kOperations.size() && !HasFatalFailure(); ++other) {
      if (!fits(other)) continue;
      const bool failing = i + 2 >= kSwitches;
      if (!failing) run({to, other}, true);
      if (other < kBasicOperations && !HasFatalFailure() && (failing || i < 3)) run({other, to}, true);
    }
  }
  CrashRandom random(seed_);
  const std::uint64_t triples = from_environment("PCACHE_CRASH_MODE_TRIPLES", 150);
  for (std::uint64_t i = 0; i < triples && !HasFatalFailure(); ++i) {
    std::size_t second = 0;
    std::size_t third = 0;
    do {
      second = random.below(kOperations.size());
      third = random.below(kOperations.size());
    } while (!fits(second) || !fits(third));
    run({kBasicOperations + random.below(kSwitches), second, third}, true);
  }
  if (HasFatalFailure()) return;
  EXPECT_GE(rig_.counts().distinct, 4'000U);
  EXPECT_GE(rig_.counts().second_cuts, 400U);
}

// Any operation, and then those that write back, where all closed epochs go together.
class UnorderedCrashTest : public CrashTest {};

TEST_P(UnorderedCrashTest, AtEveryStepOfWritebackWithoutOrder) {
  if (const Sequence sequence = asked_for(); !sequence.empty()) return run(sequence);
  std::uint64_t tried = 0;
  for (std::size_t last = 0; last < kBasicOperations && !HasFatalFailure(); ++last) {
    const std::string name = kOperations[last].name;
    if (!name.starts_with("writeback") && name != "drain") continue;
    for (std::size_t first = 0; first < kBasicOperations && !HasFatalFailure(); ++first, ++tried) run({first, last});
  }
  EXPECT_GE(tried, 5 * kBasicOperations);
}

INSTANTIATE_TEST_SUITE_P(Media, UnorderedCrashTest,
                         testing::Values(without_order(Granularity::cache_line), without_order(Granularity::page)),
                         [](const testing::TestParamInfo<CrashShape>& shape) { return name_of(shape.param); });

INSTANTIATE_TEST_SUITE_P(Media, CrashTest,
                         testing::Values(CrashShape{Granularity::cache_line, {}}, CrashShape{Granularity::page, {}},
                                         CrashShape{Granularity::page, Ack::durable}),
                         [](const testing::TestParamInfo<CrashShape>& shape) { return name_of(shape.param); });

}  // namespace
}  // namespace pcache
