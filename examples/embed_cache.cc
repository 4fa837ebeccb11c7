// Embeds the engine without any mount: makes a cache device and a backing file, writes through the cache, and checks
// that the data can be read back and, after a drain, is in the backing file alone.
#include <stdlib.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <vector>

#include "pcache/device_manager.h"

namespace {

// Operations are asynchronous; this waits for one.
class Waiter {
 public:
  pcache::Completion completion() { return {&Waiter::done, this}; }

  // Returns 0 or an errno.
  int wait() {
    std::unique_lock lock(mutex_);
    completed_.wait(lock, [this] { return error_.has_value(); });
    return *error_;
  }

 private:
  static void done(void* context, int error) {
    auto* self = static_cast<Waiter*>(context);
    const std::lock_guard lock(self->mutex_);
    self->error_ = error;
    self->completed_.notify_one();  // with the lock held: the waiter may be gone once it is released
  }

  std::mutex mutex_;
  std::condition_variable completed_;
  std::optional<int> error_;
};

int fail(const std::string& what) {
  std::fprintf(stderr, "embed_cache: %s\n", what.c_str());
  return 1;
}

int run(const std::filesystem::path& dir) {
  const std::filesystem::path backing = dir / "backing";
  std::ofstream(backing).close();
  std::filesystem::resize_file(backing, 64 << 20);

  // A cache device: here an ordinary file, in production a device-DAX node or a file on persistent memory.
  pcache::FormatOptions format;
  format.size_bytes = 32 << 20;
  if (auto status = pcache::format_cache_dev(dir / "cache", format); !status.ok()) return fail(status.message());

  const auto manager = pcache::DeviceManager::create();
  if (auto status = manager->open_cache_dev(dir / "cache", {}); !status.ok()) return fail(status.message());
  if (auto status = manager->add("demo", backing, {}); !status.ok()) return fail(status.message());
  const auto device = manager->find("demo");
  if (!device) return fail("the logical device is not exposed");

  // Any offset and length will do; the buffers must live until the completion.
  constexpr std::uint64_t kOffset = 12345;
  std::vector<std::byte> written(1 << 20);
  for (std::size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i * 7 + i / 251);
  Waiter write;
  device->write(kOffset, written, write.completion());
  if (write.wait() != 0) return fail("the write failed");

  std::vector<std::byte> found(written.size());
  Waiter read;
  device->read(kOffset, found, read.completion());
  if (read.wait() != 0 || found != written) return fail("what was read is not what was written");

  // A flush makes writes survive power loss, in the cache; a drain brings them to the backing.
  if (device->drain(0) != 0) return fail("the drain failed");
  std::fill(found.begin(), found.end(), std::byte{});
  std::ifstream file(backing, std::ios::binary);
  file.seekg(kOffset);
  file.read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(found.size()));
  if (!file || found != written) return fail("the backing file lacks what was written");

  const pcache::LogicDevStats stats = device->stats();
  std::printf("%s: %llu bytes written, %llu written back, %llu dirty, %llu blocks read from the cache\n",
              stats.name.c_str(), 0ULL + stats.write_bytes, 0ULL + stats.written_back_bytes, 0ULL + stats.dirty_bytes,
              0ULL + stats.read_hits);
  return stats.dirty_bytes == 0 && stats.write_bytes == written.size() ? 0 : fail("the statistics do not add up");
}

}  // namespace

int main() {
  std::string dir = (std::filesystem::temp_directory_path() / "embed_cache-XXXXXX").string();
  if (mkdtemp(dir.data()) == nullptr) return fail("cannot make a directory in " + dir);
  const int result = run(dir);
  std::filesystem::remove_all(dir);
  return result;
}
