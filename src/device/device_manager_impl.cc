#include "device/device_manager_impl.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "base/no_throw.h"
#include "base/size_text.h"
#include "device/open_space.h"

namespace pcache {
namespace {

// How often a backing that was not there is looked for.
constexpr std::chrono::milliseconds kAttachInterval{5000};

// Two names of one file, or two nodes of one block device.
bool same_file(const std::string& a, const std::string& b) {
  struct stat x {};
  struct stat y {};
  if (stat(a.c_str(), &x) != 0 || stat(b.c_str(), &y) != 0) return false;
  if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode)) return x.st_rdev == y.st_rdev;
  return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// How the identities of files on a filesystem begin.
std::string identities_on(dev_t filesystem) {
  return "file:dev:" + std::to_string(major(filesystem)) + ":" + std::to_string(minor(filesystem)) + ":";
}

// Exposed: it answers reads and writes, or says EIO because its log is damaged.
bool is_exposed(const CachedDevice& device) { return device.serves(); }

// Whether what is at `path` may be the backing of the device. Errors: failed, saying what differs.
Status check_is_recorded(const BackingIdentity& found, const DeviceRecord& record, const std::string& path) {
  if (found.size_bytes < record.size_bytes) {
    return Status(Errc::failed, "backing device " + path + " has " + std::to_string(found.size_bytes) +
                                    " bytes, the logical device has " + std::to_string(record.size_bytes));
  }
  if (found.id != record.backing_id.data()) {
    return Status(Errc::failed, path + " is another device than the one that was added (" + found.id + " instead of " +
                                    record.backing_id.data() + ")");
  }
  return Status();
}

Result<std::unique_ptr<BackingDev>> open_recorded(const DeviceRecord& record) {
  if (is_parked(record)) return Status(Errc::failed, "removed with --no-flush; add it again to use it");
  const std::string path = record.backing_path.data();
  auto opened = open_backing_dev(path);
  if (!opened) return opened.status();
  if (Status fits = check_is_recorded((*opened)->identity(), record, path); !fits.ok()) return fits;
  return opened;
}

Status lost_data(const std::string& name, std::uint64_t lost_bytes) {
  return Status(Errc::integrity, "logical device " + name + " has lost " + format_size(lost_bytes) +
                                     " that the backing device does not have; write those blocks again");
}

// Why not everything is on the backing.
Status drain_failure(const CachedDevice& device) {
  const LogicDevStats stats = device.stats();
  if (stats.state == "failed") {
    return Status(Errc::integrity, "logical device " + stats.name + " failed: " + stats.detail);
  }
  if (!is_exposed(device)) {
    return Status(Errc::dirty, "logical device " + stats.name + " holds " + format_size(stats.dirty_bytes) +
                                   " that cannot be written back: " + stats.detail);
  }
  if (stats.lost_bytes != 0) return lost_data(stats.name, stats.lost_bytes);
  return Status(Errc::failed, "backing device " + stats.backing + " did not take all data of logical device " +
                                  stats.name + ": " + format_size(stats.dirty_bytes) +
                                  " are only in the cache; see the log, then retry");
}

// Whether somebody but the logical devices themselves says what they keep.
bool promises_share_min(const CacheOptions& options) {
  const auto promises = [](const Settings& settings) { return settings.has(Setting::share_min); };
  const auto& by_name = options.configured.by_name;
  return promises(options.settings) || promises(options.configured.all) ||
         std::any_of(by_name.begin(), by_name.end(), [&](const auto& one) { return promises(one.second); });
}

}  // namespace

std::unique_ptr<DeviceManager> DeviceManager::create() { return std::make_unique<DeviceManagerImpl>(); }

DeviceManagerImpl::DeviceManagerImpl()
    : attacher_("attach", [this] {
        (void)no_throw("cannot attach", [this] {
          attach_missing();
          return Status();
        });
        return kAttachInterval;
      }) {}

DeviceManagerImpl::~DeviceManagerImpl() {
  attacher_.stop();
  entries_.clear();
  caches_.clear();
}

