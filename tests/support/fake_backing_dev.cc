#include "tests/support/fake_backing_dev.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/units.h"

namespace pcache {
namespace {

// Calls `store` with every other sector of a range.
template <typename Store>
void torn(std::uint64_t length, Store store) {
  for (std::uint64_t at = 0; at < length; at += 2 * kSectorSize) store(at);
}

}  // namespace

void BackingImage::drop_unflushed(const std::function<bool()>& lose) {
  for (std::size_t at = 0; at < durable.size(); at += kSectorSize) {
    const std::size_t length = std::min<std::size_t>(kSectorSize, durable.size() - at);
    if (std::memcmp(&current[at], &durable[at], length) == 0 || !lose()) continue;
    std::memcpy(&current[at], &durable[at], length);
  }
}

FakeBackingDev::FakeBackingDev(std::shared_ptr<BackingImage> image, std::string path, std::string id)
    : path_(std::move(path)),
      identity_{std::move(id), image->current.size()},
      image_(std::move(image)),
      size_bytes_(identity_.size_bytes),
      end_(identity_.size_bytes) {}

Result<std::uint64_t> FakeBackingDev::refresh_size() {
  const std::lock_guard lock(mutex_);
  if (end_ < size_bytes_) return Status(Errc::failed, path_ + " became shorter");
  end_ = size_bytes_ = image_->current.size();
  return end_;
}

void FakeBackingDev::run(std::function<void()> operation) {
  {
    const std::lock_guard lock(mutex_);
    if (hold_) {
      held_.push_back(std::move(operation));
      return;
    }
  }
  operation();
}

// Under the lock. 0, or the error that the operation is to end with.
int FakeBackingDev::outcome(int& failures, std::uint64_t offset, std::uint64_t length) {
  bool fails = offset + length > end_;
  int error = EIO;
  if (failures > 0 && failures_.after > 0) {
    --failures_.after;
  } else if (failures > 0) {
    --failures;
    fails = true;
    error = failures_.error;
  }
  counts_.failed += fails ? 1 : 0;
  return fails ? error : 0;
}

void FakeBackingDev::read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) {
  run([this, offset, buffer, done] {
    int error = 0;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.reads;
      error = outcome(failures_.reads, offset, buffer.size());
      if (error == 0) {
        std::memcpy(buffer.data(), image_->current.data() + offset, buffer.size());
        if (on_read) on_read(offset, buffer);
      }
    }
    done(error);
  });
}

void FakeBackingDev::write(std::uint64_t offset, std::span<const iovec> parts, Completion done) {
  run([this, offset, list = std::vector<iovec>(parts.begin(), parts.end()), done] {
    int error = 0;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.writes;
      std::uint64_t length = 0;
      for (const iovec& part : list) length += part.iov_len;
      error = outcome(failures_.writes, offset, length);
      std::byte* to = image_->current.data() + offset;
      for (const iovec& part : list) {
        const auto* const from = static_cast<const std::byte*>(part.iov_base);
        if (error == 0) {
          if (on_write) on_write(static_cast<std::uint64_t>(to - image_->current.data()), part.iov_len);
          std::memcpy(to, from, part.iov_len);
          counts_.written_bytes += part.iov_len;
        } else if (failures_.tear) {
          torn(part.iov_len, [&](std::uint64_t at) { std::memcpy(to + at, from + at, kSectorSize); });
        }
        to += part.iov_len;
      }
    }
    done(error);
  });
}

void FakeBackingDev::flush(Completion done) {
  run([this, done] {
    int error = 0;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.flushes;
      error = outcome(failures_.flushes, 0, 0);
      if (error == 0) {
        if (on_write) on_write(0, 0);
        image_->durable = image_->current;
      } else {
        ++counts_.failed_flushes;
        if (failures_.drop) image_->drop_unflushed([lose = false]() mutable { return lose = !lose; });
      }
    }
    done(error);
  });
}

void FakeBackingDev::write_zeroes(std::uint64_t offset, std::uint64_t length, Completion done) {
  run([this, offset, length, done] {
    int error = 0;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.zeroes;
      error = outcome(failures_.zeroes, offset, length);
      std::byte* const to = image_->current.data() + offset;
      if (error == 0) {
        if (on_write) on_write(offset, length);
        std::memset(to, 0, length);
      } else if (failures_.tear) {
        torn(length, [&](std::uint64_t at) { std::memset(to + at, 0, kSectorSize); });
      }
    }
    done(error);
  });
}

BackingExtent FakeBackingDev::extent_at(std::uint64_t offset) const {
  if (!sparse) return BackingDev::extent_at(offset);
  BackingExtent found;
  {
    const std::lock_guard lock(mutex_);
    const auto is_data = [&](std::uint64_t at) {
      const auto block = std::span<const std::byte>(image_->current).subspan(at / kBlockSize * kBlockSize);
      const auto bytes = block.first(std::min<std::size_t>(block.size(), kBlockSize));
      return std::any_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte != std::byte{0}; });
    };
    found = {is_data(offset), offset};
    while (found.end < size_bytes() && is_data(found.end) == found.data) {
      found.end = std::min((found.end / kBlockSize + 1) * kBlockSize, size_bytes());
    }
  }
  if (on_extent) on_extent(found);
  return found;
}

void FakeBackingDev::fail(const Failures& failures) {
  const std::lock_guard lock(mutex_);
  failures_ = failures;
}

void FakeBackingDev::shrink(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  end_ = bytes;
}

void FakeBackingDev::grow_by(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  image_->grow(image_->current.size() + bytes);
}

void FakeBackingDev::hold(bool on) {
  const std::lock_guard lock(mutex_);
  hold_ = on;
}

std::size_t FakeBackingDev::held() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

bool FakeBackingDev::release_one(std::size_t which) {
  std::function<void()> operation;
  {
    const std::lock_guard lock(mutex_);
    if (which >= held_.size()) return false;
    const auto chosen = held_.begin() + static_cast<std::ptrdiff_t>(which);
    operation = std::move(*chosen);
    held_.erase(chosen);
  }
  operation();
  return true;
}

void FakeBackingDev::release_all() {
  while (release_one()) {
  }
}

FakeBackingDev::Counts FakeBackingDev::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void FakeBackingDev::reset_counts() {
  const std::lock_guard lock(mutex_);
  counts_ = Counts();
}

}  // namespace pcache
