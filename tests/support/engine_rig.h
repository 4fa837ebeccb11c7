// An engine over media in memory, with one logical device, stepped by hand: one thread, nothing happens by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "tests/support/fake_backing_dev.h"
#include "tests/support/memory_space.h"

namespace pcache {

struct RigShape {
  std::size_t cache_bytes = 8 << 20;
  std::size_t segment_bytes = 256 << 10;
  std::size_t device_bytes = 6 << 20;
  Granularity granularity = Granularity::cache_line;
  std::optional<Ack> ack;
  Settings settings = {};
  bool own_clock = false;  // time passes only as advance() says

  // For naming a test after it: "page_5120k_5123k_durable".
  std::string name() const;
};

void PrintTo(const RigShape& shape, std::ostream* out);

// What an operation on a logical device came to; watched by the test that started it.
struct Outcome {
  bool done = false;
  int error = -1;
  Completion completion() {
    return {[](void* context, int code) {
              auto* outcome = static_cast<Outcome*>(context);
              outcome->error = code;
              outcome->done = true;
            },
            this};
  }
};

class EngineRig {
 public:
  // Formats a cache device and adds a logical device "dev". Aborts the test program if that fails.
  explicit EngineRig(const RigShape& shape);

  // Both start an operation and step the engine until it has completed. Return its error, or -1 when stepping leads
  // nowhere.
  int read(std::uint64_t offset, std::span<std::byte> buffer);
  int write(std::uint64_t offset, std::span<const std::byte> data);
  int discard(std::uint64_t offset, std::uint64_t length);
  int flush();
  // The rig closes the epoch first, so that `on_epoch_closed` is called.
  int drain();

  // Switches the mode, and returns how that ended. The rig closes the epoch first, as in drain().
  Status switch_mode(const ModeChoice& to);
  // The device is kept on the medium without a backing, and brought up again with one. A reopen(), kill() or
  // power_cut() in between leaves it as it is.
  Status park();
  Status unpark();
  // Forgets the logical device, whatever it holds, and adds it anew.
  Status remove_and_add();

  // Closes the open epoch and makes it durable.
  Status commit();
  // One step of writeback and of reclaim, the epoch closed if there is none to write back. Returns whether there was
  // something to do.
  bool step();
  // How many bytes step() writes back at once.
  std::uint64_t step_bytes = WritebackPace::kUnlimited;

  // Time passes, for a rig with a clock of its own.
  void advance(std::uint64_t ms) { now_ms_ += ms; }
  std::uint64_t now_ms() const { return now_ms_; }
  // Steps until writes may take `segments` segments; false when that leads nowhere.
  bool make_room(std::uint32_t segments);

  // Closes in order and opens again.
  void reopen();
  // The process dies: what it stored stays, though page media may not have it yet.
  void kill();
  // The power goes, or has gone when space().was_cut(): then the backing has nothing of what came after. On page media
  // each page of the cache device is as it is now or as it was last synced, as `keep_page` decides; the backing loses
  // what was not flushed.
  void power_cut(const std::function<bool(std::size_t page)>& keep_page = [](std::size_t) { return true; });

  Cache& cache() { return *cache_; }
  CachedDevice& device() { return *device_; }
  MemorySpace& space() { return *space_; }
  FakeBackingDev& backing() { return *backing_; }
  BackingImage& backing_image() { return *backing_image_; }
  MemorySpace::Image& cache_image() { return *cache_image_; }
  // The two halves of reopen(), to let the test change the media in between.
  void close();
  void open();

  // Called with the number of each epoch when it closes, before anything of it is written back.
  std::function<void()> on_epoch_closed;

 private:
  int finish(const Outcome& outcome);
  std::unique_ptr<BackingDev> make_backing();

  const RigShape shape_;
  std::shared_ptr<MemorySpace::Image> cache_image_;
  std::shared_ptr<MemorySpace::Image> synced_image_;  // of the cache device, when it was opened
  std::shared_ptr<BackingImage> backing_image_;
  std::shared_ptr<BackingImage> backing_at_cut_;
  std::uint64_t now_ms_ = 1;
  MemorySpace* space_ = nullptr;
  FakeBackingDev* backing_ = nullptr;
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<CachedDevice> device_;
};

}  // namespace pcache
