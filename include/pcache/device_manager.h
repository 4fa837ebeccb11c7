// The engine as a whole: opens cache devices, brings up what they hold, adds and removes logical devices.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pcache/logic_dev.h"
#include "pcache/options.h"
#include "pcache/result.h"
#include "pcache/stats.h"

namespace pcache {

// Makes a cache device at `path`; everything it held is forgotten. A path that does not exist becomes an ordinary file
// of options.size_bytes, fully allocated. Refuses: a path in use (busy), data or a foreign filesystem without force
// (busy), a cache with dirty data without discard_dirty (dirty), sizes too small for eight segments (invalid).
Status format_cache_dev(const std::string& path, const FormatOptions& options);

// The label that it gives a cache device.
std::string label_of_new(const std::string& path, const FormatOptions& options);

// Whether `name` may name a logical device: 1 to 255 bytes, no slash or control character, not ".", ".." or ".pcache".
// The error (invalid) says which rule it broke.
Status check_logic_dev_name(const std::string& name);

// Whether `label` may name a cache device: at most 63 letters, digits, '_', '.' and '-'. An empty one stands for none.
Status check_cache_dev_label(const std::string& label);

// How much of a cache device's log was read again since it is being opened.
struct RecoveryProgress {
  std::string cache_dev;  // its label
  std::uint64_t segments_done = 0;
  std::uint64_t segments = 0;
};

// Thread-safe. Logical devices handed out stay valid while somebody holds them; after remove() their operations
// give EIO. Destruction stops background work and leaves all cache devices cleanly closed; dirty data stays in the
// cache.
class DeviceManager {
 public:
  static std::unique_ptr<DeviceManager> create();
  virtual ~DeviceManager() = default;

  // Opens a formatted cache device, replays its log, attaches every logical device it holds. One whose backing is
  // missing or is not the one recorded is listed with state no_backing and not exposed; that is not an error of this
  // call. Errors: not_found, busy, permission, integrity (damaged, truncated), invalid (not a cache device, a newer
  // version, a label or logical device name that is open already), failed.
  virtual Status open_cache_dev(const std::string& path, const CacheOptions& options) = 0;

  // As pcache::format_cache_dev(), and refused for what is in the mount of exclude_filesystem() (busy), and where a
  // cache device of that label is open (invalid): it could not be opened here.
  virtual Status format_cache_dev(const std::string& path, const FormatOptions& options) = 0;

  // Closes the cache device of that label or path, as unmounting does; what it holds stays. Refused: while a logical
  // device on it is exposed, or it is becoming smaller (busy); while one that is not exposed is dirty, unless
  // `keep_dirty` (dirty). Errors: not_found.
  virtual Status close_cache_dev(const std::string& cache, bool keep_dirty) = 0;

  // status() lists a cache device of this label and path, or a logical device, as missing, for the reason `why`, until
  // one of that label or name is there, or close_cache_dev() or remove() says that nobody expects it any more.
  virtual void expect_cache_dev(const std::string& label, const std::string& path, const Status& why) = 0;
  virtual void expect_logic_dev(const std::string& name, const std::string& backing, const std::string& cache_label,
                                const Status& why) = 0;

  // `tell` is called for each segment that open_cache_dev() has replayed, on the thread that calls that. Call it
  // before.
  virtual void on_recovery(std::function<void(const RecoveryProgress& progress)> tell) = 0;

  // Makes the backing device at `backing_path` a logical device called `name`, and remembers it in the cache device.
  // Errors: invalid, not_found (backing, cache), busy (name taken, backing attached already or in use), permission,
  // no_space (the cache device has no room for another), failed.
  virtual Status add(const std::string& name, const std::string& backing_path, const AddOptions& options) = 0;

  // Forgets the logical device, after everything was written back. Refused without losing anything, the logical device
  // goes on, when the backing cannot take the data: failed, dirty when it has no backing attached, integrity when data
  // is lost. Errors: not_found.
  //   keep:    it is not exposed any more, but nothing of it is forgotten: state "parked", also after a restart, until
  //            the same backing is added again under the same name. Everything acknowledged is durable on return.
  //   discard: nothing is written back, and nothing is refused.
  virtual Status remove(const std::string& name, DirtyData dirty = DirtyData::write_back) = 0;

  // The file of the logical device with this inode number was opened, or closed, once.
  virtual void file_opened(std::uint64_t inode) = 0;
  virtual void file_closed(std::uint64_t inode) = 0;
  // Waits for `timeout_ms` at most until the file of a logical device is not open any more. Errors: busy (it still is),
  // not_found.
  virtual Status await_closed(const std::string& name, std::uint64_t timeout_ms) const = 0;