// What is in the mount that this process serves can be nothing that it is made of.
Status DeviceManagerImpl::check_outside(const std::string& path) const {
  struct stat st {};
  const bool there = stat(path.c_str(), &st) == 0;
  const std::shared_lock lock(mutex_);
  if (!there || !excluded_ || *excluded_ != st.st_dev) return Status();
  return Status(Errc::busy, path + " lies in this mount itself; it cannot be a cache device of it");
}

Status DeviceManagerImpl::format_cache_dev(const std::string& path, const FormatOptions& options) {
  if (Status status = check_outside(path); !status.ok()) return status;
  const std::string label = label_of_new(path, options);
  {
    const std::shared_lock lock(mutex_);
    for (const auto& open : caches_) {
      if (open->cache_dev().label() != label || open->cache_dev().space().path() == path) continue;
      return Status(Errc::invalid, "this mount has a cache device with the label " + label + " already, " +
                                       open->cache_dev().space().path() + "; give " + path + " another label");
    }
  }
  return pcache::format_cache_dev(path, options);
}

Status DeviceManagerImpl::open_cache_dev(const std::string& path, const CacheOptions& options) {
  return no_throw("cannot open cache device " + path, [&] { return open_checked(path, options); });
}

// What is set up takes itself down again when it fails: the cache device is known to others only when all is done.
Status DeviceManagerImpl::open_checked(const std::string& path, const CacheOptions& options) {
  const std::lock_guard change(change_mutex_);
  if (Status status = check_cache_options(options); !status.ok()) return status;
  if (Status status = check_outside(path); !status.ok()) return status;
  auto space = open_cache_space(path);
  if (!space) return space.status();
  if (Status status = Cache::check_ack(options, **space); !status.ok()) return status;
  auto cache_dev = CacheDev::open(std::move(*space));
  if (!cache_dev) return cache_dev.status();
  const std::string label = (*cache_dev)->label();
  if (!options.label.empty() && options.label != label) {
    return Status(Errc::invalid, "cache device " + path + " has the label " + label + ", and not " + options.label);
  }
  auto cache = Cache::open(std::move(*cache_dev), options);
  if (!cache) return cache.status();
  const std::vector<CacheDev::Device> devices = (*cache)->cache_dev().devices();
  {
    const std::shared_lock lock(mutex_);
    for (const auto& open : caches_) {
      if (open->cache_dev().label() == label) {
        return Status(Errc::invalid, "cache devices " + open->cache_dev().space().path() + " and " + path +
                                         " have the same label " + label + "; mount them separately");
      }
    }
    for (const CacheDev::Device& device : devices) {
      const std::string name = device.record.name.data();
      const bool taken =
          std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.device->name() == name; });
      if (taken) {
        return Status(Errc::invalid, "cache device " + path + " holds a logical device " + name +
                                         ", and so does another one of this mount; mount them separately");
      }
    }
  }
  OpenCache open(std::move(*cache), free_cache_id());
  std::vector<Entry> attached;
  if (on_recovery_) {
    open->on_replay([this, label](std::uint64_t done, std::uint64_t segments) {
      on_recovery_({label, done, segments});
    });
  }
  for (const CacheDev::Device& device : devices) {
    auto entry = bring_up(open.use(), device, open_recorded(device.record));
    if (!entry) return entry.status();
    attached.push_back(std::move(*entry));
  }
  open->on_replay(nullptr);
  if (promises_share_min(options)) {
    if (Status status = open->check_share_min(nullptr, 0); !status.ok()) return status;
  }
  open->start();
  for (const Entry& entry : attached) {
    if (is_exposed(*entry.device)) entry.device->follow_configured_mode();
  }
  if (!attacher_.running()) attacher_.start();
  const std::unique_lock lock(mutex_);
  caches_.reserve(caches_.size() + 1);
  entries_.reserve(entries_.size() + attached.size());
  caches_.push_back(std::move(open));
  std::erase_if(missing_caches_, [&](const CacheDevStats& missing) { return missing.label == label; });
  for (const Entry& entry : attached) erase_missing(entry.device->name());
  std::move(attached.begin(), attached.end(), std::back_inserter(entries_));
  return Status();
}

// The lowest that no cache device has.
std::uint64_t DeviceManagerImpl::free_cache_id() const {
  const std::shared_lock lock(mutex_);
  for (std::uint64_t id = 0;; ++id) {
    if (std::none_of(caches_.begin(), caches_.end(), [id](const OpenCache& open) { return open.id() == id; }))
      return id;
  }
}

