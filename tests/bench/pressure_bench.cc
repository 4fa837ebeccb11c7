// A device under pressure: many times the cache is written at random, 4 KiB a write, to a backing that is a file.
// usage: pressure_bench [--cache MIB] [--device MIB] [--times N] [--depth N] [--directory DIRECTORY] [--set
// KEY=VALUE]... Makes the cache device (default 512 MiB, cache-line granularity forced) and the backing (eight times as
// much) in DIRECTORY (default /dev/shm), writes N (10) times the cache's size with N (1) writes in flight, and removes
// both. Prints a CSV line for each second, what a gnuplot script beside this file draws, and at the end, as comments,
// what docs/performance.md asks for.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <semaphore>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

using SteadyClock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "pressure_bench: %s\n", why.c_str());
  std::exit(1);
}

void must(const Status& status) {
  if (!status.ok()) die(status.message());
}

struct Arguments {
  std::uint64_t cache_bytes = 512 * kMiB;
  std::uint64_t device_bytes = 0;
  std::uint64_t times = 10;
  std::uint64_t depth = 1;
  std::uint64_t rounds = 0;
  std::string directory = "/dev/shm";
  Settings settings;
};

Arguments parse(int argc, char** argv) {
  Arguments args;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    const char* const value = argv[i + 1];
    if (key == "--cache") {
      args.cache_bytes = std::strtoull(value, nullptr, 10) * kMiB;
    } else if (key == "--device") {
      args.device_bytes = std::strtoull(value, nullptr, 10) * kMiB;
    } else if (key == "--times") {
      args.times = std::strtoull(value, nullptr, 10);
    } else if (key == "--depth") {
      args.depth = std::strtoull(value, nullptr, 10);
    } else if (key == "--rounds") {
      args.rounds = std::strtoull(value, nullptr, 10);
    } else if (key == "--set") {
      must(parse_assignment(value, args.settings));
    } else if (key == "--directory") {
      args.directory = value;
    } else {
      die("there is no option " + std::string(key));
    }
  }
  if (args.device_bytes == 0) args.device_bytes = 8 * args.cache_bytes;
  if (args.depth < 1 || args.depth > 256 || args.cache_bytes == 0) die("that makes no sense");
  return args;
}

// Latencies in steps of a twentieth of themselves, so that seconds of millions of writes take little memory.
class Histogram {
 public:
  void add(std::uint64_t ns) {
    ++counts_[std::min(counts_.size() - 1, bucket_of(ns))];
    ++count_;
    max_ = std::max(max_, ns);
  }
  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  std::uint64_t quantile(double part) const {
    auto left = static_cast<std::uint64_t>(part * static_cast<double>(count_));
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] > left) return value_of(i);
      left -= counts_[i];
    }
    return max_;
  }
  void merge(const Histogram& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
  }

 private:
  static constexpr unsigned kSteps = 16;  // of each power of two
  static std::size_t bucket_of(std::uint64_t ns) {
    if (ns < kSteps) return ns;
    const unsigned power = 63U - static_cast<unsigned>(__builtin_clzll(ns));
    return (power - 3) * kSteps + (ns >> (power - 4) & (kSteps - 1));
  }
  static std::uint64_t value_of(std::size_t bucket) {
    if (bucket < kSteps) return bucket;
    return (kSteps + bucket % kSteps) << (bucket / kSteps - 1);
  }

  std::array<std::uint64_t, 40 * kSteps> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

// One write in flight.
struct Slot {
  std::atomic<bool> done{true};
  bool counted = true;
  SteadyClock::time_point began;
  SteadyClock::time_point ended;
  std::counting_semaphore<>* finished = nullptr;
  std::vector<std::byte> data = std::vector<std::byte>(kBlockSize);

  static void completed(void* context, int error) {
    auto* slot = static_cast<Slot*>(context);
    if (error != 0) die("a write failed with errno " + std::to_string(error));
    slot->ended = SteadyClock::now();
    slot->done.store(true, std::memory_order_release);
    slot->finished->release();
  }
};

