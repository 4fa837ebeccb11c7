#include "mount/buffer_pool.h"

#include <sys/mman.h>

#include <cstring>

namespace pcache {

BufferPool::BufferPool(std::size_t buffer_bytes, std::size_t prefaulted) : buffer_bytes_(buffer_bytes) {
  spare_.reserve(256);
  for (std::size_t i = 0; i < prefaulted; ++i) {
    auto buffer = std::make_unique<AlignedBuffer>(buffer_bytes_);
    std::memset(buffer->data(), 0, buffer->size());
    (void)mlock(buffer->data(), buffer->size());  // a small RLIMIT_MEMLOCK is no reason not to serve
    spare_.push_back(std::move(buffer));
  }
}

std::unique_ptr<AlignedBuffer> BufferPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      auto buffer = std::move(spare_.back());
      spare_.pop_back();
      return buffer;
    }
  }
  return std::make_unique<AlignedBuffer>(buffer_bytes_);
}

void BufferPool::give_back(std::unique_ptr<AlignedBuffer> buffer) {
  const std::lock_guard lock(mutex_);
  spare_.push_back(std::move(buffer));
}

}  // namespace pcache