Status DeviceManagerImpl::close_cache_dev(const std::string& cache, bool keep_dirty) {
  return no_throw("cannot close cache device " + cache, [&] { return close_checked(cache, keep_dirty); });
}

Status DeviceManagerImpl::close_checked(const std::string& cache, bool keep_dirty) {
  const std::lock_guard change(change_mutex_);
  std::vector<OpenCache> closing;
  closing.reserve(1);
  {
    const auto found = find_cache(cache);
    if (!found) {
      const std::unique_lock lock(mutex_);
      const auto is_meant = [&](const CacheDevStats& missing) {
        return missing.label == cache || missing.path == cache;
      };
      return std::erase_if(missing_caches_, is_meant) != 0 ? Status() : found.status();
    }
    if (Status status = check_unused(**found, keep_dirty); !status.ok()) return status;
    const std::unique_lock lock(mutex_);
    std::erase_if(entries_, [&](const Entry& entry) { return entry.cache == *found; });
    const auto open =
        std::find_if(caches_.begin(), caches_.end(), [&](const OpenCache& o) { return &*o == found->get(); });
    closing.push_back(std::move(*open));
    caches_.erase(open);
  }
  closing.front().close();
  return Status();
}

// Whether nothing would be missed if it was closed.
Status DeviceManagerImpl::check_unused(Cache& cache, bool keep_dirty) const {
  const std::string label = "cache device " + cache.cache_dev().label();
  if (cache.shrinking()) return Status(Errc::busy, label + " is becoming smaller; wait for that, or cancel the job");
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.cache.get() != &cache) continue;
    if (is_exposed(*entry.device)) {
      return Status(Errc::busy, label + " is in use by logical device " + entry.device->name() + "; remove that first");
    }
    if (const std::uint64_t dirty = entry.device->dirty_bytes(); dirty != 0 && !keep_dirty) {
      return Status(Errc::dirty, label + " holds " + format_size(dirty) + " of logical device " + entry.device->name() +
                                     " that its backing device does not have; with --no-flush " + "that stays there");
    }
  }
  return Status();
}

void DeviceManagerImpl::expect_cache_dev(const std::string& label, const std::string& path, const Status& why) {
  CacheDevStats missing;
  missing.label = label;
  missing.path = path;
  missing.state = "missing";
  missing.detail = why.message();
  const std::unique_lock lock(mutex_);
  std::erase_if(missing_caches_, [&](const CacheDevStats& before) { return before.label == label; });
  missing_caches_.push_back(std::move(missing));
}

void DeviceManagerImpl::expect_logic_dev(const std::string& name, const std::string& backing,
                                         const std::string& cache_label, const Status& why) {
  LogicDevStats missing;
  missing.name = name;
  missing.backing = backing;
  missing.cache_dev = cache_label;
  missing.state = "missing";
  missing.detail = why.message();
  const std::unique_lock lock(mutex_);
  erase_missing(name);
  missing_devices_.push_back(std::move(missing));
}

bool DeviceManagerImpl::erase_missing(const std::string& name) {
  return std::erase_if(missing_devices_, [&](const LogicDevStats& missing) { return missing.name == name; }) != 0;
}

// Brings a recorded logical device up. A backing that is not the recorded one is never written to (I9). One that became
// longer is: the device keeps its size until it is resized.
Result<DeviceManagerImpl::Entry> DeviceManagerImpl::bring_up(const std::shared_ptr<Cache>& cache,
                                                             const CacheDev::Device& device,
                                                             Result<std::unique_ptr<BackingDev>> backing) {
  OpenCache::Hold hold(cache);
  auto attached = cache->attach(device, backing ? std::move(*backing) : nullptr);
  if (!attached) return attached.status();
  if (!backing) (*attached)->set_detail(backing.status().message());
  return Entry{cache, hold.on(*attached)};
}

