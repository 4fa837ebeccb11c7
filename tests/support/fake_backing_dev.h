// A backing device in memory whose content outlives it, which can fail, hold back, and forget what was not flushed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "pcache/backing_dev.h"

namespace pcache {

// What the medium holds: as written, and as a power cut would leave it.
struct BackingImage {
  explicit BackingImage(std::size_t bytes) : current(bytes), durable(bytes) {}

  // Loses what was written since the last flush.
  void power_cut() { current = durable; }

  // Becomes longer, by zeroes; durable at the next flush.
  void grow(std::size_t bytes) { current.resize(bytes); }

  // What a kernel could not write it may drop, and the next flush succeeds without it: of the sectors that were not
  // flushed, those that `lose` says are as they were before.
  void drop_unflushed(const std::function<bool()>& lose);

  std::vector<std::byte> current;
  std::vector<std::byte> durable;
};

// Thread-safe. Operations complete before the call that starts them returns, unless held back.
class FakeBackingDev final : public BackingDev {
 public:
  explicit FakeBackingDev(std::shared_ptr<BackingImage> image, std::string path = "/fake/backing",
                          std::string id = "fake:1");

  std::uint64_t size_bytes() const override { return size_bytes_; }
  Result<std::uint64_t> refresh_size() override;
  const std::string& path() const override { return path_; }
  const BackingIdentity& identity() const override { return identity_; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override;
  void write(std::uint64_t offset, std::span<const iovec> parts, Completion done) override;
  void flush(Completion done) override;
  void write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) override;

  // When `sparse`, blocks of zeroes are holes, as they are now; otherwise it knows none.
  BackingExtent extent_at(std::uint64_t offset) const override;

  // So many operations of each kind fail with `error`, after `after` of these kinds went well.
  struct Failures {
    int reads = 0;
    int writes = 0;
    int flushes = 0;
    int zeroes = 0;
    int error = 5;  // EIO
    int after = 0;
    bool tear = false;  // writes and zeroes that fail still reach every other sector
    bool drop = false;  // flushes that fail lose every other sector that was to become durable
  };
  void fail(const Failures& failures);

  // From now on there is nothing from `bytes` on: what touches it fails.
  void shrink(std::uint64_t bytes);
  // The image becomes longer by so many bytes, while it is in use.
  void grow_by(std::uint64_t bytes);

  // While held, operations wait to be released; the effect comes with the release.
  void hold(bool on);
  std::size_t held() const;
  // Releases one of those that are held, the oldest by default. Returns whether there was one.
  bool release_one(std::size_t which = 0);
  void release_all();

  // Called with each write's range before it takes effect, and with (0, 0) before each flush.
  std::function<void(std::uint64_t offset, std::uint64_t length)> on_write;

  bool sparse = false;
  // Called with what extent_at() found before it returns.
  std::function<void(const BackingExtent& found)> on_extent;

  // Called with what each read found before it completes; may change it, as a read does that is not atomic.
  std::function<void(std::uint64_t offset, std::span<std::byte> found)> on_read;

  struct Counts {
    std::uint64_t reads = 0, writes = 0, flushes = 0, zeroes = 0, written_bytes = 0;
    std::uint64_t failed = 0;  // of any kind
    std::uint64_t failed_flushes = 0;
  };
  Counts counts() const;
  // They count from here on.
  void reset_counts();

 private:
  void run(std::function<void()> operation);
  int outcome(int& failures, std::uint64_t offset, std::uint64_t length);

  const std::string path_;
  const BackingIdentity identity_;
  const std::shared_ptr<BackingImage> image_;
  std::atomic<std::uint64_t> size_bytes_;
  mutable std::mutex mutex_;  // guards all below and the image
  Failures failures_;
  std::uint64_t end_;
  Counts counts_;
  bool hold_ = false;
  std::deque<std::function<void()>> held_;
};

}  // namespace pcache
