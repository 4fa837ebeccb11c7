// Getting out of a cache device what only it has, onto an image of the whole logical device.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "base/no_throw.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "cache/cache.h"
#include "device/damage_teller.h"
#include "device/open_to_inspect.h"
#include "pcache/backing_dev.h"
#include "pcache/inspect.h"

namespace pcache {
namespace {

bool read_fully(int fd, std::uint64_t offset, std::span<std::byte> buffer) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n = pread(fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

// The backing for reading only; none, with the reason, where it is not the recorded one. One that the caller names may
// be another device, but must not be shorter.
Result<UniqueFd> open_backing(const DeviceRecord& record, const std::string& given, std::string& why_none) {
  const std::string path = given.empty() ? record.backing_path.data() : given;
  const auto identity = probe_backing(path);
  if (!identity) {
    if (!given.empty()) return identity.status();
    why_none = identity.status().message();
    return UniqueFd();
  }
  if (identity->size_bytes < record.size_bytes) {
    const std::string sizes = "backing device " + path + " has " + std::to_string(identity->size_bytes) +
                              " bytes, the logical device has " + std::to_string(record.size_bytes);
    if (!given.empty()) return Status(Errc::invalid, sizes);
    why_none = sizes;
    return UniqueFd();
  }
  if (given.empty() && identity->id != record.backing_id.data()) {
    why_none = path + " is another device than the one that was added (" + identity->id + " instead of " +
               record.backing_id.data() + "); name it with --backing if it is the right one";
    return UniqueFd();
  }
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Status::from_errno(errno, "cannot open backing device " + path);
  return fd;
}

// A file that is removed again unless keep() was called.
class Image {
 public:
  static Result<std::unique_ptr<Image>> create(const std::string& path, std::uint64_t size_bytes) {
    UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) return Status::from_errno(errno, "cannot make image " + path);
    auto image = std::make_unique<Image>(path, std::move(fd));
    if (ftruncate(image->fd_.get(), static_cast<off_t>(size_bytes)) != 0) return image->failed();
    return image;
  }
  Image(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  ~Image() {
    if (!kept_) unlink(path_.c_str());
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // Writes the blocks of `content` that are not all zeroes: the others stay holes.
  Status write(std::uint64_t offset, std::span<const std::byte> content) {
    while (!content.empty()) {
      std::size_t length = 0;
      while (length < content.size() && !is_zero(block_at(content, length))) {
        length += block_at(content, length).size();
      }
      for (std::size_t done = 0; done < length;) {
        const ssize_t n = pwrite(fd_.get(), content.data() + done, length - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed();
        done += static_cast<std::size_t>(n);
      }
      if (length < content.size()) length += block_at(content, length).size();  // the one of zeroes
      content = content.subspan(length);
      offset += length;
    }
    return Status();
  }
  Status keep() {
    if (fsync(fd_.get()) != 0) return failed();
    kept_ = true;
    return Status();
  }

 private:
  static std::span<const std::byte> block_at(std::span<const std::byte> content, std::size_t at) {
    return content.subspan(at, std::min<std::size_t>(kBlockSize, content.size() - at));
  }
  static bool is_zero(std::span<const std::byte> block) {
    return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
  }
  Status failed() const { return Status::from_errno(errno, "cannot write image " + path_); }

  const std::string path_;
  const UniqueFd fd_;
  bool kept_ = false;
};

// Goes through the logical device window by window.
class Salvager {
 public:
  Salvager(CachedDevice& device, int backing, const std::function<void(const Damage&)>& report)
      : device_(device), backing_(backing), report_(report), buffer_(kWindowBlocks * kBlockSize) {}

  Status run(Image& image, SalvageReport& found);

 private:
  using State = CachedDevice::BlockState;
  // What is missing of a block, nothing when it is in `out`.
  std::optional<DamageKind> fetch(std::uint64_t block, std::span<std::byte> out, bool from_backing);
  void read_backing(std::uint64_t offset, std::span<std::byte> window);
  void tell_missing(std::uint64_t block, DamageKind kind);
  void tell_run();

  CachedDevice& device_;
  const int backing_;  // -1: none
  const std::function<void(const Damage&)>& report_;
  std::vector<std::byte> buffer_;
  std::vector<bool> on_backing_ = std::vector<bool>(kWindowBlocks);  // which blocks of the window were read from there
  std::uint64_t dirty_bytes_ = 0;
  std::uint64_t missing_bytes_ = 0;
  std::uint64_t damages_ = 0;
  DamageKind kind_ = DamageKind::backing;  // of the run of blocks that are missing
  std::uint64_t run_first_ = 0;
  std::uint64_t run_count_ = 0;
};

Status Salvager::run(Image& image, SalvageReport& found) {
  const std::uint64_t size = device_.size_bytes();
  for (std::uint64_t begin = 0; begin < size; begin += kWindowBlocks * kBlockSize) {
    const std::span<std::byte> window(buffer_.data(), std::min<std::uint64_t>(buffer_.size(), size - begin));
    std::fill(window.begin(), window.end(), std::byte{0});
    read_backing(begin, window);
    for (std::uint64_t at = 0; at < window.size(); at += kBlockSize) {
      const auto out = window.subspan(at, std::min<std::size_t>(kBlockSize, window.size() - at));
      const std::uint64_t block = (begin + at) / kBlockSize;
      if (const auto missing = fetch(block, out, on_backing_[at / kBlockSize])) {
        std::fill(out.begin(), out.end(), std::byte{0});
        missing_bytes_ += out.size();
        tell_missing(block, *missing);
      }
    }
    if (Status status = image.write(begin, window); !status.ok()) return status;
  }
  tell_run();
  found.dirty_bytes = dirty_bytes_;
  found.missing_bytes = missing_bytes_;
  found.damages += damages_;
  return Status();
}

// As much of the window as can be read; block by block where not all of it can.
void Salvager::read_backing(std::uint64_t offset, std::span<std::byte> window) {
  const bool whole = backing_ >= 0 && read_fully(backing_, offset, window);
  std::fill(on_backing_.begin(), on_backing_.end(), whole);
  if (whole || backing_ < 0) return;
  for (std::size_t at = 0; at < window.size(); at += kBlockSize) {
    const auto block = window.subspan(at, std::min<std::size_t>(kBlockSize, window.size() - at));
    on_backing_[at / kBlockSize] = read_fully(backing_, offset + at, block);
  }
}

// Clean data is taken from the backing where it can be: on a failed device a newer clean value may be hidden by damage.
std::optional<DamageKind> Salvager::fetch(std::uint64_t block, std::span<std::byte> out, bool from_backing) {
  const State state = device_.block_state(block);
  switch (state.kind) {
    case State::Kind::lost:
      return DamageKind::lost_data;
    case State::Kind::zero:
      std::fill(out.begin(), out.end(), std::byte{0});
      dirty_bytes_ += out.size();
      return std::nullopt;
    case State::Kind::absent:
      break;
    case State::Kind::cell:
      if (!state.dirty && from_backing) return std::nullopt;
      std::array<std::byte, kBlockSize> cell;
      if (!device_.read_cell(state.slot, state.crc, cell.data())) {
        return state.dirty ? DamageKind::dirty_data : DamageKind::backing;
      }
      std::copy_n(cell.begin(), out.size(), out.begin());
      if (state.dirty) dirty_bytes_ += out.size();
      return std::nullopt;
  }
  return from_backing ? std::nullopt : std::optional(DamageKind::backing);
}

void Salvager::tell_missing(std::uint64_t block, DamageKind kind) {
  if (run_count_ == 0 || kind != kind_ || block != run_first_ + run_count_) {
    tell_run();
    kind_ = kind;
    run_first_ = block;
    run_count_ = 0;
  }
  ++run_count_;
}

void Salvager::tell_run() {
  if (run_count_ == 0) return;
  Damage damage;
  damage.kind = kind_;
  damage.logic_dev = device_.name();
  damage.range = range_of(run_first_, run_count_, device_.size_bytes());
  damage.dirty = kind_ != DamageKind::backing;
  damage.detail = damage.dirty    ? "dirty data is damaged, and nothing else has it"
                  : backing_ >= 0 ? "the backing device cannot be read here"
                                  : "there is no backing device, and the cache does not have it";
  ++damages_;
  report_(damage);
  run_count_ = 0;
}

Result<SalvageReport> salvage(const std::string& path, const std::string& name, const SalvageOptions& options,
                              const std::function<void(const Damage&)>& report) {
  auto cache_dev = open_to_inspect(path);
  if (!cache_dev) return cache_dev.status();
  auto cache = Cache::open(std::move(*cache_dev), CacheOptions());
  if (!cache) return cache.status();
  const std::vector<CacheDev::Device> devices = (*cache)->cache_dev().devices();
  const auto device = std::find_if(devices.begin(), devices.end(),
                                   [&](const CacheDev::Device& d) { return name == d.record.name.data(); });
  if (device == devices.end()) {
    return Status(Errc::not_found, "cache device " + path + " has no logical device " + name);
  }
  SalvageReport found;
  found.size_bytes = device->record.size_bytes;
  const auto backing = open_backing(device->record, options.backing, found.backing_detail);
  if (!backing) return backing.status();
  if (*backing) found.backing = options.backing.empty() ? device->record.backing_path.data() : options.backing;
  const auto attached = (*cache)->attach(*device, nullptr);
  if (!attached) return attached.status();
  const auto image = Image::create(options.image, found.size_bytes);
  if (!image) return image.status();

  // What hides data, before what is missing for sure.
  const std::function<void(const Damage&)> of_this = [&](const Damage& damage) {
    if (damage.harmless || (!damage.logic_dev.empty() && damage.logic_dev != name)) return;
    ++found.damages;
    report(damage);
  };
  DamageTeller teller(devices, of_this);
  teller.check_segments((*cache)->cache_dev());
  teller.check_log(**attached);
  if (Status status = Salvager(**attached, backing->get(), report).run(**image, found); !status.ok()) return status;
  if (Status status = (*image)->keep(); !status.ok()) return status;
  return found;
}

}  // namespace

Result<SalvageReport> salvage_logic_dev(const std::string& path, const std::string& name, const SalvageOptions& options,
                                        const std::function<void(const Damage&)>& report) {
  return no_throw("cannot salvage from " + path, [&] { return salvage(path, name, options, report); });
}

}  // namespace pcache