Result<std::shared_ptr<Cache>> DeviceManagerImpl::choose_cache(const std::string& label) const {
  const std::shared_lock lock(mutex_);
  if (caches_.empty()) {
    return Status(Errc::not_found, "this mount has no cache device; mount one with --cache CACHE");
  }
  if (label.empty()) {
    if (caches_.size() == 1) return caches_.front().use();
    std::string labels;
    for (const auto& cache : caches_) labels += (labels.empty() ? "" : ", ") + cache->cache_dev().label();
    return Status(Errc::invalid,
                  "this mount has several cache devices (" + labels + "); choose one with --cache LABEL");
  }
  for (const auto& cache : caches_) {
    if (cache->cache_dev().label() == label) return cache.use();
  }
  return Status(Errc::not_found, "this mount has no cache device with label " + label);
}

Status DeviceManagerImpl::check_backing_free(const std::string& path, const CachedDevice* but) const {
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.device.get() == but) continue;
    if (same_file(path, entry.device->backing_path())) {
      return Status(Errc::busy,
                    "backing device " + path + " is already attached as logical device " + entry.device->name() +
                        (entry.device->parked() ? ", removed with --no-flush: add it under that name" : ""));
    }
  }
  for (const auto& cache : caches_) {
    if (same_file(path, cache->cache_dev().space().path())) {
      return Status(Errc::busy, path + " is a cache device of this mount; it cannot be a backing device too");
    }
  }
  return Status();
}

// A file, and a loop device on it, are one backing.
Status DeviceManagerImpl::check_identity_free(const BackingIdentity& identity, const std::string& path,
                                              const CachedDevice* but) const {
  const auto underlying = [](const std::string& id) {
    constexpr std::string_view kLoop = "loop:";
    return id.starts_with(kLoop) ? id.substr(kLoop.size(), id.find('+') - kLoop.size()) : id;
  };
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.device.get() == but) continue;
    if (underlying(entry.device->recorded_backing().id) == underlying(identity.id)) {
      return Status(Errc::busy, "backing device " + path + " is already attached as logical device " +
                                    entry.device->name() + ", though by another path (" + entry.device->backing_path() +
                                    ")");
    }
  }
  if (excluded_ && underlying(identity.id).starts_with(identities_on(*excluded_))) {
    return Status(Errc::busy,
                  path + " lies in this mount itself; a logical device cannot be a backing device of its mount");
  }
  return Status();
}

void DeviceManagerImpl::exclude_filesystem(std::uint64_t device_number) {
  const auto device = static_cast<dev_t>(device_number);
  const std::unique_lock lock(mutex_);
  excluded_ = device;
}

Status DeviceManagerImpl::add(const std::string& name, const std::string& backing_path, const AddOptions& options) {
  return no_throw("cannot add logical device " + name, [&] { return add_checked(name, backing_path, options); });
}

Status DeviceManagerImpl::add_checked(const std::string& name, const std::string& backing_path,
                                      const AddOptions& options) {
  if (Status status = check_logic_dev_name(name); !status.ok()) return status;
  const std::lock_guard change(change_mutex_);
  const auto cache = choose_cache(options.cache_label);
  if (!cache) return cache.status();
  const auto same_name = find_entry(name);
  if (same_name && !same_name->device->parked()) {
    return Status(Errc::busy, "there is a logical device " + name + " already; choose another name or remove that one");
  }
  if (Status status = check_settings(options.settings); !status.ok()) return status;
  if (backing_path.empty()) return Status(Errc::invalid, "the path of the backing device is empty");
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(backing_path, error);
  if (error) return Status::from_errno(error.value(), "cannot open backing device " + backing_path);
  // A stable link such as /dev/disk/by-id/... is remembered as it was given.
  const std::string path = std::filesystem::is_block_file(canonical) ? backing_path : canonical.string();
  const CachedDevice* const again = same_name ? same_name->device.get() : nullptr;
  if (Status status = check_backing_free(path, again); !status.ok()) return status;
  if (const auto identity = probe_backing(path)) {
    if (Status status = check_identity_free(*identity, path, again); !status.ok()) return status;
  }
  auto backing = open_backing_dev(path);
  if (!backing) return backing.status();
  if (options.size_bytes && *options.size_bytes != (*backing)->size_bytes()) {
    return Status(Errc::invalid, "backing device " + path + " has " + std::to_string((*backing)->size_bytes()) +
                                     " bytes, not the " + std::to_string(*options.size_bytes) + " that --size says");
  }
  if (again != nullptr) return add_again(*same_name, std::move(*backing), options);
  {
    const std::unique_lock lock(mutex_);
    entries_.reserve(entries_.size() + 1);  // nothing may fail once it is recorded
  }
  OpenCache::Hold hold(*cache);
  auto device = (*cache)->add(name, std::move(*backing), options.settings);
  if (!device) return device.status();
  // What was asked for is in force now, whatever is configured.
  Settings chosen = options.settings;
  chosen.unset(Setting::mode);
  if (!chosen.empty()) (void)(*device)->configure(chosen);
  if (!options.settings.has(Setting::mode)) (*device)->follow_configured_mode();
  const std::unique_lock lock(mutex_);
  erase_missing(name);
  entries_.push_back({*cache, hold.on(*device)});
  return Status();
}

