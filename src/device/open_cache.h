// A cache device in use, and all who use it.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <utility>

#include "cache/cache.h"

namespace pcache {

// Not synchronised. Its destruction closes the cache device whoever uses it; close() waits for them.
class OpenCache {
 public:
  OpenCache(std::unique_ptr<Cache> cache, std::uint64_t id)
      : cache_(std::move(cache)), id_(id), lease_(std::make_shared<Lease>()), unused_(lease_->ended.get_future()) {}

  // Counts from 0; no other cache device that is open has it.
  std::uint64_t id() const { return id_; }
  Cache& operator*() const { return *cache_; }
  Cache* operator->() const { return cache_.get(); }

  // As long as somebody has what these return, the cache device is not closed.
  std::shared_ptr<Cache> use() const { return {lease_, cache_.get()}; }
  class Hold;

  // Waits until nobody uses it any more, and closes it in order on the calling thread: the last user may be one of its
  // own threads, which its end waits for.
  void close() {
    lease_.reset();
    unused_.wait();
    cache_.reset();
  }

 private:
  struct Lease {
    ~Lease() { ended.set_value(); }
    std::promise<void> ended;
  };

  std::unique_ptr<Cache> cache_;
  std::uint64_t id_;
  std::shared_ptr<Lease> lease_;
  std::future<void> unused_;
};

// Made before there is a device to hold, since that cannot fail any more then.
class OpenCache::Hold {
 public:
  explicit Hold(std::shared_ptr<Cache> cache) : held_(std::make_shared<Held>()) { held_->cache = std::move(cache); }
  // Once.
  std::shared_ptr<CachedDevice> on(std::shared_ptr<CachedDevice> device) noexcept {
    held_->device = std::move(device);
    CachedDevice* const held = held_->device.get();
    return {std::move(held_), held};
  }

 private:
  struct Held {
    std::shared_ptr<Cache> cache;
    std::shared_ptr<CachedDevice> device;
  };
  std::shared_ptr<Held> held_;
};

}  // namespace pcache
