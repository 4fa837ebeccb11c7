// The reference for the mount's own cost: the product's transport and operations over a logical device that only copies
// from and to populated memory. usage: null_fuse MNT SIZE_MIB [THREADS]; serves MNT/null until unmounted or signalled.

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/unique_fd.h"
#include "base/units.h"
#include "mount/fuse_ops.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

class NullDev : public LogicDev {
 public:
  explicit NullDev(std::uint64_t size_bytes) : size_bytes_(size_bytes) {
    void* memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("null_fuse: cannot populate memory");
      std::exit(1);
    }
    memory_ = static_cast<std::byte*>(memory);
  }
  ~NullDev() override { munmap(memory_, size_bytes_); }

  const std::string& name() const override { return name_; }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::uint64_t inode() const override { return 2; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    std::memcpy(buffer.data(), memory_ + offset, buffer.size());
    done(0);
  }
  void write(std::uint64_t offset, std::span<const std::byte> data, Completion done) override {
    std::memcpy(memory_ + offset, data.data(), data.size());
    done(0);
  }
  void flush(Completion done) override { done(0); }
  void discard(std::uint64_t offset, std::uint64_t length, Completion done) override {
    std::memset(memory_ + offset, 0, length);
    done(0);
  }
  int drain(std::uint64_t) override { return 0; }
  LogicDevStats stats() const override { return {}; }

 private:
  const std::string name_ = "null";
  const std::uint64_t size_bytes_;
  std::byte* memory_;
};

class NullManager : public DeviceManager {
 public:
  explicit NullManager(std::uint64_t size_bytes) : device_(std::make_shared<NullDev>(size_bytes)) {}

  Status open_cache_dev(const std::string&, const CacheOptions&) override { return unsupported(); }
  Status add(const std::string&, const std::string&, const AddOptions&) override { return unsupported(); }
  Status remove(const std::string&) override { return unsupported(); }
  Status flush(const std::string&) override { return unsupported(); }
  std::shared_ptr<LogicDev> find(const std::string& name) const override {
    return name == device_->name() ? device_ : nullptr;
  }
  std::shared_ptr<LogicDev> find_inode(std::uint64_t inode) const override {
    return inode == device_->inode() ? device_ : nullptr;
  }
  std::vector<std::shared_ptr<LogicDev>> list() const override { return {device_}; }
  StatusReport status() const override { return {}; }

 private:
  static Status unsupported() { return Status(Errc::invalid, "the null server has one fixed device"); }

  const std::shared_ptr<LogicDev> device_;
};

int serve(const std::string& mount_point, std::uint64_t size_bytes, int threads) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));

  NullManager manager(size_bytes);
  FuseOptions options;
  options.threads = threads;
  auto mount = FuseMount::mount(mount_point, options, manager);
  if (!mount) {
    std::fprintf(stderr, "null_fuse: %s\n", mount.status().message().c_str());
    return 1;
  }
  (*mount)->start();
  pollfd events[] = {{signal_fd.get(), POLLIN, 0}, {(*mount)->ended_fd(), POLLIN, 0}};
  while (poll(events, 2, -1) < 0 && errno == EINTR) {
  }
  (*mount)->stop();
  (*mount)->unmount();
  return 0;
}

}  // namespace
}  // namespace pcache

int main(int argc, char** argv) {
  const long long mib = argc >= 3 ? std::atoll(argv[2]) : 0;
  const int threads = argc >= 4 ? std::atoi(argv[3]) : pcache::Transport::kDefaultThreads;
  if (argc < 3 || argc > 4 || mib <= 0 || threads <= 0) {
    std::fprintf(stderr, "usage: null_fuse MNT SIZE_MIB [THREADS]\n");
    return 2;
  }
  return pcache::serve(argv[1], static_cast<std::uint64_t>(mib) * pcache::kMiB, threads);
}