// Takes up what was removed and kept.
Status DeviceManagerImpl::add_again(const Entry& parked, std::unique_ptr<BackingDev> backing,
                                    const AddOptions& options) {
  const BackingIdentity& recorded = parked.device->recorded_backing();
  if (backing->identity() != recorded) {
    return Status(Errc::busy,
                  "the cache device holds a logical device " + parked.device->name() + " of another backing " +
                      "device, removed with --no-flush (" + parked.device->backing_path() + ", " + recorded.id +
                      "); add that one, choose another name, or throw its data away with " + "remove --discard-dirty");
  }
  OpenCache::Hold hold(parked.cache);
  auto device = parked.cache->unpark(parked.device, std::move(backing));
  if (!device) return device.status();
  {
    const std::unique_lock lock(mutex_);
    for (Entry& entry : entries_) {
      if (entry.device == parked.device) entry.device = hold.on(*device);
    }
  }
  return options.settings.empty() ? Status() : (*device)->configure(options.settings);
}

Status DeviceManagerImpl::flush(const std::string& name) {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  return entry->device->drain(0) == 0 ? Status() : drain_failure(*entry->device);
}

Status DeviceManagerImpl::set(const std::string& name, const Settings& changes, Lasting lasting) {
  return no_throw("cannot change logical device " + name, [&] {
    const std::lock_guard change(change_mutex_);
    const auto entry = find_entry(name);
    if (!entry) return entry.status();
    Status status =
        lasting == Lasting::temporary ? entry->device->configure_for_now(changes) : entry->device->configure(changes);
    if (changes.has(Setting::uid) || changes.has(Setting::gid) || changes.has(Setting::permissions)) {
      tell_file_changed(entry->device->inode());
    }
    return status;
  });
}

Status DeviceManagerImpl::unset(const std::string& name, const SettingSet& keys) {
  return no_throw("cannot change logical device " + name, [&] {
    const std::lock_guard change(change_mutex_);
    const auto entry = find_entry(name);
    if (!entry) return entry.status();
    Status status = entry->device->unset(keys);
    tell_file_changed(entry->device->inode());
    return status;
  });
}

Result<std::vector<SettingValue>> DeviceManagerImpl::settings(const std::string& name) const {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  return entry->device->settings();
}

Result<LogicDevActivity> DeviceManagerImpl::activity(const std::string& name, bool reset) {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  LogicDevActivity activity = entry->device->activity();
  if (reset) entry->device->reset_activity();
  return activity;
}

Status DeviceManagerImpl::remove(const std::string& name, DirtyData dirty) {
  return no_throw("cannot remove logical device " + name, [&] { return remove_checked(name, dirty); });
}

// What keeps it from being forgotten without losing anything.
Status DeviceManagerImpl::write_back(CachedDevice& device) {
  const LogicDevStats stats = device.stats();
  if (stats.state != "running" && (stats.dirty_bytes != 0 || stats.state == "failed")) {
    const std::string why = stats.state == "parked" ? "it was removed with --no-flush; add it again, with its backing "
                                                      "device " +
                                                          stats.backing
                                                    : stats.detail;
    return Status(Errc::dirty, "logical device " + stats.name + " may hold data that exists only in the cache (" +
                                   format_size(stats.dirty_bytes) + "): " + why +
                                   ", or throw the data away with --discard-dirty");
  }
  if (stats.lost_bytes != 0) return lost_data(stats.name, stats.lost_bytes);
  if (stats.state != "running" || device.drain(0) == 0) return Status();
  if (const std::uint64_t lost = device.stats().lost_bytes; lost != 0) return lost_data(stats.name, lost);
  return Status(Errc::failed, "backing device " + stats.backing + " did not take all data of logical device " +
                                  stats.name + "; it stays as it is");
}

