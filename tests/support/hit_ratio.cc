#include "tests/support/hit_ratio.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "tests/support/memory_space.h"

namespace pcache {
namespace {

// Calls `hit(block, write)` for each access and counts what it says.
template <typename Policy>
Hits count(const Trace& trace, Policy hit) {
  Hits result;
  for (std::size_t i = 0; i < trace.accesses.size(); ++i) {
    const Access& access = trace.accesses[i];
    const bool was_hit = hit(access.block, access.write);
    if (i < trace.warm_up || access.write || access.scan) continue;
    ++result.reads;
    if (was_hit) ++result.hits;
  }
  return result;
}

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// Blocks in a row, linked by their numbers.
class Row {
 public:
  explicit Row(std::uint32_t blocks) : links_(blocks + std::size_t{1}, {kNone, kNone}), end_(blocks) {
    links_[end_] = {end_, end_};
  }
  bool contains(std::uint32_t block) const { return links_[block].next != kNone; }
  std::uint32_t size() const { return size_; }
  void push_back(std::uint32_t block) {
    links_[block] = {links_[end_].before, end_};
    links_[links_[end_].before].next = block;
    links_[end_].before = block;
    ++size_;
  }
  void remove(std::uint32_t block) {
    links_[links_[block].before].next = links_[block].next;
    links_[links_[block].next].before = links_[block].before;
    links_[block] = {kNone, kNone};
    --size_;
  }
  void pop_front() { remove(links_[end_].next); }

 private:
  struct Link {
    std::uint32_t before;
    std::uint32_t next;
  };
  std::vector<Link> links_;
  const std::uint32_t end_;
  std::uint32_t size_ = 0;
};

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "hit ratio: %s\n", why.c_str());
  std::exit(1);
}

void must(const Status& status) {
  if (!status.ok()) die(status.message());
}

void check(void*, int error) {
  if (error != 0) die("an operation failed with errno " + std::to_string(error));
}

// Each block is its own number and zeroes, on the backing and as it is written: the traces need no more.
class NumberedBacking final : public BackingDev {
 public:
  NumberedBacking(std::uint64_t size_bytes, std::uint64_t& reads)
      : identity_{"memory:numbered", size_bytes}, reads_(reads) {}

  std::uint64_t size_bytes() const override { return identity_.size_bytes; }
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    ++reads_;
    for (std::uint64_t at = 0; at < buffer.size(); at += kBlockSize) {
      std::memset(buffer.data() + at, 0, kBlockSize);
      const std::uint64_t block = (offset + at) / kBlockSize;
      std::memcpy(buffer.data() + at, &block, sizeof block);
    }
    done(0);
  }
  void write(std::uint64_t, std::span<const iovec>, Completion done) override { done(0); }
  void flush(Completion done) override { done(0); }
  void write_zeroes(std::uint64_t, std::uint64_t, Completion) override { die("nothing was discarded"); }

 private:
  const std::string path_ = "/memory/numbered";
  const BackingIdentity identity_;
  std::uint64_t& reads_;
};

class Engine {
 public:
  Engine(std::uint64_t device_bytes, std::uint64_t cache_bytes) {
    auto space = std::make_unique<MemorySpace>(MemorySpace::make_image(cache_bytes));
    must(CacheDev::format(*space, {{1}, "hit_ratio", default_segment_size(cache_bytes)}));
    auto cache_dev = CacheDev::open(std::move(space));
    must(cache_dev.status());
    auto cache = Cache::open(std::move(cache_dev).value(), CacheOptions());
    must(cache.status());
    cache_ = std::move(cache).value();
    auto device = cache_->add("trace", std::make_unique<NumberedBacking>(device_bytes, backing_reads_));
    must(device.status());
    device_ = std::move(device).value();
  }
  ~Engine() {
    device_.reset();
    cache_.reset();
  }

  // Returns whether it was a hit.
  bool access(std::uint64_t block, bool write) {
    const std::uint64_t before = backing_reads_;
    if (write) {
      std::memcpy(buffer_.data(), &block, sizeof block);
      device_->write(block * kBlockSize, buffer_, {check, nullptr});
      dirty_ = true;
    } else {
      device_->read(block * kBlockSize, buffer_, {check, nullptr});
      if (std::memcmp(buffer_.data(), &block, sizeof block) != 0) die("a block reads as another one");
    }
    background();
    return backing_reads_ == before;
  }

  std::uint64_t stored_blocks() const { return device_->stored_bytes() / kBlockSize; }

 private:
  // What the engine's threads would have done by the next access.
  void background() {
    if (dirty_ && ++since_writeback_ >= kWritesPerEpoch) write_back();
    while (cache_->short_of_space()) {
      if (cache_->reclaim_step()) continue;
      if (!dirty_) return;
      write_back();
    }
  }
  void write_back() {
    must(cache_->commit({device_.get()}));
    while (device_->writeback_step()) {
    }
    dirty_ = false;
    since_writeback_ = 0;
  }

  static constexpr int kWritesPerEpoch = 64;

  std::vector<std::byte> buffer_ = std::vector<std::byte>(kBlockSize);
  std::uint64_t backing_reads_ = 0;
  bool dirty_ = false;
  int since_writeback_ = 0;
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<CachedDevice> device_;
};

}  // namespace

Hits run_fifo(const Trace& trace, std::uint32_t capacity) {
  Row row(trace.blocks);
  std::uint64_t stored = 0;
  Hits hits = count(trace, [&](std::uint32_t block, bool write) {
    const bool hit = row.contains(block);
    if (hit && !write) return true;
    if (hit) row.remove(block);  // appended to the log once more
    if (row.size() == capacity) row.pop_front();
    row.push_back(block);
    ++stored;
    return hit;
  });
  hits.stored = stored;
  return hits;
}

Hits run_lru(const Trace& trace, std::uint32_t capacity) {
  Row row(trace.blocks);
  std::uint64_t stored = 0;
  Hits hits = count(trace, [&](std::uint32_t block, bool write) {
    const bool hit = row.contains(block);
    if (hit) row.remove(block);
    if (row.size() == capacity) row.pop_front();
    row.push_back(block);
    if (!hit || write) ++stored;
    return hit;
  });
  hits.stored = stored;
  return hits;
}

Hits run_engine(const Trace& trace, std::uint64_t cache_bytes) {
  Engine engine(trace.blocks * kBlockSize, cache_bytes);
  Hits hits = count(trace, [&](std::uint32_t block, bool write) { return engine.access(block, write); });
  hits.stored = engine.stored_blocks();
  return hits;
}

}  // namespace pcache
