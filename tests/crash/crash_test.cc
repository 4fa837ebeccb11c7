// The power goes at every fence and every backing call of every sequence of one and two operations, and of many of
// three. A failure prints what reruns it: PCACHE_CRASH_SEED and PCACHE_CRASH_SEQUENCE. PCACHE_CRASH_TRIPLES sets the
// number of sequences of three.

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "tests/crash/crash_rig.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

struct Operation {
  const char* name;
  void (*run)(CrashRig& rig);
};

constexpr std::uint64_t kBlock = 4096;

// Around blocks 10 to 13: every shape in which one write can overlap another, and all that the engine does by itself.
const std::array<Operation, 21> kOperations = {{
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
    {"discard", [](CrashRig& rig) { rig.discard(11 * kBlock, 2 * kBlock); }},
    {"discard-part", [](CrashRig& rig) { rig.discard(10 * kBlock + 512, 2 * kBlock); }},
    {"discard-all", [](CrashRig& rig) { rig.discard(0, rig.device_bytes()); }},
    {"read-uncached", [](CrashRig& rig) { rig.read(28 * kBlock, 6 * kBlock); }},
    {"flush", [](CrashRig& rig) { rig.flush(); }},
    {"writeback", [](CrashRig& rig) { rig.writeback(); }},
    {"drain", [](CrashRig& rig) { rig.drain(); }},
    {"roll-and-reclaim",
     [](CrashRig& rig) {
       rig.write(0, 39 * kBlock);
       rig.drain();
       rig.write(0, 30 * kBlock);
       rig.reclaim();
     }},
    {"reopen", [](CrashRig& rig) { rig.reopen(); }},
    {"kill", [](CrashRig& rig) { rig.kill(); }},
    {"remove-and-add", [](CrashRig& rig) { rig.remove(); }},
}};

class CrashTest : public testing::TestWithParam<CrashShape> {
 protected:
  void TearDown() override {
    RecordProperty("cut_states", std::to_string(counts_.distinct));
    std::printf("%s: %llu moments, %llu distinct cut states, %llu of them second cuts\n",
                testing::UnitTest::GetInstance()->current_test_info()->name(), 0ULL + counts_.fences,
                0ULL + counts_.distinct, 0ULL + counts_.second_cuts);
  }

  void run(const std::vector<std::size_t>& sequence, std::uint64_t seed) {
    CrashRig rig(GetParam(), seed, counts_);
    std::string names;
    std::string numbers;
    for (const std::size_t operation : sequence) {
      names += std::string(names.empty() ? "" : ", ") + kOperations[operation].name;
      numbers += (numbers.empty() ? "" : ",") + std::to_string(operation);
      kOperations[operation].run(rig);
    }
    ASSERT_EQ(rig.failure(), "") << names << "\nPCACHE_CRASH_SEED=" << seed << " PCACHE_CRASH_SEQUENCE=" << numbers;
  }

  CrashCounts counts_;
};

TEST_P(CrashTest, AtEveryStepOfOneAndOfTwoOperations) {
  const std::uint64_t seed = from_environment("PCACHE_CRASH_SEED", 1);
  if (const char* text = std::getenv("PCACHE_CRASH_SEQUENCE")) {
    std::vector<std::size_t> sequence;
    for (const char* at = text; *at != '\0';) {
      char* end = nullptr;
      sequence.push_back(std::strtoull(at, &end, 10) % kOperations.size());
      at = *end == ',' ? end + 1 : end;
      if (end == at && *at != '\0') break;
    }
    return run(sequence, seed);
  }
  for (std::size_t first = 0; first < kOperations.size(); ++first) {
    run({first}, seed);
    for (std::size_t second = 0; second < kOperations.size() && !HasFatalFailure(); ++second) {
      run({first, second}, seed);
    }
    if (HasFatalFailure()) return;
  }
}

TEST_P(CrashTest, AtEveryStepOfThreeOperations) {
  std::mt19937_64 random(from_environment("PCACHE_CRASH_SEED", 1));
  const std::uint64_t triples = from_environment("PCACHE_CRASH_TRIPLES", 150);
  for (std::uint64_t i = 0; i < triples && !HasFatalFailure(); ++i) {
    const std::size_t n = kOperations.size();
    const std::vector<std::size_t> sequence = {random() % n, random() % n, random() % n};
    run(sequence, random());
  }
}

std::string name_of(const testing::TestParamInfo<CrashShape>& shape) {
  return std::string(to_string(shape.param.granularity)) +
         (shape.param.ack ? std::string("_") + to_string(*shape.param.ack) : "");
}

INSTANTIATE_TEST_SUITE_P(Media, CrashTest,
                         testing::Values(CrashShape{Granularity::cache_line, {}}, CrashShape{Granularity::page, {}},
                                         CrashShape{Granularity::page, Ack::durable}),
                         name_of);

}  // namespace
}  // namespace pcache
