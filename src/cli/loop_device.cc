#include "cli/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/unique_fd.h"
#include "cli/holders.h"

namespace pcache {

namespace fs = std::filesystem;

namespace {

constexpr int kAttempts = 20;  // somebody else may take the number that is free
constexpr std::chrono::milliseconds kSettle{100};
constexpr int kSettles = 50;

Status no_loop_devices(int error) {
  if (error == ENOENT) return Status(Errc::failed, "there is no /dev/loop-control: load the kernel's module loop");
  return Status::from_errno(error, "cannot use loop devices");
}

// Whether the loop device is on this file.
bool is_on(const std::string& device, const struct stat& file) {
  const UniqueFd fd(open(device.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info{};
  return fd && ioctl(fd.get(), LOOP_GET_STATUS64, &info) == 0 && info.lo_device == file.st_dev &&
         info.lo_inode == file.st_ino;
}

std::optional<std::string> loop_device_on(const struct stat& file) {
  std::error_code error;
  for (fs::directory_iterator entry("/sys/block", error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code none;
    if (!fs::exists(entry->path() / "loop/backing_file", none)) continue;
    const std::string device = "/dev/" + entry->path().filename().string();
    if (is_on(device, file)) return device;
  }
  return std::nullopt;
}

// Takes turns with others that look and attach. Not longer than that: the loop device keeps the open file.
class Turn {
 public:
  explicit Turn(int fd) : fd_(fd) { flock(fd_, LOCK_EX); }
  ~Turn() { flock(fd_, LOCK_UN); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const int fd_;
};

Result<std::string> configure(int file, const std::string& path, const LoopOptions& options) {
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return no_loop_devices(errno);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return no_loop_devices(errno);
    const std::string device = "/dev/loop" + std::to_string(number);
    const UniqueFd loop(open(device.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!loop) return Status::from_errno(errno, "cannot open " + device);
    loop_config config{};
    config.fd = static_cast<__u32>(file);
    config.block_size = options.sector_size;
    config.info.lo_flags = LO_FLAGS_DIRECT_IO | (options.read_only ? LO_FLAGS_READ_ONLY : 0) |
                           (options.scan_partitions ? LO_FLAGS_PARTSCAN : 0);
    path.copy(reinterpret_cast<char*>(config.info.lo_file_name), LO_NAME_SIZE - 1);
    if (ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (errno != EBUSY) return Status::from_errno(errno, "cannot make loop device " + device + " on " + path);
  }
  return Status(Errc::busy, "every loop device that was free was taken by others; try again");
}

}  // namespace

Result<std::optional<std::string>> find_loop_device(const std::string& file) {
  struct stat st {};
  if (stat(file.c_str(), &st) != 0) return Status::from_errno(errno, "cannot look at " + file);
  // Without it nothing is found, which is not the same as that there is nothing.
  if (access("/dev/loop-control", R_OK | W_OK) != 0) return no_loop_devices(errno);
  return loop_device_on(st);
}

Result<std::optional<std::string>> grow_loop_device(const std::string& file) {
  struct stat st {};
  if (stat(file.c_str(), &st) != 0) return Status::from_errno(errno, "cannot look at " + file);
  auto device = loop_device_on(st);
  if (!device) return device;
  const UniqueFd loop(open(device->c_str(), O_RDONLY | O_CLOEXEC));
  if (!loop || ioctl(loop.get(), LOOP_SET_CAPACITY, 0) != 0) {
    return Status::from_errno(errno, "cannot make " + *device + " longer");
  }
  return device;
}

std::string loop_device_file(const std::string& device) {
  std::ifstream file("/sys/block/" + fs::path(device).filename().string() + "/loop/backing_file");
  std::string path;
  std::getline(file, path);
  return path;
}

Result<std::string> attach_loop_device(const std::string& file, const LoopOptions& options) {
  const UniqueFd fd(open(file.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  struct stat st {};
  if (!fd || fstat(fd.get(), &st) != 0) return Status::from_errno(errno, "cannot open " + file);
  const Turn turn(fd.get());
  if (const auto there = loop_device_on(st)) return Status(Errc::busy, file + " is mapped already, as " + *there);
  return configure(fd.get(), file, options);
}

Status detach_loop_device(const std::string& device) {
  if (const auto holders = holders_of_device(device); !holders.empty()) {
    return Status(Errc::busy, device + " is in use: " + holders_text(holders));
  }
  {
    const UniqueFd loop(open(device.c_str(), O_RDONLY | O_CLOEXEC));
    if (!loop) return Status::from_errno(errno, "cannot open " + device);
    if (ioctl(loop.get(), LOOP_CLR_FD) != 0 && errno != ENXIO) {
      return Status::from_errno(errno, "cannot detach " + device);
    }
  }
  // Where somebody has opened it meanwhile, it goes with the last one that closes it.
  for (int i = 0; i < kSettles; ++i) {
    if (loop_device_file(device).empty()) return Status();
    std::this_thread::sleep_for(kSettle);
  }
  const auto holders = holders_of_device(device);
  return Status(Errc::busy,
                device + " goes when nobody uses it any more" + (holders.empty() ? "" : ": " + holders_text(holders)));
}

}  // namespace pcache