  // Begins to write back everything that was acknowledged before the call, which then goes on by itself. Returns the
  // number to await it by. Errors: as flush().
  virtual Result<std::uint64_t> begin_drain(const std::string& name) = 0;
  struct Progress {
    bool done = false;
    std::uint64_t left_bytes = 0;  // dirty now
  };
  // Waits for it for `timeout_ms` at most, not 0. Errors: as flush().
  virtual Result<Progress> await_drain(const std::string& name, std::uint64_t number, std::uint64_t timeout_ms) = 0;

  // Begins to switch to passthrough, giving back what the logical device has in the cache device, which goes on by
  // itself. Errors: not_found, failed, integrity (data is lost).
  virtual Status detach(const std::string& name) = 0;
  // Makes a logical device work as before it was detached, or before its backing went away: takes the backing up again
  // if it was missing or went away and is back, and begins to switch to the mode of before detach(). Nothing is to do
  // for one that is neither. A backing that was missing is also looked for every few seconds; where it went away in
  // use, operations under way get EIO. Errors: not_found, integrity (the device is failed), failed (the backing is
  // still not there, or is another one; the device was removed and kept).
  virtual Status attach(const std::string& name) = 0;
  // Waits for detach(), attach() or another mode given to set() for `timeout_ms` at most. Errors: not_found, failed
  // (the mode stays as it was).
  virtual Result<Progress> await_switch(const std::string& name, std::uint64_t timeout_ms) = 0;

  // Writes everything back. Errors: not_found, failed, dirty (no backing attached).
  virtual Status flush(const std::string& name) = 0;

  // Puts all of `changes` in force, or none of them.
  //   stored:    they are stored first, durably, and take the place of whatever else was chosen, until the cache device
  //              is closed; from then on what is configured counts more
  //   temporary: until the cache device is closed; not the mode, which is always stored
  // Errors: not_found, invalid, failed.
  enum class Lasting { stored, temporary };
  virtual Status set(const std::string& name, const Settings& changes, Lasting lasting = Lasting::stored) = 0;
  // Takes back what set() or add() chose for the settings `keys`, stored or temporary: what is configured or the
  // default is in force again. Another mode is begun to be switched to; when that is done, call it again, so that the
  // default is not stored as if it had been chosen. Errors: as set().
  virtual Status unset(const std::string& name, const SettingSet& keys) = 0;
  // Every setting with the value in force, in the order of their numbers. Errors: not_found.
  virtual Result<std::vector<SettingValue>> settings(const std::string& name) const = 0;
  // Makes a logical device as long as its backing has become; ok where that is as long as it was. Errors: not_found,
  // failed (the backing became shorter, or does not answer), busy, no_space. A logical device never becomes shorter.
  virtual Status resize(const std::string& name) = 0;
  // All three are for the cache device of that label or path. Makes it larger, while it is in use: `size_bytes`, or 0,
  // as large as its file or device has become. A file is made longer. Errors: not_found, invalid (less than it has, or
  // more than there can be), no_space, busy (it is becoming smaller), integrity, failed; it stays as it is.
  virtual Status grow_cache(const std::string& cache, std::uint64_t size_bytes) = 0;
  // Begins to make it smaller, which goes on by itself: what lies behind `size_bytes` is written back or moved, at last
  // a file is truncated. Errors: not_found, invalid, no_space (what it holds needs more), busy, integrity.
  virtual Status begin_shrink_cache(const std::string& cache, std::uint64_t size_bytes) = 0;
  // Waits for it for `timeout_ms` at most. Errors: not_found; dirty, integrity, failed (it stays as it is, because
  // something cannot be written back).
  virtual Result<Progress> await_shrink_cache(const std::string& cache, std::uint64_t timeout_ms) = 0;
  virtual Status cancel_shrink_cache(const std::string& cache) = 0;
  // `tell` is called with the inode number of each logical device whose file has another size, owner or permissions, on
  // the thread that changed it.
  virtual void on_file_changed(std::function<void(std::uint64_t inode)> tell) = 0;

  // What a logical device did since it was brought up or the last reset; `reset` begins anew. Errors: not_found.
  virtual Result<LogicDevActivity> activity(const std::string& name, bool reset) = 0;

  // The exposed logical device of that name, or null.
  virtual std::shared_ptr<LogicDev> find(const std::string& name) const = 0;
  virtual std::shared_ptr<LogicDev> find_inode(std::uint64_t inode) const = 0;
  // Every exposed logical device, by name.
  virtual std::vector<std::shared_ptr<LogicDev>> list() const = 0;

  // Files on the filesystem with this device number, and loop devices on them, are refused as backing devices and as
  // cache devices (busy): it is the one that this process serves.
  virtual void exclude_filesystem(std::uint64_t device_number) = 0;

  // Never waits for I/O.
  virtual StatusReport status() const = 0;
  // Of every cache device. May wait for operations that are under way.
  virtual std::vector<SegmentMap> segment_maps() const = 0;
};

}  // namespace pcache
