// The cache device's mapping, through libpmem2; what open_pmem_space() returns.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "pcache/pmem_space.h"

struct pmem2_map;
struct pmem2_vm_reservation;

namespace pcache {

class Pmem2Space final : public PmemSpace {
 public:
  // Takes over the mapping `map`, at the beginning of `reservation` where there is one, and the descriptor `fd` that
  // holds the lock; install_media_guard() was called.
  Pmem2Space(std::string path, UniqueFd fd, pmem2_map* map, pmem2_vm_reservation* reservation, PmemAccess access);
  ~Pmem2Space() override;

  std::size_t size() const override { return size_.load(std::memory_order_acquire); }
  Granularity granularity() const override { return granularity_; }
  const std::string& path() const override { return path_; }
  const std::byte* base() const override { return base_; }

  bool write(std::size_t offset, const void* source, std::size_t length) override;
  void drain() override;
  Status persist(std::size_t offset, std::size_t length) override;
  Status health() const override;
  Status grow(std::size_t from, std::size_t to) override;
  Status shrink(std::size_t size) override;
  std::size_t available() const override;
  void prefault(std::size_t offset, std::size_t length) override;
  bool read(std::size_t offset, void* destination, std::size_t length) const override;

 private:
  bool contains(std::size_t offset, std::size_t length) const {
    const std::size_t all = size();
    return offset <= all && length <= all - offset;
  }
  // Whether a file still reaches to `end`.
  Status check_length(std::size_t end) const;
  Status allocate(std::size_t from, std::size_t to) const;
  Status map_more(std::size_t to);

  const std::string path_;
  const UniqueFd fd_;
  pmem2_map* map_;
  pmem2_vm_reservation* reservation_;
  std::vector<pmem2_map*> further_;  // what it grew by, one after the other in the reservation
  const PmemAccess access_;
  std::byte* const base_;
  mutable std::mutex size_mutex_;  // while it changes
  std::atomic<std::size_t> size_;
  std::size_t mapped_;  // of the file, from its beginning
  const Granularity granularity_;
  void* (*const copy_)(void* to, const void* from, std::size_t length, unsigned flags);
  void (*const drain_)();
  void (*const persist_)(const void* address, std::size_t length);
};

}  // namespace pcache
