// A logical device in ordinary memory, and a device manager that has this one only: what a front end needs.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pcache/device_manager.h"

namespace pcache {

// Is read and written at once, remembers flushes, and fails when told to. One thread at a time.
class MemoryDev final : public LogicDev {
 public:
  static constexpr std::uint64_t kSize = 64 << 10;
  static constexpr std::uint64_t kInode = 7;

  const std::string& name() const override { return name_; }
  std::uint64_t size_bytes() const override { return kSize; }
  std::uint64_t inode() const override { return kInode; }
  void expect(Access access, std::span<const std::uint64_t> offsets) const override {
    expected.push_back({access, {offsets.begin(), offsets.end()}});
  }
  bool waits_for_medium() const override { return waits; }
  void read(std::uint64_t offset, std::span<std::byte> buffer, Completion done) override {
    if (!in_bounds(offset, buffer.size())) return done(EINVAL);
    if (!buffer.empty()) std::memcpy(buffer.data(), content.data() + offset, buffer.size());
    done(error);
  }
  void write(std::uint64_t offset, std::span<const std::byte> data, Completion done) override {
    if (!in_bounds(offset, data.size())) return done(EINVAL);
    if (!data.empty()) std::memcpy(content.data() + offset, data.data(), data.size());
    done(error);
  }
  void flush(Completion done) override {
    ++flushes;
    done(flush_error);
  }
  void discard(std::uint64_t offset, std::uint64_t length, Completion done) override {
    if (!in_bounds(offset, length)) return done(EINVAL);
    std::memset(content.data() + offset, 0, length);
    done(error);
  }
  int seek(Seek what, std::uint64_t& offset) override {  // all of it is data
    if (offset >= size_bytes()) return ENXIO;
    if (what == Seek::hole) offset = size_bytes();
    return 0;
  }
  int drain(std::uint64_t) override { return 0; }
  LogicDevStats stats() const override { return {}; }

  std::vector<std::byte> content = std::vector<std::byte>(kSize, std::byte{1});
  int flushes = 0;
  int beyond_end = 0;  // operations that were not inside the device
  int error = 0;
  int flush_error = 0;
  bool waits = false;
  struct Expected {
    Access access;
    std::vector<std::uint64_t> offsets;
  };
  mutable std::vector<Expected> expected;

 private:
  bool in_bounds(std::uint64_t offset, std::uint64_t length) {
    const bool inside = offset <= kSize && length <= kSize - offset;
    if (!inside) ++beyond_end;
    return inside;
  }

  const std::string name_ = "memory";
};

class OneDevice final : public DeviceManager {
 public:
  void expect_cache_dev(const std::string&, const std::string&, const Status&) override {}
  void file_opened(std::uint64_t) override {}
  void file_closed(std::uint64_t) override {}
  Status await_closed(const std::string&, std::uint64_t) const override { return Status(); }
  void expect_logic_dev(const std::string&, const std::string&, const std::string&, const Status&) override {}
  Status open_cache_dev(const std::string&, const CacheOptions&) override { return Status(); }
  Status format_cache_dev(const std::string&, const FormatOptions&) override { return Status(); }
  Status close_cache_dev(const std::string&, bool) override { return Status(); }
  Status add(const std::string&, const std::string&, const AddOptions&) override { return Status(); }
  Status flush(const std::string&) override { return Status(); }
  Status set(const std::string&, const Settings&, Lasting) override { return Status(); }
  Status unset(const std::string&, const SettingSet&) override { return Status(); }
  Result<std::vector<SettingValue>> settings(const std::string&) const override { return std::vector<SettingValue>(); }
  Status resize(const std::string&) override { return Status(); }
  Status grow_cache(const std::string&, std::uint64_t) override { return Status(); }
  Status begin_shrink_cache(const std::string&, std::uint64_t) override { return Status(); }
  Result<Progress> await_shrink_cache(const std::string&, std::uint64_t) override { return Progress{true, 0}; }
  Status cancel_shrink_cache(const std::string&) override { return Status(); }
  void on_recovery(std::function<void(const RecoveryProgress&)>) override {}
  void on_file_changed(std::function<void(std::uint64_t)>) override {}
  std::vector<SegmentMap> segment_maps() const override { return {}; }
  Result<LogicDevActivity> activity(const std::string&, bool) override { return LogicDevActivity(); }
  Status remove(const std::string&, DirtyData) override { return Status(); }
  Result<std::uint64_t> begin_drain(const std::string&) override { return std::uint64_t{0}; }
  Result<Progress> await_drain(const std::string&, std::uint64_t, std::uint64_t) override { return Progress{true, 0}; }
  Status detach(const std::string&) override { return Status(); }
  Status attach(const std::string&) override { return Status(); }
  Result<Progress> await_switch(const std::string&, std::uint64_t) override { return Progress{true, 0}; }
  std::shared_ptr<LogicDev> find(const std::string& name) const override {
    return name == device->name() ? device : nullptr;
  }
  std::shared_ptr<LogicDev> find_inode(std::uint64_t inode) const override {
    return inode == device->inode() ? device : nullptr;
  }
  std::vector<std::shared_ptr<LogicDev>> list() const override { return {device}; }
  StatusReport status() const override { return {}; }
  void exclude_filesystem(std::uint64_t) override {}

  const std::shared_ptr<MemoryDev> device = std::make_shared<MemoryDev>();
};

}  // namespace pcache
