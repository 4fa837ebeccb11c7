// The cache device's mapping, through libpmem2; what open_pmem_space() returns.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "pcache/pmem_space.h"

struct pmem2_map;

namespace pcache {

class Pmem2Space final : public PmemSpace {
 public:
  // Takes over the mapping `map` and the descriptor `fd` that holds the lock; install_media_guard() was called.
  Pmem2Space(std::string path, UniqueFd fd, pmem2_map* map, PmemAccess access);
  ~Pmem2Space() override;

  std::size_t size() const override { return size_; }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return base_; }

  bool write(std::size_t offset, const void* source, std::size_t length) override;
  void drain() override;
  Status persist(std::size_t offset, std::size_t length) override;
  Status health() const override;
  void prefault(std::size_t offset, std::size_t length) override;
  bool read(std::size_t offset, void* destination, std::size_t length) const override;

 private:
  // Whether a file still reaches to `end`.
  Status check_length(std::size_t end) const;
  bool contains(std::size_t offset, std::size_t length) const { return offset <= size_ && length <= size_ - offset; }

  const std::string path_;
  const UniqueFd fd_;
  pmem2_map* map_;
  const PmemAccess access_;
  std::byte* const base_;
  const std::size_t size_;
  const Granularity granularity_;
  void* (*const copy_)(void* to, const void* from, std::size_t length, unsigned flags);
  void (*const drain_)();
  void (*const persist_)(const void* address, std::size_t length);
};

}  // namespace pcache
