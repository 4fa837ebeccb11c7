#include "control/control_tree.h"

#include <algorithm>
#include <utility>

#include "base/no_throw.h"
#include "control/command_table.h"
#include "control/driver_terms.h"
#include "control/jobs.h"
#include "control/tree_files.h"

namespace pcache {

using nlohmann::json;

namespace {

constexpr const char* kLastError = "last_error";
constexpr const char* kCacheDev = "cache_dev";
constexpr const char* kBackingDev = "backing_dev";

// In a directory, 0 is the directory itself, then come its files.
constexpr unsigned kFileBits = 12;
constexpr unsigned kIdBits = 12;
constexpr unsigned kCacheShift = 32;  // beyond kRoot
constexpr std::uint64_t kMaxId = (std::uint64_t{1} << kIdBits) - 2;

std::uint64_t id_of(const json& object, const char* key) { return object.at(key).get<std::uint64_t>(); }

// The number after `prefix` in a name, or nothing.
std::optional<std::uint64_t> number_after(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  if (name.empty() || name.size() > 6 || (name.front() == '0' && name.size() > 1)) return std::nullopt;
  std::uint64_t number = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (number > kMaxId) return std::nullopt;
  return number;
}

}  // namespace

// What an inode number says.
struct ControlTree::Spot {
  std::uint64_t cache = 0;   // cache_dev_id + 1; 0: the tree itself
  std::uint64_t device = 0;  // backing_id + 1; 0: not in a backing device's directory
  std::uint64_t file = 0;    // its number in the table + 1; 0: the directory

  explicit Spot(std::uint64_t inode)
      : cache(inode >> kCacheShift & ((1U << kIdBits) - 1)),
        device(inode >> kFileBits & ((1U << kIdBits) - 1)),
        file(inode & ((1U << kFileBits) - 1)) {}
  std::uint64_t inode() const { return kRoot | cache << kCacheShift | device << kFileBits | file; }

  const std::vector<TreeFile>& files() const {
    return cache == 0 ? tree_root_files() : device == 0 ? tree_cache_files() : tree_backing_files();
  }
  // Only the tree itself has one file more: it tells of the tree.
  bool is_last_error() const { return cache == 0 && file == files().size() + 1; }
  bool is_valid() const { return file <= files().size() + (cache == 0 ? 1 : 0) && (cache != 0 || device == 0); }

