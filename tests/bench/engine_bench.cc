// The engine's own cost, in one process: writes, flushes and read hits against a bare copy to the same kind of medium.
// usage: engine_bench [DIRECTORY]   an 8 GiB cache file is made there (default /dev/shm) and removed again.
// Cache-line granularity is forced, as on real persistent memory. One line a metric; times are medians of the rounds,
// in which the loops take turns.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <libpmem2.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/units.h"
#include "cache/cache.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

constexpr std::uint64_t kEntries = 1'000'000;
constexpr std::uint64_t kCacheBytes = 8 * kGiB;
constexpr std::int64_t kOperations = 60'000;  // a round; all rounds together fit into the cache without eviction
constexpr int kRounds = 7;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "engine_bench: %s\n", why.c_str());
  std::exit(1);
}

// Counts what the engine stores.
class CountingSpace final : public PmemSpace {
 public:
  CountingSpace(std::unique_ptr<PmemSpace> space, std::atomic<std::uint64_t>& stored)
      : space_(std::move(space)), stored_(stored) {}

  std::size_t size() const override { return space_->size(); }
  Granularity granularity() const override { return space_->granularity(); }
  const std::string& path() const override { return space_->path(); }
  const std::byte* base() const override { return space_->base(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override {
    // One thread writes in these loops; the background only stores metadata.
    stored_.store(stored_.load(std::memory_order_relaxed) + length, std::memory_order_relaxed);
    return space_->write(offset, source, length);
  }
  void drain() override { space_->drain(); }
  Status persist(std::size_t offset, std::size_t length) override { return space_->persist(offset, length); }
  void prefault(std::size_t offset, std::size_t length) override { space_->prefault(offset, length); }
  bool read(std::size_t offset, void* destination, std::size_t length) const override {
    return space_->read(offset, destination, length);
  }

 private:
  const std::unique_ptr<PmemSpace> space_;
  std::atomic<std::uint64_t>& stored_;
};

// Takes everything and keeps nothing: nothing is read back from it here.
class NullBacking final : public BackingDev {
 public:
  explicit NullBacking(std::uint64_t size_bytes) : identity_{"bench:null", size_bytes} {}

  std::uint64_t size_bytes() const override { return identity_.size_bytes; }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }
  void read(std::uint64_t, std::span<std::byte>, Completion) override { die("a read missed the cache"); }
  void write(std::uint64_t, std::span<const iovec>, Completion done) override { done(0); }
  void flush(Completion done) override { done(0); }
  void write_zeroes(std::uint64_t, std::uint64_t, Completion done) override { done(0); }

 private:
  const std::string path_ = "/bench/null";
  const BackingIdentity identity_;
};

// Anonymous memory of this process, in bytes: the mapped cache file is not part of it.
std::uint64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib * kKiB;
  }
  die("no RssAnon in /proc/self/status");
}

// What the loops share.
class Engine {
 public:
  explicit Engine(const std::string& path) : path_(path) {
    FormatOptions format;
    format.size_bytes = kCacheBytes;
    if (Status status = format_cache_dev(path_, format); !status.ok()) die(status.message());
    auto space = open_pmem_space(path_);
    if (!space) die(space.status().message());
    if ((*space)->granularity() != Granularity::cache_line) die("the granularity is not that of a cache line");
    touch((*space)->base(), (*space)->size());
    auto cache_dev = CacheDev::open(std::make_unique<CountingSpace>(std::move(space).value(), stored_));
    if (!cache_dev) die(cache_dev.status().message());
    CacheOptions options;
    options.settings.set(Setting::dirty_max_age, 3'600'000);  // the loops measure the foreground
    options.settings.set(Setting::dirty_high, kPercent | 95);
    auto cache = Cache::open(std::move(cache_dev).value(), options);
    if (!cache) die(cache.status().message());
    cache_ = std::move(cache).value();
    auto device = cache_->add("bench", std::make_unique<NullBacking>(kEntries * kBlockSize));
    if (!device) die(device.status().message());
    device_ = std::move(device).value();
    cache_->start();
    const std::uint64_t before = resident_bytes();
    for (std::uint64_t block = 0; block < kEntries; ++block) write(block);
    resident_ = resident_bytes() - before;
    index_ = cache_->stats().index_bytes;
  }
  ~Engine() {
    device_.reset();
    cache_.reset();
    unlink(path_.c_str());
  }

  std::uint64_t random_block() { return std::uniform_int_distribution<std::uint64_t>(0, kEntries - 1)(random_); }
  void write(std::uint64_t block) { device_->write(block * kBlockSize, source_, {check, nullptr}); }
  void read(std::uint64_t block) { device_->read(block * kBlockSize, target_, {check, nullptr}); }
  void flush() { device_->flush({check, nullptr}); }

  std::uint64_t stored_bytes() const { return stored_.load(); }
  double index_bytes_per_block() const { return static_cast<double>(index_) / static_cast<double>(kEntries); }
  double resident_bytes_per_block() const { return static_cast<double>(resident_) / static_cast<double>(kEntries); }
  const std::byte* source() const { return source_.data(); }

 private:
  static void check(void*, int error) {
    if (error != 0) die("an operation failed with errno " + std::to_string(error));
  }
  static void touch(const std::byte* memory, std::size_t length) {
    if (madvise(const_cast<std::byte*>(memory), length, MADV_POPULATE_WRITE) != 0) die("cannot populate the mapping");
  }