class Files {
 public:
  explicit Files(const std::string& directory)
      : stem_(directory + "/pressure_bench." + std::to_string(getpid())),
        cache_(stem_ + ".cache"),
        backing_(stem_ + ".backing") {}
  ~Files() {
    unlink(cache_.c_str());
    unlink(backing_.c_str());
  }
  const std::string& cache() const { return cache_; }
  const std::string& backing() const { return backing_; }

 private:
  const std::string stem_, cache_, backing_;
};

class Bench {
 public:
  Bench(const Arguments& args, LogicDev& device) : args_(args), device_(device), slots_(args.depth) {
    for (Slot& slot : slots_) slot.finished = &finished_;
  }

  void run() {
    std::printf("second,writes,p50_us,p99_us,max_us,dirty_mib,written_back_mib\n");
    const std::uint64_t total = args_.times * args_.cache_bytes / kBlockSize;
    second_began_ = SteadyClock::now();
    std::size_t next = 0;
    for (std::uint64_t started = 0; started < total; ++started) {
      while (!slots_[next].done.load(std::memory_order_acquire)) {
        // Others may be done: the next of these, or whichever comes.
        const std::size_t before = next;
        do {
          next = (next + 1) % slots_.size();
        } while (next != before && !slots_[next].done.load(std::memory_order_acquire));
        if (next == before && !slots_[next].done.load(std::memory_order_acquire)) finished_.acquire();
      }
      Slot& slot = slots_[next];
      count(slot);
      start(slot);
      next = (next + 1) % slots_.size();
    }
    for (Slot& slot : slots_) {
      while (!slot.done.load(std::memory_order_acquire)) finished_.acquire();
      count(slot);
    }
    summary();
  }

 private:
  void start(Slot& slot) {
    const std::uint64_t block =
        std::uniform_int_distribution<std::uint64_t>(0, args_.device_bytes / kBlockSize - 1)(random_);
    std::memcpy(slot.data.data(), &block, sizeof block);
    slot.done.store(false, std::memory_order_relaxed);
    slot.counted = false;
    slot.began = SteadyClock::now();
    device_.write(block * kBlockSize, slot.data, {Slot::completed, &slot});
  }

  void count(Slot& slot) {
    if (slot.counted) return;
    slot.counted = true;
    while (slot.ended >= second_began_ + std::chrono::seconds(1)) end_second();
    second_.add(static_cast<std::uint64_t>((slot.ended - slot.began).count()));
  }

  void end_second() {
    const LogicDevStats stats = device_.stats();
    std::printf("%zu,%llu,%.2f,%.2f,%.1f,%llu,%llu\n", seconds_.size() + 1,
                static_cast<unsigned long long>(second_.count()), static_cast<double>(second_.quantile(0.5)) / 1e3,
                static_cast<double>(second_.quantile(0.99)) / 1e3, static_cast<double>(second_.max()) / 1e3,
                static_cast<unsigned long long>(stats.dirty_bytes / kMiB),
                static_cast<unsigned long long>(stats.written_back_bytes / kMiB));
    std::fflush(stdout);
    seconds_.push_back(second_.count());
    all_.merge(second_);
    second_ = Histogram();
    second_began_ += std::chrono::seconds(1);
  }

  void summary() {
    all_.merge(second_);
    if (seconds_.empty()) die("it took less than a second; write more");
    std::vector<std::uint64_t> sorted = seconds_;
    std::sort(sorted.begin(), sorted.end());
    const LogicDevStats stats = device_.stats();
    const double median = static_cast<double>(sorted[sorted.size() / 2]);
    std::printf("# writes %llu, seconds %zu, slowest %llu, median %.0f, slowest_to_median %.2f\n",
                static_cast<unsigned long long>(all_.count()), seconds_.size(),
                static_cast<unsigned long long>(sorted.front()), median, static_cast<double>(sorted.front()) / median);
    std::printf("# p50_us %.2f, p99_us %.2f, max_us %.1f, space_waits %llu\n",
                static_cast<double>(all_.quantile(0.5)) / 1e3, static_cast<double>(all_.quantile(0.99)) / 1e3,
                static_cast<double>(all_.max()) / 1e3, static_cast<unsigned long long>(stats.space_waits));
  }

