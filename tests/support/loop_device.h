// A loop device on a file, for tests that need a block device.
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/unique_fd.h"

namespace pcache {

// Detached by the kernel when the last one who has it open closes it, so also when the test dies.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, bool read_only, std::uint64_t offset = 0) {
    // Another may take the free one in between.
    for (int attempt = 0; attempt < 20 && !fd_; ++attempt) attach(file, read_only, offset);
  }

  // False: this system lets us have none; missing() says why.
  explicit operator bool() const { return static_cast<bool>(fd_); }
  const std::string& missing() const { return missing_; }
  const std::string& path() const { return path_; }

 private:
  void attach(const std::string& file, bool read_only, std::uint64_t offset) {
    const auto fail = [this](const std::string& what) { missing_ = what + ": " + std::strerror(errno); };
    const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return fail("no loop devices here: /dev/loop-control");
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail("no free loop device");
    path_ = "/dev/loop" + std::to_string(number);
    UniqueFd loop(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!loop) return fail("no loop devices here: " + path_);
    const UniqueFd backing(open(file.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!backing) return fail(file);
    loop_config config{};
    config.fd = static_cast<__u32>(backing.get());
    config.info.lo_offset = offset;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    if (ioctl(loop.get(), LOOP_CONFIGURE, &config) != 0) return fail("cannot set up " + path_);
    fd_ = std::move(loop);
  }

  UniqueFd fd_;
  std::string path_;
  std::string missing_;
};

}  // namespace pcache
