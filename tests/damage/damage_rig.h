// A cache device with a history, damaged in many ways: what a reader is told afterwards is right, or an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "media/key_record.h"
#include "tests/support/fake_backing_dev.h"

namespace pcache {

// How the history ends.
enum class Ending { closed, killed };

struct DamageShape {
  Granularity granularity = Granularity::cache_line;
  Ending ending = Ending::closed;
  std::uint64_t windows = 1;  // of the device; with several, they belong to two streams

  std::string name() const;
};

void PrintTo(const DamageShape& shape, std::ostream* out);

// What became of the images: if all of them were refused, nothing would be proved.
struct DamageCounts {
  std::uint64_t images = 0;
  std::uint64_t forged = 0;     // with fields changed and checksums made right
  std::uint64_t refused = 0;    // the cache device did not open, or the logical device was not there
  std::uint64_t failed = 0;     // the logical device was failed
  std::uint64_t partly = 0;     // some blocks gave an error
  std::uint64_t unharmed = 0;   // everything could be read
  std::uint64_t forgotten = 0;  // of all, those that had lost what looks like torn by a crash
};

// The bytes of a medium. What is stored after mark() can be taken back.
class UndoImage {
 public:
  explicit UndoImage(std::size_t size) : bytes_(size) {}

  std::size_t size() const { return bytes_.size(); }
  const std::byte* data() const { return bytes_.data(); }
  void store(std::size_t offset, const void* source, std::size_t length);
  void mark() { marked_ = true; }
  void roll_back();

 private:
  struct Saved {
    std::size_t offset;
    std::vector<std::byte> content;
  };
  std::vector<std::byte> bytes_;
  bool marked_ = false;
  std::vector<Saved> saved_;
};

class DamageRig {
 public:
  // Makes a history of random operations.
  DamageRig(const DamageShape& shape, std::uint64_t seed);

  // Damages the image, opens it, reads all, writes all back, opens it again and reads all; then takes everything back.
  // Returns what is wrong, and what was damaged; empty when nothing is wrong.
  std::string try_image(std::uint64_t seed, DamageCounts& counts);

 private:
  // The device's hot blocks are the ones with a history: as many at the beginning of each window. A sector is filled
  // with one 8-byte value; Values has one for each sector of each hot block.
  using Values = std::vector<std::uint64_t>;

  struct Engine {
    std::unique_ptr<Cache> cache;
    std::shared_ptr<CachedDevice> device;
    std::string error;  // why there is none
  };

  // A record of the log as the history left it.
  struct Logged {
    KeyRecord record{};
    std::uint64_t record_offset = 0;
    std::uint64_t cell_offset = 0;
    std::uint32_t segment = 0;
    bool in_head = false;  // in the last segment of its stream
    bool unreadable = false;
    bool bad_cell = false;
  };
  using Log = std::vector<Logged>;  // of one stream, by LSN

  Engine open(bool add);
  void make_history(std::mt19937_64& random);
  void read_log();

  std::string damage(std::mt19937_64& random);
  std::string damage_once(std::mt19937_64& random);
  std::string forge(std::mt19937_64& random);
  std::uint64_t some_offset(std::mt19937_64& random) const;
  const Logged* some_record(std::mt19937_64& random) const;
  void store(std::uint64_t offset, const std::vector<std::byte>& bytes);
  std::vector<std::byte> bytes_at(std::uint64_t offset, std::size_t length) const;

  void compare_log();
  std::uint64_t newest_epoch() const;
  bool is_gone(const Logged& logged, std::uint64_t newest) const;
  bool looks_torn(const Log& log, std::size_t at, std::uint64_t newest) const;
  // What each sector has to be, when it can be read. `keep_clean`: with what looks torn and was written back.
  Values expected(bool& forgotten, bool keep_clean) const;

  // Reads each hot block; nothing where that gives an error.
  std::vector<std::optional<Values>> read_all(Engine& engine) const;
  std::string check(Engine& engine, const Values& values, const Values& others, std::vector<bool>& errors) const;
  std::string run(bool forged, DamageCounts& counts);

  std::uint64_t hot_blocks() const { return kHotBlocks; }
  std::uint64_t block_of(std::uint64_t hot) const;
  std::optional<std::uint64_t> hot_of(std::uint64_t block) const;
  std::size_t bytes_of(std::uint64_t hot) const;  // of the device: less than a block at its end
  std::vector<std::byte> new_content(std::uint64_t length);

  static constexpr std::uint64_t kHotBlocks = 48;
  const DamageShape shape_;
  const std::size_t device_bytes_;
  UndoImage image_;
  std::shared_ptr<BackingImage> backing_;
  BackingImage backing_before_{0};
  std::vector<std::byte> before_;  // the image without damage
  Geometry geometry_;
  std::uint32_t tag_ = 0;
  std::uint64_t clean_epoch_ = 0;
  std::vector<Log> logs_;
  Values latest_;
  std::uint64_t next_value_ = 1;
};

}  // namespace pcache
