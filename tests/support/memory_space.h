// A cache device in ordinary memory, which can fail and lose power where a test wants it to.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pcache/pmem_space.h"

namespace pcache {

// The medium is an image that outlives the space: to crash, drop the space and open another one on the same image.
// Thread-safe in the way PmemSpace is; the switches may be used by any thread at any time.
class MemorySpace : public PmemSpace {
 public:
  using Image = std::vector<std::byte>;

  static std::shared_ptr<Image> make_image(std::size_t size) { return std::make_shared<Image>(size); }
  static std::shared_ptr<Image> copy_image(const Image& image) { return std::make_shared<Image>(image); }

  // `image` is shared with whoever else holds it and must keep its size. Page media: `synced` is what a power cut would
  // leave of it for sure; none: all of it.
  // It is as large as the image, or smaller once shrink() was called.
  explicit MemorySpace(std::shared_ptr<Image> image, Granularity granularity = Granularity::cache_line,
                       std::string path = "memory", const Image* synced = nullptr);

  std::size_t size() const override { return size_; }
  std::size_t available() const override { return image_->size(); }
  // Within the image.
  Status grow(std::size_t from, std::size_t to) override;
  Status shrink(std::size_t size) override;
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return image_->data(); }
  bool write(std::size_t offset, const void* source, std::size_t length) override;
  void drain() override { ++drains_; }
  Status persist(std::size_t offset, std::size_t length) override;
  void prefault(std::size_t, std::size_t) override {}
  bool read(std::size_t offset, void* destination, std::size_t length) const override;

  // --- Faults

  // From now on reads (writes and persists) that touch the range fail. Ranges add up.
  void fail_reads(std::size_t offset, std::size_t length) { add_fault(read_faults_, offset, length); }
  void fail_writes(std::size_t offset, std::size_t length) { add_fault(write_faults_, offset, length); }
  // Everything works again.
  void heal();

  // Cuts the power after `writes` further write() calls: later ones report success and store nothing. Of the first one
  // lost, `torn_bytes` bytes are still stored (a multiple of 8: words are never torn).
  void cut_after(std::uint64_t writes, std::size_t torn_bytes = 0);
  // Called when the first write is lost.
  std::function<void()> on_cut;
  // Whether a write was lost to cut_after().
  bool was_cut() const { return lost_writes_.load() != 0; }

  // What a power cut now would leave for sure: on page media only ranges (whole pages) that were given to persist(); on
  // other media the image as it is.
  std::shared_ptr<Image> durable_image() const;

  // --- Counters of calls

  std::uint64_t writes() const { return writes_.load(); }
  std::uint64_t written_bytes() const { return written_bytes_.load(); }
  std::uint64_t reads() const { return reads_.load(); }
  std::uint64_t drains() const { return drains_.load(); }
  std::uint64_t persists() const { return persists_.load(); }

 private:
  struct Range {
    std::size_t begin;
    std::size_t end;
  };
  void add_fault(std::vector<Range>& faults, std::size_t offset, std::size_t length);
  bool is_faulty(const std::vector<Range>& faults, std::size_t offset, std::size_t length) const;
  void store(std::size_t offset, const void* source, std::size_t length);

  const std::shared_ptr<Image> image_;
  std::atomic<std::size_t> size_;
  const Granularity granularity_;
  const std::string path_;

  mutable std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> writes_{0};
  std::atomic<std::uint64_t> written_bytes_{0};
  std::atomic<std::uint64_t> drains_{0};
  std::atomic<std::uint64_t> persists_{0};
  std::atomic<std::uint64_t> lost_writes_{0};

  std::atomic<bool> has_faults_{false};
  mutable std::mutex mutex_;  // guards all below
  std::vector<Range> read_faults_;
  std::vector<Range> write_faults_;
  std::atomic<bool> will_cut_{false};
  std::uint64_t writes_left_ = 0;
  std::size_t torn_bytes_ = 0;
  Image synced_;  // page media only
};

}  // namespace pcache