Status DeviceManagerImpl::remove_checked(const std::string& name, DirtyData dirty) {
  const std::lock_guard change(change_mutex_);
  const auto entry = find_entry(name);
  if (!entry) {
    const std::unique_lock lock(mutex_);
    return erase_missing(name) ? Status() : entry.status();
  }
  CachedDevice& device = *entry->device;
  if (dirty == DirtyData::keep && !device.serves()) {
    return Status(Errc::invalid, "logical device " + name + " is not exposed: what it holds stays as it is");
  }
  const auto set_leaving = [&](bool leaving) {
    const std::unique_lock lock(mutex_);
    for (Entry& e : entries_) {
      if (e.device == entry->device) e.leaving = leaving;
    }
  };
  // Not found any more from here on, and takes no writes, unless it cannot go.
  set_leaving(true);
  device.refuse_writes(true);
  struct PutBack {
    const decltype(set_leaving)& set;
    CachedDevice& device;
    bool needed = true;
    ~PutBack() {
      if (!needed) return;
      device.refuse_writes(false);
      set(false);
    }
  } put_back{set_leaving, device};
  if (dirty == DirtyData::write_back) {
    if (Status status = write_back(device); !status.ok()) return status;
  }
  if (dirty == DirtyData::keep) {
    Status status = entry->cache->park(entry->device);
    if (!device.parked()) return status;
    put_back.needed = false;
    set_leaving(false);  // it is there, though not exposed
    return status;
  }
  put_back.needed = false;  // its operations end here, whatever comes of it
  Status status = entry->cache->remove(entry->device);
  const std::unique_lock lock(mutex_);
  std::erase_if(entries_, [&](const Entry& e) { return e.device == entry->device; });
  return status;
}

Status DeviceManagerImpl::await_closed(const std::string& name, std::uint64_t timeout_ms) const {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  const std::uint64_t open = open_files_.await_closed(entry->device->inode(), timeout_ms);
  if (open == 0) return Status();
  return Status(Errc::busy, "logical device " + name + " is in use: its file is open" +
                                (open == 1 ? "" : " " + std::to_string(open) + " times") +
                                "; losetup -j and fuser say by whom");
}

Result<std::uint64_t> DeviceManagerImpl::begin_drain(const std::string& name) {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  if (const auto number = entry->device->begin_drain()) return *number;
  return drain_failure(*entry->device);
}

Result<DeviceManager::Progress> DeviceManagerImpl::await_drain(const std::string& name, std::uint64_t number,
                                                               std::uint64_t timeout_ms) {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  const int error = entry->device->await_drain(number, std::max<std::uint64_t>(timeout_ms, 1));
  if (error != 0 && error != ETIMEDOUT) return drain_failure(*entry->device);
  return Progress{error == 0, entry->device->dirty_bytes()};
}

Status DeviceManagerImpl::detach(const std::string& name) {
  return no_throw("cannot detach logical device " + name, [&] {
    const std::lock_guard change(change_mutex_);
    const auto entry = find_entry(name);
    if (!entry) return entry.status();
    return entry->device->begin_switch({entry->device->mode_choice().mode, true});
  });
}

Status DeviceManagerImpl::attach(const std::string& name) {
  return no_throw("cannot attach logical device " + name, [&] {
    const std::lock_guard change(change_mutex_);
    const auto entry = find_entry(name);
    if (!entry) return entry.status();
    const auto device = reattach(*entry);
    if (!device) return device.status();
    const ModeChoice before = (*device)->mode_choice();
    if (!(*device)->pending_mode().value_or(before).detached) return Status();
    return (*device)->begin_switch({before.mode, false});
  });
}

