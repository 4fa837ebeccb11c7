#include "cache/staging.h"

#include "base/units.h"

namespace pcache {
namespace {

constexpr std::size_t kLargeBuffers = 16;
constexpr std::size_t kLargeBlocks = 64;
constexpr std::size_t kSmallBuffers = 96;
constexpr std::size_t kSmallBlocks = 4;

}  // namespace

Staging::Staging()
    : memory_((kLargeBuffers * kLargeBlocks + kSmallBuffers * kSmallBlocks) * kBlockSize),
      buffers_(kLargeBuffers + kSmallBuffers) {
  large_.reserve(kLargeBuffers);
  small_.reserve(kSmallBuffers);
  std::byte* next = memory_.data();
  for (Buffer& buffer : buffers_) {
    const bool large = large_.size() < kLargeBuffers;
    buffer = {this, next, large ? kLargeBlocks : kSmallBlocks, {}, nullptr, 0};
    next += buffer.blocks * kBlockSize;
    (large ? large_ : small_).push_back(&buffer);
  }
}

Staging::Buffer& Staging::take(std::size_t blocks) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return !large_.empty() || (blocks <= kSmallBlocks && !small_.empty()); });
  std::vector<Buffer*>& from = blocks <= kSmallBlocks && !small_.empty() ? small_ : large_;
  Buffer& buffer = *from.back();
  from.pop_back();
  return buffer;
}

void Staging::give_back(Buffer& buffer) {
  const std::lock_guard lock(mutex_);
  (buffer.blocks == kLargeBlocks ? large_ : small_).push_back(&buffer);
  freed_.notify_one();
}

}  // namespace pcache
