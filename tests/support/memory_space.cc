#include "tests/support/memory_space.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace pcache {

namespace {

// The kernel writes pages out while others store to them, and so does this: the thread sanitizer shall not mind.
__attribute__((no_sanitize("thread"))) void copy_racing(std::byte* to, const std::byte* from, std::size_t length) {
  auto* const words = reinterpret_cast<std::uint64_t*>(to);
  // Volatile, not to become a call of memcpy, which is checked.
  const auto* const source = reinterpret_cast<const volatile std::uint64_t*>(from);
  for (std::size_t i = 0; i < length / sizeof *words; ++i) words[i] = source[i];
}

}  // namespace

MemorySpace::MemorySpace(std::shared_ptr<Image> image, Granularity granularity, std::string path, const Image* synced)
    : image_(std::move(image)), size_(image_->size()), granularity_(granularity), path_(std::move(path)) {
  if (granularity_ == Granularity::page) synced_ = synced != nullptr ? *synced : *image_;
}

Status MemorySpace::grow(std::size_t, std::size_t to) {
  if (to > image_->size()) return Status(Errc::no_space, path_ + ": the image ends here");
  size_ = std::max<std::size_t>(size_, to);
  return Status();
}

Status MemorySpace::shrink(std::size_t size) {
  if (size > size_) std::abort();
  size_ = size;
  return Status();
}

bool MemorySpace::write(std::size_t offset, const void* source, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();  // the engine's error, never the test's
  ++writes_;
  written_bytes_ += length;
  if (has_faults_ && is_faulty(write_faults_, offset, length)) return false;
  if (will_cut_) {
    const std::lock_guard lock(mutex_);
    if (writes_left_ == 0) {
      if (lost_writes_++ == 0 && on_cut) on_cut();
      length = std::min(length, std::exchange(torn_bytes_, 0));
    } else {
      --writes_left_;
    }
    store(offset, source, length);
    return true;
  }
  store(offset, source, length);
  return true;
}

void MemorySpace::store(std::size_t offset, const void* source, std::size_t length) {
  if (length != 0) std::memcpy(image_->data() + offset, source, length);
}

Status MemorySpace::persist(std::size_t offset, std::size_t length) {
  if (offset > size() || length > size() - offset) std::abort();
  ++persists_;
  if (has_faults_ && is_faulty(write_faults_, offset, length))
    return Status(Errc::failed, path_ + ": injected failure");
  if (granularity_ == Granularity::page && length != 0) {
    const std::lock_guard lock(mutex_);
    const std::size_t begin = align_down(offset, kBlockSize);
    const std::size_t end = std::min<std::size_t>(align_up(offset + length, kBlockSize), size());
    copy_racing(synced_.data() + begin, image_->data() + begin, end - begin);
  }
  return Status();
}

bool MemorySpace::read(std::size_t offset, void* destination, std::size_t length) const {
  if (offset > size() || length > size() - offset) std::abort();
  ++reads_;
  if (has_faults_ && is_faulty(read_faults_, offset, length)) return false;
  if (length != 0) std::memcpy(destination, image_->data() + offset, length);
  return true;
}

void MemorySpace::heal() {
  const std::lock_guard lock(mutex_);
  read_faults_.clear();
  write_faults_.clear();
  has_faults_ = false;
}

void MemorySpace::cut_after(std::uint64_t writes, std::size_t torn_bytes) {
  const std::lock_guard lock(mutex_);
  writes_left_ = writes;
  torn_bytes_ = torn_bytes;
  will_cut_ = true;
}

std::shared_ptr<MemorySpace::Image> MemorySpace::durable_image() const {
  const std::lock_guard lock(mutex_);
  return copy_image(granularity_ == Granularity::page ? synced_ : *image_);
}

void MemorySpace::add_fault(std::vector<Range>& faults, std::size_t offset, std::size_t length) {
  const std::lock_guard lock(mutex_);
  faults.push_back({offset, offset + length});
  has_faults_ = true;
}

bool MemorySpace::is_faulty(const std::vector<Range>& faults, std::size_t offset, std::size_t length) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(faults.begin(), faults.end(),
                     [&](const Range& range) { return offset < range.end && range.begin < offset + length; });
}

}  // namespace pcache