  const Arguments args_;
  LogicDev& device_;
  std::mt19937_64 random_{42};
  std::counting_semaphore<> finished_{0};
  std::vector<Slot> slots_;
  SteadyClock::time_point second_began_;
  Histogram second_;
  Histogram all_;
  std::vector<std::uint64_t> seconds_;
};

// A cache device and a backing, both new, and the engine over them.
class Engine {
 public:
  explicit Engine(const Arguments& args) : files_(args.directory), manager_(DeviceManager::create()) {
    FormatOptions format;
    format.size_bytes = args.cache_bytes;
    must(format_cache_dev(files_.cache(), format));
    { const std::unique_ptr<FILE, int (*)(FILE*)> made(std::fopen(files_.backing().c_str(), "w"), std::fclose); }
    std::filesystem::resize_file(files_.backing(), args.device_bytes);
    must(manager_->open_cache_dev(files_.cache(), CacheOptions()));
    AddOptions add;
    add.settings = args.settings;
    must(manager_->add("bench", files_.backing(), add));
    device_ = manager_->find("bench");
    sleep(2);  // the cache device's pages are mapped in the background
  }
  LogicDev& device() { return *device_; }

 private:
  const Files files_;
  const std::unique_ptr<DeviceManager> manager_;
  std::shared_ptr<LogicDev> device_;
};

// Writes a second of `count` random blocks takes.
double writes_per_second(LogicDev& device, std::uint64_t count, std::mt19937_64& random) {
  const std::vector<std::byte> data(kBlockSize, std::byte{0x5a});
  const std::uint64_t blocks = device.size_bytes() / kBlockSize;
  std::counting_semaphore<> finished{0};
  const auto began = SteadyClock::now();
  for (std::uint64_t i = 0; i < count; ++i) {
    device.write(std::uniform_int_distribution<std::uint64_t>(0, blocks - 1)(random) * kBlockSize, data,
                 {[](void* context, int error) {
                    if (error != 0) die("a write failed with errno " + std::to_string(error));
                    static_cast<std::counting_semaphore<>*>(context)->release();
                  },
                  &finished});
    finished.acquire();
  }
  return static_cast<double>(count) / std::chrono::duration<double>(SteadyClock::now() - began).count();
}

void compare_full_with_empty(Arguments args) {
  args.settings.set(Setting::dirty_max_age, 86'400'000);
  args.settings.set(Setting::dirty_high, kPercent | 80);
  const std::uint64_t count = args.cache_bytes / kBlockSize / 2;
  std::mt19937_64 random(42);
  std::vector<double> ratios;
  std::printf("round,empty_writes,full_and_clean_writes,ratio\n");
  for (std::uint64_t round = 1; round <= args.rounds; ++round) {
    Engine engine(args);
    const double empty = writes_per_second(engine.device(), count, random);
    (void)writes_per_second(engine.device(), count * 5 / 2, random);
    if (engine.device().drain(0) != 0) die("a drain failed");
    const double full = writes_per_second(engine.device(), count, random);
    ratios.push_back(full / empty);
    std::printf("%llu,%.0f,%.0f,%.2f\n", static_cast<unsigned long long>(round), empty, full, ratios.back());
    std::fflush(stdout);
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("# full_and_clean_to_empty_ratio %.2f (median of %zu)\n", ratios[ratios.size() / 2], ratios.size());
}

int run(const Arguments& args) {
  setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
  if (args.rounds != 0) {
    compare_full_with_empty(args);
  } else {
    Engine engine(args);
    Bench(args, engine.device()).run();
  }
  return 0;
}

}  // namespace
}  // namespace pcache

int main(int argc, char** argv) { return pcache::run(pcache::parse(argc, argv)); }