// Returns the device, which runs. One that did goes on with the backing that it has, unless that is gone. Otherwise it
// is taken out and brought up again, as by closing and opening the cache device.
Result<std::shared_ptr<CachedDevice>> DeviceManagerImpl::reattach(const Entry& entry) {
  const std::shared_ptr<CachedDevice> device = entry.device;
  const std::string name = device->name();
  if (device->failed()) {
    return Status(Errc::integrity, "logical device " + name + " failed: " + device->stats().detail);
  }
  if (device->parked()) {
    return Status(Errc::failed, "logical device " + name + " was removed with --no-flush; add it again to use it");
  }
  if (is_exposed(*device) && !device->backing_gone()) return device;
  const auto held = entry.cache->cache_dev().devices();
  const auto recorded =
      std::find_if(held.begin(), held.end(), [&](const auto& d) { return d.record.device_id == device->device_id(); });
  if (recorded == held.end()) return Status(Errc::failed, "logical device " + name + " is not recorded");
  // One that is still open is locked until its device is taken out, and can only be looked at.
  Result<std::unique_ptr<BackingDev>> backing(std::unique_ptr<BackingDev>{});
  if (is_exposed(*device)) {
    const auto identity = probe_backing(device->backing_path());
    if (!identity) return identity.status();
    if (Status fits = check_is_recorded(*identity, recorded->record, device->backing_path()); !fits.ok()) return fits;
  } else {
    backing = open_recorded(recorded->record);
    if (!backing) return backing.status();
  }
  if (Status status = entry.cache->take_out(device); !status.ok()) return status;
  if (is_exposed(*device)) backing = open_recorded(recorded->record);
  auto attached = bring_up(entry.cache, *recorded, std::move(backing));
  if (!attached) {
    device->fail(attached.status().message());
    return attached.status();
  }
  attached->device->keep_choices_of(*device);
  attached->device->follow_configured_mode();
  if (const auto to = device->pending_mode()) (void)attached->device->begin_switch(*to);
  {
    const std::unique_lock lock(mutex_);
    for (Entry& e : entries_) {
      if (e.device == device) e.device = attached->device;
    }
  }
  if (is_exposed(*attached->device)) return attached->device;
  return Status(Errc::failed, "logical device " + name + " has no backing device: " + attached->device->stats().detail);
}

// Tries to bring up what has no backing. Waits for no command: the next turn comes.
void DeviceManagerImpl::attach_missing() {
  const std::unique_lock change(change_mutex_, std::try_to_lock);
  if (!change) return;
  std::vector<Entry> missing;
  {
    const std::shared_lock lock(mutex_);
    for (const Entry& entry : entries_) {
      if (!entry.leaving && !is_exposed(*entry.device) && !entry.device->parked()) missing.push_back(entry);
    }
  }
  for (const Entry& entry : missing) (void)reattach(entry);
}

Result<DeviceManager::Progress> DeviceManagerImpl::await_switch(const std::string& name, std::uint64_t timeout_ms) {
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  const auto ended = entry->device->await_switch(timeout_ms);
  if (ended && !ended->ok()) return *ended;
  return Progress{ended.has_value(), entry->device->dirty_bytes()};
}

Status DeviceManagerImpl::resize(const std::string& name) {
  return no_throw("cannot resize logical device " + name, [&] { return resize_checked(name); });
}

Status DeviceManagerImpl::resize_checked(const std::string& name) {
  const std::lock_guard change(change_mutex_);
  const auto entry = find_entry(name);
  if (!entry) return entry.status();
  if (!is_exposed(*entry->device)) {
    return Status(Errc::failed, "logical device " + name + " has no backing device: " + entry->device->stats().detail);
  }
  if (Status status = entry->device->grow_to_backing(); !status.ok()) return status;
  tell_file_changed(entry->device->inode());
  return Status();
}

void DeviceManagerImpl::tell_file_changed(std::uint64_t inode) const {
  std::function<void(std::uint64_t)> tell;
  {
    const std::shared_lock lock(mutex_);
    tell = on_file_changed_;
  }
  if (tell) tell(inode);
}

Result<std::shared_ptr<Cache>> DeviceManagerImpl::find_cache(const std::string& label_or_path) const {
  const std::shared_lock lock(mutex_);
  for (const auto& cache : caches_) {
    if (cache->cache_dev().label() == label_or_path || cache->cache_dev().space().path() == label_or_path) {
      return cache.use();
    }
  }
  return Status(Errc::not_found, "this mount has no cache device with label or path " + label_or_path);
}

