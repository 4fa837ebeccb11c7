#include "tests/support/fake_backing_dev.h"

#include <cstring>

namespace pcache {

FakeBackingDev::FakeBackingDev(std::shared_ptr<BackingImage> image, std::string path, std::string id)
    : path_(std::move(path)), identity_{std::move(id), image->current.size()}, image_(std::move(image)) {}

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

void FakeBackingDev::read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) {
  run([this, offset, buffer, done] {
    int error = 0;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.reads;
      if (failures_.reads > 0) {
        --failures_.reads;
        error = failures_.error;
      } else {
        std::memcpy(buffer.data(), image_->current.data() + offset, buffer.size());
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
      if (failures_.writes > 0) {
        --failures_.writes;
        error = failures_.error;
      } else {
        std::uint64_t at = offset;
        for (const iovec& part : list) {
          if (on_write) on_write(at, part.iov_len);
          std::memcpy(image_->current.data() + at, part.iov_base, part.iov_len);
          at += part.iov_len;
        }
        counts_.written_bytes += at - offset;
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
      if (failures_.flushes > 0) {
        --failures_.flushes;
        error = failures_.error;
      } else {
        if (on_write) on_write(0, 0);
        image_->durable = image_->current;
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
      if (failures_.zeroes > 0) {
        --failures_.zeroes;
        error = failures_.error;
      } else {
        if (on_write) on_write(offset, length);
        std::memset(image_->current.data() + offset, 0, length);
      }
    }
    done(error);
  });
}

void FakeBackingDev::fail(const Failures& failures) {
  const std::lock_guard lock(mutex_);
  failures_ = failures;
}

void FakeBackingDev::hold(bool on) {
  const std::lock_guard lock(mutex_);
  hold_ = on;
}

std::size_t FakeBackingDev::held() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

bool FakeBackingDev::release_one() {
  std::function<void()> operation;
  {
    const std::lock_guard lock(mutex_);
    if (held_.empty()) return false;
    operation = std::move(held_.front());
    held_.pop_front();
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

}  // namespace pcache