  TreeNode node() const {
    if (is_last_error()) return {inode(), kLastError, false, true, false, false};
    const TreeFile& entry = files()[file - 1];
    return {inode(), entry.name, false, entry.read != nullptr, entry.write != nullptr, entry.remove != nullptr};
  }
  TreeNode directory(std::string name) const { return {inode(), std::move(name), true, true, false, false}; }
};

ControlTree::ControlTree(const CommandContext& context, Run soon, Run later, std::function<void()> changed)
    : context_(context), soon_(std::move(soon)), later_(std::move(later)), changed_(std::move(changed)) {}

TreePlace ControlTree::look() const {
  json status = run_command(*find_command("status"), context_, json::object()).value();
  return {context_, without_missing(std::move(status)), nullptr, nullptr};
}

// Whether what the inode is in is there.
bool ControlTree::enter(const Spot& spot, TreePlace& place) const {
  if (spot.cache == 0) return true;
  for (const json& cache : place.status.at("cache_devs")) {
    if (id_of(cache, "cache_dev_id") + 1 == spot.cache) place.cache = &cache;
  }
  if (place.cache == nullptr || spot.device == 0) return place.cache != nullptr;
  for (const json& device : place.status.at("logic_devs")) {
    if (device.at("cache_dev") == place.cache->at("label") && id_of(device, "backing_id") + 1 == spot.device) {
      place.device = &device;
    }
  }
  return place.device != nullptr;
}

std::optional<TreeNode> ControlTree::find(std::uint64_t inode) const {
  const Spot spot(inode);
  TreePlace place = look();
  if (spot.inode() != inode || !spot.is_valid() || !enter(spot, place)) return std::nullopt;
  if (spot.file != 0) return spot.node();
  if (spot.device != 0) return spot.directory(kBackingDev + std::to_string(spot.device - 1));
  if (spot.cache != 0) return spot.directory(kCacheDev + std::to_string(spot.cache - 1));
  return spot.directory(kName);
}

std::optional<TreeNode> ControlTree::lookup(std::uint64_t parent, std::string_view name) const {
  Spot spot(parent);
  if (spot.file != 0 || !spot.is_valid()) return std::nullopt;
  const auto id = number_after(spot.cache == 0 ? kCacheDev : kBackingDev, name);
  if (id && spot.device == 0) {
    (spot.cache == 0 ? spot.cache : spot.device) = *id + 1;
    return find(spot.inode());
  }
  const auto& files = spot.files();
  const auto file = std::find_if(files.begin(), files.end(), [name](const TreeFile& f) { return f.name == name; });
  if (file == files.end() && (spot.cache != 0 || name != kLastError)) return std::nullopt;
  spot.file = static_cast<std::uint64_t>(file - files.begin()) + 1;
  return find(spot.inode());
}

std::optional<std::uint64_t> ControlTree::directory_of(const std::string& logic_dev) const {
  const TreePlace place = look();
  Spot spot(kRoot);
  for (const json& device : place.status.at("logic_devs")) {
    if (device.at("name") != logic_dev) continue;
    spot.device = id_of(device, "backing_id") + 1;
    for (const json& cache : place.status.at("cache_devs")) {
      if (cache.at("label") == device.at("cache_dev")) spot.cache = id_of(cache, "cache_dev_id") + 1;
    }
  }
  if (spot.cache == 0) return std::nullopt;
  return spot.inode();
}

std::vector<TreeNode> ControlTree::list(std::uint64_t directory) const {
  std::vector<TreeNode> nodes;
  Spot spot(directory);
  TreePlace place = look();
  if (spot.file != 0 || !spot.is_valid() || !enter(spot, place)) return nodes;
  for (spot.file = 1; spot.is_valid(); ++spot.file) nodes.push_back(spot.node());
  spot.file = 0;
  if (spot.device != 0) return nodes;
  if (spot.cache == 0) {
    for (const json& cache : place.status.at("cache_devs")) {
      spot.cache = id_of(cache, "cache_dev_id") + 1;
      nodes.push_back(spot.directory(kCacheDev + std::to_string(spot.cache - 1)));
    }
  } else {
    for (const json& device : place.status.at("logic_devs")) {
      if (device.at("cache_dev") != place.cache->at("label")) continue;
      spot.device = id_of(device, "backing_id") + 1;
      nodes.push_back(spot.directory(kBackingDev + std::to_string(spot.device - 1)));
    }
  }
  return nodes;
}

Result<std::string> ControlTree::read(std::uint64_t inode) const {
  const Spot spot(inode);
  TreePlace place = look();
  if (!spot.is_valid() || spot.file == 0 || !enter(spot, place)) {
    return Status(Errc::not_found, "there is no such file any more");
  }
  if (spot.is_last_error()) {
    const std::lock_guard lock(mutex_);
    return last_error_.empty() ? last_error_ : last_error_ + "\n";
  }
  const TreeFile& file = spot.files()[spot.file - 1];
  if (file.read == nullptr) return Status(Errc::permission, file.name + " is only for writing");
  auto value = file.read(place);
  if (value) *value += "\n";
  return value;
}

void ControlTree::write(std::uint64_t inode, const std::string& text, Done done) {
  const Spot spot(inode);
  TreePlace place = look();
  if (!spot.is_valid() || spot.file == 0 || !enter(spot, place)) {
    return done(Status(Errc::not_found, "there is no such file any more"));
  }
  const std::string path = path_of(spot, spot.node().name);
  if (spot.is_last_error() || spot.files()[spot.file - 1].write == nullptr) {
    return carry_out(path, Status(Errc::permission, "it is only for reading"), std::move(done));
  }
  if (text.size() > kMaxText) {
    const Status too_long(Errc::invalid, "what is written is longer than " + std::to_string(kMaxText) + " bytes");
    return carry_out(path, too_long, std::move(done));
  }
  carry_out(path, spot.files()[spot.file - 1].write(place, text), std::move(done));
}

void ControlTree::remove(std::uint64_t parent, std::string_view name, Done done) {
  const auto node = lookup(parent, name);
  if (!node) return done(Status(Errc::not_found, "there is no such file"));
  const Spot spot(node->inode);
  TreePlace place = look();
  if (!node->removable || !enter(spot, place)) {
    return done(Status(Errc::permission, node->name + " cannot be removed"));
  }
  carry_out(path_of(spot, node->name), spot.files()[spot.file - 1].remove(place), std::move(done));
}

std::string ControlTree::path_of(const Spot& spot, const std::string& name) {
  std::string path = std::string(kName) + "/";
  if (spot.cache != 0) path += kCacheDev + std::to_string(spot.cache - 1) + "/";
  if (spot.device != 0) path += kBackingDev + std::to_string(spot.device - 1) + "/";
  return path + name;
}

void ControlTree::carry_out(const std::string& what, const Result<TreeOrder>& order, Done done) {
  const Done tell = [this, what, done = std::move(done)](const Status& status) {
    const Status told = status.ok() ? status : status.with_prefix(what);
    if (!told.ok()) note(told.message());
    done(told);
  };
  if (!order) return tell(order.status());
  const Command& command = *find_command(order->command);
  if (command.pace != Pace::slow) return run_and_tell(command, order->args, tell);
  const bool begun = later_([this, &command, args = order->args, tell] { run_and_tell(command, args, tell); });
  if (!begun) tell(Status(Errc::failed, "out of memory"));
}

void ControlTree::run_and_tell(const Command& command, const json& args, const Done& done) {
  const auto reply = no_throw(command.name, [&] { return run_command(command, context_, args); });
  if (!reply || command.pace != Pace::job) {
    changed_();
    return done(reply.status());
  }
  const Status awaited = context_.jobs.when_ended(reply->at("job").get<std::uint64_t>(), [this, done](const Status& s) {
    changed_();
    done(s);
  });
  if (!awaited.ok()) done(awaited);
}

void ControlTree::note(const std::string& error) {
  const std::lock_guard lock(mutex_);
  last_error_ = error;
  std::replace(last_error_.begin(), last_error_.end(), '\n', ' ');
}

}  // namespace pcache
