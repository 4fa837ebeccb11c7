// The composition root: the one place that puts cache devices, backing devices and logical devices together.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/worker.h"
#include "cache/cache.h"
#include "device/open_cache.h"
#include "device/open_files.h"
#include "pcache/device_manager.h"

namespace pcache {

class DeviceManagerImpl final : public DeviceManager {
 public:
  DeviceManagerImpl();
  ~DeviceManagerImpl() override;

  Status open_cache_dev(const std::string& path, const CacheOptions& options) override;
  Status format_cache_dev(const std::string& path, const FormatOptions& options) override;
  Status close_cache_dev(const std::string& cache, bool keep_dirty) override;
  void expect_cache_dev(const std::string& label, const std::string& path, const Status& why) override;
  void expect_logic_dev(const std::string& name, const std::string& backing, const std::string& cache_label,
                        const Status& why) override;
  Status add(const std::string& name, const std::string& backing_path, const AddOptions& options) override;
  Status remove(const std::string& name, DirtyData dirty) override;
  void file_opened(std::uint64_t inode) override { open_files_.opened(inode); }
  void file_closed(std::uint64_t inode) override { open_files_.closed(inode); }
  Status await_closed(const std::string& name, std::uint64_t timeout_ms) const override;
  Result<std::uint64_t> begin_drain(const std::string& name) override;
  Result<Progress> await_drain(const std::string& name, std::uint64_t number, std::uint64_t timeout_ms) override;
  Status detach(const std::string& name) override;
  Status attach(const std::string& name) override;
  Result<Progress> await_switch(const std::string& name, std::uint64_t timeout_ms) override;
  Status flush(const std::string& name) override;
  Status set(const std::string& name, const Settings& changes, Lasting lasting) override;
  Status unset(const std::string& name, const SettingSet& keys) override;
  Result<std::vector<SettingValue>> settings(const std::string& name) const override;
  Result<LogicDevActivity> activity(const std::string& name, bool reset) override;
  Status resize(const std::string& name) override;
  Status grow_cache(const std::string& cache, std::uint64_t size_bytes) override;
  Status begin_shrink_cache(const std::string& cache, std::uint64_t size_bytes) override;
  Result<Progress> await_shrink_cache(const std::string& cache, std::uint64_t timeout_ms) override;
  Status cancel_shrink_cache(const std::string& cache) override;
  void on_recovery(std::function<void(const RecoveryProgress& progress)> tell) override {
    on_recovery_ = std::move(tell);
  }
  void on_file_changed(std::function<void(std::uint64_t inode)> tell) override;
  std::shared_ptr<LogicDev> find(const std::string& name) const override;
  std::shared_ptr<LogicDev> find_inode(std::uint64_t inode) const override;
  std::vector<std::shared_ptr<LogicDev>> list() const override;
  StatusReport status() const override;
  std::vector<SegmentMap> segment_maps() const override;
  void exclude_filesystem(std::uint64_t device_number) override;

 private:
  struct Entry {
    std::shared_ptr<Cache> cache;
    std::shared_ptr<CachedDevice> device;  // with its own hold on the cache device
    bool leaving = false;                  // being removed: not found any more, but its name and its backing are taken
  };

  Result<std::shared_ptr<Cache>> choose_cache(const std::string& label) const;
  Result<std::shared_ptr<Cache>> find_cache(const std::string& label_or_path) const;
  Result<Entry> find_entry(const std::string& name) const;
  // Both leave out `but`, which may be null.
  Status check_backing_free(const std::string& path, const CachedDevice* but) const;
  Status check_identity_free(const BackingIdentity& identity, const std::string& path, const CachedDevice* but) const;
  Status check_outside(const std::string& path) const;
  Status open_checked(const std::string& path, const CacheOptions& options);
  Status close_checked(const std::string& cache, bool keep_dirty);
  Status check_unused(Cache& cache, bool keep_dirty) const;
  std::uint64_t free_cache_id() const;
  Status add_checked(const std::string& name, const std::string& backing_path, const AddOptions& options);
  Status remove_checked(const std::string& name, DirtyData dirty);
  static Status write_back(CachedDevice& device);
  Status add_again(const Entry& parked, std::unique_ptr<BackingDev> backing, const AddOptions& options);
  Status resize_checked(const std::string& name);
  static Result<Entry> bring_up(const std::shared_ptr<Cache>& cache, const CacheDev::Device& device,
                                Result<std::unique_ptr<BackingDev>> backing);
  Result<std::shared_ptr<CachedDevice>> reattach(const Entry& entry);
  void attach_missing();
  void tell_file_changed(std::uint64_t inode) const;
  bool erase_missing(const std::string& name);  // with mutex_; whether there was one

  std::mutex change_mutex_;          // one change of what there is at a time; may be held during I/O
  mutable std::shared_mutex mutex_;  // guards what follows; held for moments
  std::vector<OpenCache> caches_;
  std::vector<Entry> entries_;
  std::vector<CacheDevStats> missing_caches_;
  std::vector<LogicDevStats> missing_devices_;
  std::function<void(const RecoveryProgress&)> on_recovery_;
  std::function<void(std::uint64_t)> on_file_changed_;
  std::optional<dev_t> excluded_;  // the filesystem that this process serves
  OpenFiles open_files_;
  Worker attacher_;  // last: it runs on all of the above
};

}  // namespace pcache
