// Page-aligned buffers for requests and replies, made once and reused.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/aligned_buffer.h"

namespace pcache {

// Thread-safe.
class BufferPool {
 public:
  // The first `prefaulted` buffers are locked in memory (as far as the limits allow), so that serving a request for the
  // memory that we use ourselves cannot wait for us.
  BufferPool(std::size_t buffer_bytes, std::size_t prefaulted);

  // A spare buffer, or a new one.
  std::unique_ptr<AlignedBuffer> take();
  void give_back(std::unique_ptr<AlignedBuffer> buffer);

 private:
  const std::size_t buffer_bytes_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<AlignedBuffer>> spare_;
};

}  // namespace pcache
