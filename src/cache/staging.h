// Memory from which blocks that were verified are written to the backing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/aligned_buffer.h"
#include "pcache/completion.h"

namespace pcache {

// Few large buffers for runs of blocks, many small ones for single blocks, so that of these too as many are under way
// as a backing needs to be busy. One thread takes them; any gives them back.
class Staging {
 public:
  struct Buffer {
    Staging* home = nullptr;
    std::byte* data = nullptr;
    std::size_t blocks = 0;  // as many fit
    Completion counted;      // this and the next ones are for the user of the buffer
    void* user = nullptr;
    std::uint64_t began_ns = 0;
  };

  Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // A buffer for a run of `blocks`, or the part of it that fits; waits until there is one.
  Buffer& take(std::size_t blocks);
  void give_back(Buffer& buffer);

 private:
  AlignedBuffer memory_;
  std::vector<Buffer> buffers_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<Buffer*> large_;  // those that are free
  std::vector<Buffer*> small_;
};

}  // namespace pcache
