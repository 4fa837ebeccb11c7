// A device manager that does what a test tells it to, and a directory for its control socket.
#pragma once

#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "pcache/device_manager.h"

namespace pcache {

// Thread-safe. Remembers what it was asked for, which gives what outcome() set, after open_gate() where
// close_gate() was called.
class FakeManager final : public DeviceManager {
 public:
  struct Added {
    std::string name;
    std::string backing;
    AddOptions options;
  };

  Status open_cache_dev(const std::string& path, const CacheOptions& options) override {
    const Status status = named("open", path + " " + std::to_string(options.epoch_max_ms.value_or(kEpochMaxMs)));
    if (status.ok()) {
      const std::lock_guard lock(mutex_);
      report_.cache_devs.emplace_back().path = path;
      report_.cache_devs.back().cache_dev_id = 5;
    }
    return status;
  }
  Status format_cache_dev(const std::string& path, const FormatOptions& options) override {
    return named("format", path + " " + std::to_string(options.size_bytes.value_or(0)) + " " + options.label +
                               (options.force ? " force" : "") + (options.discard_dirty ? " discard" : ""));
  }
  Status close_cache_dev(const std::string& cache, bool keep_dirty) override {
    return named("close", cache + (keep_dirty ? " keep" : ""));
  }
  void expect_cache_dev(const std::string&, const std::string&, const Status&) override {}
  void file_opened(std::uint64_t) override {}
  void file_closed(std::uint64_t) override {}
  Status await_closed(const std::string& name, std::uint64_t) const override {
    return in_use ? Status(Errc::busy, name + " is in use") : Status();
  }
  void expect_logic_dev(const std::string&, const std::string&, const std::string&, const Status&) override {}

  Status add(const std::string& name, const std::string& backing_path, const AddOptions& options) override {
    const std::lock_guard lock(mutex_);
    added_.push_back({name, backing_path, options});
    return outcome_;
  }
  Status remove(const std::string& name, DirtyData dirty) override {
    return named(dirty == DirtyData::keep ? "keep" : dirty == DirtyData::discard ? "discard" : "remove", name);
  }
  Result<std::uint64_t> begin_drain(const std::string& name) override {
    const Status status = named("drain", name);
    if (!status.ok()) return status;
    return std::uint64_t{7};
  }
  // Done at the second call.
  Result<Progress> await_drain(const std::string& name, std::uint64_t number, std::uint64_t) override {
    return awaited("await " + std::to_string(number), name);
  }
  Status detach(const std::string& name) override { return named("detach", name); }
  Status attach(const std::string& name) override { return named("attach", name); }
  Result<Progress> await_switch(const std::string& name, std::uint64_t) override { return awaited("switch", name); }
  Status flush(const std::string& name) override { return named("flush", name); }
  Status set(const std::string& name, const Settings& changes, Lasting lasting) override {
    std::string text = name;
    for (const SettingInfo& info : all_settings()) {
      if (!changes.has(info.setting)) continue;
      text += std::string(" ") + info.name + "=" + format_setting(info.setting, changes.get(info.setting));
    }
    return named(lasting == Lasting::temporary ? "set for now" : "set", text);
  }
  Status unset(const std::string& name, const SettingSet& keys) override {
    std::string text = name;
    for (const SettingInfo& info : all_settings()) {
      if (keys.test(static_cast<std::size_t>(info.setting))) text += std::string(" ") + info.name;
    }
    return named("unset", text);
  }
  Result<std::vector<SettingValue>> settings(const std::string& name) const override {
    const std::lock_guard lock(mutex_);
    if (!outcome_.ok()) return outcome_.with_prefix(name);
    return std::vector<SettingValue>{
        {Setting::dirty_high, kPercent | 30, SettingOrigin::stored, kPercent | 30, kPercent | 60}};
  }
  Result<LogicDevActivity> activity(const std::string& name, bool reset) override {
    const std::lock_guard lock(mutex_);
    calls_.push_back("activity " + name + (reset ? " reset" : ""));
    if (!outcome_.ok()) return outcome_;
    LogicDevActivity activity;
    activity.since_ms = 5000;
    activity.stats.name = name;
    activity.stats.writes = 3;
    activity.latencies.push_back({"write", 4, 1000, 700, {{128, 3}, {1024, 1}}});
    return activity;
  }
  Status resize(const std::string& name) override { return named("resize", name); }
  Status grow_cache(const std::string& cache, std::uint64_t size_bytes) override {
    return named("grow", cache + " " + std::to_string(size_bytes));
  }
  Status begin_shrink_cache(const std::string& cache, std::uint64_t size_bytes) override {
    return named("shrink", cache + " " + std::to_string(size_bytes));
  }
  Result<Progress> await_shrink_cache(const std::string& cache, std::uint64_t) override {
    return awaited("shrinking", cache);
  }
  Status cancel_shrink_cache(const std::string& cache) override { return named("keep size of", cache); }
  void on_recovery(std::function<void(const RecoveryProgress&)>) override {}
  void on_file_changed(std::function<void(std::uint64_t)>) override {}
  std::shared_ptr<LogicDev> find(const std::string&) const override { return nullptr; }
  std::shared_ptr<LogicDev> find_inode(std::uint64_t) const override { return nullptr; }
  std::vector<std::shared_ptr<LogicDev>> list() const override { return {}; }
  void exclude_filesystem(std::uint64_t) override {}
  std::vector<SegmentMap> segment_maps() const override { return {{"fast", "dcc.x", {"db", "vm"}, {0, 0, 1, -1, -1}}}; }
  StatusReport status() const override {
    const std::lock_guard lock(mutex_);
    return report_;
  }

  void outcome(Status status) {
    const std::lock_guard lock(mutex_);
    outcome_ = std::move(status);
  }
  void report(StatusReport report) {
    const std::lock_guard lock(mutex_);
    report_ = std::move(report);
  }
  // What is awaited goes on for ever.
  void never_done() {
    const std::lock_guard lock(mutex_);
    never_done_ = true;
  }
  void close_gate() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open_gate() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Returns when `count` calls of remove and flush have begun.
  void wait_for_calls(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_.size() >= count; });
  }
  std::vector<Added> added() const {
    const std::lock_guard lock(mutex_);
    return added_;
  }
  std::vector<std::string> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  std::atomic<bool> in_use{false};  // the files of all logical devices

 private:
  Result<Progress> awaited(const std::string& what, const std::string& name) {
    const Status status = named(what, name);
    if (!status.ok()) return status;
    const std::lock_guard lock(mutex_);
    if (!never_done_) ++awaited_;
    return Progress{!never_done_ && awaited_ % 2 == 0, !never_done_ && awaited_ % 2 == 0 ? 0U : 4096U};
  }
  Status named(const std::string& what, const std::string& name) {
    std::unique_lock lock(mutex_);
    calls_.push_back(what + " " + name);
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    return outcome_;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int awaited_ = 0;
  bool never_done_ = false;
  Status outcome_;
  StatusReport report_;
  std::vector<Added> added_;
  std::vector<std::string> calls_;
};

// PCACHEFS_RUN_DIR names a new directory for as long as this lives.
class RunDir {
 public:
  RunDir() {
    char path[] = "/tmp/pcache-run-XXXXXX";
    path_ = mkdtemp(path);
    setenv("PCACHEFS_RUN_DIR", path_.c_str(), 1);
  }
  ~RunDir() {
    unsetenv("PCACHEFS_RUN_DIR");
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  RunDir(const RunDir&) = delete;
  RunDir& operator=(const RunDir&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace pcache