  const std::string path_;
  std::mt19937_64 random_{42};
  std::vector<std::byte> source_ = std::vector<std::byte>(kBlockSize, std::byte{0x5a});
  std::vector<std::byte> target_ = std::vector<std::byte>(kBlockSize);
  std::atomic<std::uint64_t> stored_{0};
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<CachedDevice> device_;
  std::uint64_t resident_ = 0;
  std::uint64_t index_ = 0;
};

// The least that a durable 4 KiB write with a 64-byte record can be: copy, fence, line, fence.
class BareMedium {
 public:
  explicit BareMedium(const std::string& path) : path_(path), fd_(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600)) {
    if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(kBytes)) != 0) die("cannot make " + path_);
    pmem2_config* config = nullptr;
    pmem2_source* source = nullptr;
    if (pmem2_config_new(&config) != 0 || pmem2_source_from_fd(&source, fd_) != 0 ||
        pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_CACHE_LINE) != 0 ||
        pmem2_map_new(&map_, config, source) != 0) {
      die(std::string("cannot map the bare medium: ") + pmem2_errormsg());
    }
    pmem2_config_delete(&config);
    pmem2_source_delete(&source);
    base_ = static_cast<std::byte*>(pmem2_map_get_address(map_));
    copy_ = pmem2_get_memcpy_fn(map_);
    drain_ = pmem2_get_drain_fn(map_);
    if (madvise(base_, kBytes, MADV_POPULATE_WRITE) != 0) die("cannot populate the bare medium");
  }
  ~BareMedium() {
    pmem2_map_delete(&map_);
    close(fd_);
    unlink(path_.c_str());
  }

  void write(const std::byte* source) {
    alignas(64) static const std::array<std::byte, 64> record{};
    copy_(base_ + kLines + cell_ * kBlockSize, source, kBlockSize, PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
    drain_();
    copy_(base_ + cell_ * record.size(), record.data(), record.size(), PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
    drain_();
    cell_ = (cell_ + 1) % kCells;
  }

 private:
  static constexpr std::uint64_t kCells = 256 * kKiB;  // 1 GiB
  static constexpr std::uint64_t kLines = kCells * 64;
  static constexpr std::uint64_t kBytes = kLines + kCells * kBlockSize;

  const std::string path_;
  const int fd_;
  pmem2_map* map_ = nullptr;
  std::byte* base_ = nullptr;
  pmem2_memcpy_fn copy_ = nullptr;
  pmem2_drain_fn drain_ = nullptr;
  std::uint64_t cell_ = 0;
};

// Keeps each round's time besides printing it.
class Collector : public benchmark::ConsoleReporter {
 public:
  Collector() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Iteration) times_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
    }
  }
  double median(const std::string& name) {
    auto& times = times_.at(name);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  std::map<std::string, std::vector<double>> times_;
};

int run(const std::string& directory) {
  setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
  const std::string stem = directory + "/engine_bench." + std::to_string(getpid());
  Engine engine(stem + ".cache");
  BareMedium bare(stem + ".bare");

  std::uint64_t acknowledged = 0;
  const std::uint64_t stored_before = engine.stored_bytes();
  const auto loop = [](const char* name, std::function<void()> operation) {
    benchmark::RegisterBenchmark(name,
                                 [operation](benchmark::State& state) {
                                   for (auto _ : state) operation();
                                 })
        ->Iterations(kOperations)
        ->Repetitions(kRounds)
        ->UseRealTime();
  };
  loop("BareCopy4K", [&] { bare.write(engine.source()); });
  loop("DurableWrite4K", [&] {
    engine.write(engine.random_block());
    acknowledged += kBlockSize;
  });
  loop("DurableWriteFlush4K", [&] {
    engine.write(engine.random_block());
    engine.flush();
    acknowledged += kBlockSize;
  });
  loop("ReadHit4K", [&] { engine.read(engine.random_block()); });

  std::array<char, 64> program{"engine_bench"};
  std::array<char, 64> interleave{"--benchmark_enable_random_interleaving=true"};
  std::array<char*, 3> args{program.data(), interleave.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, args.data());
  Collector times;
  benchmark::RunSpecifiedBenchmarks(&times);

  const double copy = times.median("BareCopy4K");
  const double write = times.median("DurableWrite4K");
  std::printf("bare_copy_4k_ns %.0f\n", copy);
  std::printf("durable_write_4k_ns %.0f\n", write);
  std::printf("durable_write_flush_4k_ns %.0f\n", times.median("DurableWriteFlush4K"));
  std::printf("read_hit_4k_ns %.0f\n", times.median("ReadHit4K"));
  std::printf("durable_write_to_bare_copy_ratio %.3f\n", copy / write);
  std::printf("index_bytes_per_block_counted %.1f\n", engine.index_bytes_per_block());
  std::printf("index_bytes_per_block_resident %.1f\n", engine.resident_bytes_per_block());
  std::printf("stored_bytes_per_acknowledged_byte %.4f\n",
              static_cast<double>(engine.stored_bytes() - stored_before) / static_cast<double>(acknowledged));
  return 0;
}

}  // namespace
}  // namespace pcache

int main(int argc, char** argv) { return pcache::run(argc > 1 ? argv[1] : "/dev/shm"); }
