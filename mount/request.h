// One request of the kernel: the memory that it is read into, and its answer.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/aligned_buffer.h"
#include "pcache/logic_dev.h"

namespace pcache {

class RequestPool;
struct DataOperation;

inline constexpr std::size_t kMaxBatch = 16;  // requests that one thread takes together

// Made once and used again and again. The data of a write lies page-aligned, and so does that of a read's answer, which
// takes the place of the former: a request's own few fields stay where they are until it is answered.
class Request {
 public:
  static constexpr std::size_t kMaxData = 1 << 20;  // bytes that one request reads or writes
  static constexpr std::size_t kDataOffset = 4096;
  static constexpr std::size_t kStart = kDataOffset - sizeof(fuse_in_header) - sizeof(fuse_write_in);

  explicit Request(RequestPool& home) : home_(home), memory_(kDataOffset + kMaxData) {}
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // All memory, for locking it.
  std::span<std::byte> memory() { return memory_.span(); }

  // --- The request
  // Where the kernel's next request goes.
  std::span<std::byte> space() { return memory_.span().subspan(kStart); }
  // Takes in what was read: `length` bytes from descriptor `fd`, which is where the answer goes. Returns false if
  // that is no request.
  bool arrived(int fd, std::size_t length) {
    fd_ = fd;
    length_ = length;
    return length >= sizeof(fuse_in_header) && header().len == length;
  }
  int fd() const { return fd_; }
  std::size_t length() const { return length_; }
  const fuse_in_header& header() const { return *reinterpret_cast<const fuse_in_header*>(memory_.data() + kStart); }
  // What follows the header, if has_body(sizeof(T)).
  bool has_body(std::size_t bytes) const { return length_ >= sizeof(fuse_in_header) + bytes; }
  template <typename T>
  const T& body() const {
    return *reinterpret_cast<const T*>(memory_.data() + kStart + sizeof(fuse_in_header));
  }
  // The bytes that a write brought.
  std::span<const std::byte> written() const {
    return memory_.span().subspan(kDataOffset, length_ - (kDataOffset - kStart));
  }

  // --- The answer
  // Room for what a read returns.
  std::span<std::byte> data() { return memory_.span().subspan(kDataOffset); }
  // Puts down the answer: `error` (an errno, 0 for success) and nothing else, or `data`. Once.
  void reply(int error) { compose(-error, {}); }
  void reply(std::span<const std::byte> data) { compose(0, data); }
  // Sends the answer, if there is one.
  void send();

  // --- While a device is at it
  const DataOperation* operation = nullptr;  // what DataPath does with it; null: nothing
  std::shared_ptr<LogicDev> device;
  std::size_t wanted = 0;    // bytes read or written
  bool flush_after = false;  // the write is a synchronous one
  RequestPool& home() { return home_; }

 private:
  void compose(int error, std::span<const std::byte> data);

  RequestPool& home_;
  AlignedBuffer memory_;
  int fd_ = -1;
  std::size_t length_ = 0;
  std::size_t answer_length_ = 0;  // 0: none
};

}  // namespace pcache