Status DeviceManagerImpl::grow_cache(const std::string& cache, std::uint64_t size_bytes) {
  return no_throw("cannot grow cache device " + cache, [&] {
    const std::lock_guard change(change_mutex_);
    const auto found = find_cache(cache);
    return found ? (*found)->grow(size_bytes) : found.status();
  });
}

Status DeviceManagerImpl::begin_shrink_cache(const std::string& cache, std::uint64_t size_bytes) {
  return no_throw("cannot shrink cache device " + cache, [&] {
    const std::lock_guard change(change_mutex_);
    const auto found = find_cache(cache);
    return found ? (*found)->begin_shrink(size_bytes) : found.status();
  });
}

Result<DeviceManager::Progress> DeviceManagerImpl::await_shrink_cache(const std::string& cache,
                                                                      std::uint64_t timeout_ms) {
  const auto found = find_cache(cache);
  if (!found) return found.status();
  std::uint64_t left_bytes = 0;
  const auto ended = (*found)->await_shrink(timeout_ms, left_bytes);
  if (ended && !ended->ok()) return *ended;
  return Progress{ended.has_value(), left_bytes};
}

Status DeviceManagerImpl::cancel_shrink_cache(const std::string& cache) {
  const auto found = find_cache(cache);
  if (!found) return found.status();
  (*found)->cancel_shrink();
  return Status();
}

void DeviceManagerImpl::on_file_changed(std::function<void(std::uint64_t inode)> tell) {
  const std::unique_lock lock(mutex_);
  on_file_changed_ = std::move(tell);
}

Result<DeviceManagerImpl::Entry> DeviceManagerImpl::find_entry(const std::string& name) const {
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.device->name() == name && !entry.leaving) return entry;
  }
  for (const LogicDevStats& missing : missing_devices_) {
    if (missing.name == name)
      return Status(Errc::not_found, "logical device " + name + " is missing: " + missing.detail);
  }
  return Status(Errc::not_found, "there is no logical device " + name);
}

std::shared_ptr<LogicDev> DeviceManagerImpl::find(const std::string& name) const {
  const auto entry = find_entry(name);
  return entry && is_exposed(*entry->device) ? entry->device : nullptr;
}

std::shared_ptr<LogicDev> DeviceManagerImpl::find_inode(std::uint64_t inode) const {
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.device->inode() == inode && !entry.leaving && is_exposed(*entry.device)) return entry.device;
  }
  return nullptr;
}

std::vector<std::shared_ptr<LogicDev>> DeviceManagerImpl::list() const {
  std::vector<std::shared_ptr<LogicDev>> devices;
  {
    const std::shared_lock lock(mutex_);
    for (const Entry& entry : entries_) {
      if (!entry.leaving && is_exposed(*entry.device)) devices.push_back(entry.device);
    }
  }
  std::sort(devices.begin(), devices.end(), [](const auto& a, const auto& b) { return a->name() < b->name(); });
  return devices;
}

std::vector<SegmentMap> DeviceManagerImpl::segment_maps() const {
  const std::shared_lock lock(mutex_);
  std::vector<SegmentMap> maps;
  for (const auto& cache : caches_) maps.push_back(cache->segment_map());
  return maps;
}

StatusReport DeviceManagerImpl::status() const {
  StatusReport report;
  const std::shared_lock lock(mutex_);
  for (const OpenCache& cache : caches_) {
    report.cache_devs.push_back(cache->stats());
    report.cache_devs.back().cache_dev_id = cache.id();
  }
  report.cache_devs.insert(report.cache_devs.end(), missing_caches_.begin(), missing_caches_.end());
  for (const Entry& entry : entries_) {
    if (!entry.leaving) report.logic_devs.push_back(entry.device->stats());
  }
  report.logic_devs.insert(report.logic_devs.end(), missing_devices_.begin(), missing_devices_.end());
  std::sort(report.logic_devs.begin(), report.logic_devs.end(),
            [](const LogicDevStats& a, const LogicDevStats& b) { return a.name < b.name; });
  return report;
}

}  // namespace pcache
