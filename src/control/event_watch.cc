#include "control/event_watch.h"

#include <utility>

#include "base/find_by.h"
#include "base/size_text.h"

namespace pcache {
namespace {

// No segment is left that a write could have without waiting.
bool is_full(const CacheDevStats& cache) {
  return cache.segments != 0 && cache.segments_free + cache.segments_clean <= cache.segments_reserved;
}

std::string count(std::uint64_t number, const char* of) { return std::to_string(number) + " " + of; }

}  // namespace

std::vector<Event> EventWatch::look(const StatusReport& now) {
  for (const CacheDevStats& cache : now.cache_devs) {
    const CacheDevStats* const before = find_by(before_.cache_devs, &CacheDevStats::label, cache.label);
    if (cache.state == "missing") {
      if (before == nullptr) tell(EventKind::state_changed, cache.label, "it is missing: " + cache.detail);
      continue;
    }
    if (before == nullptr || before->state == "missing")
      tell(EventKind::cache_dev_added, cache.label, "cache device " + cache.path + " is open");
    CacheDevStats none;
    none.state = "running";
    compare_cache(before != nullptr && before->state != "missing" ? *before : none, cache);
  }
  for (const LogicDevStats& device : now.logic_devs) {
    const LogicDevStats* before = find_by(before_.logic_devs, &LogicDevStats::name, device.name);
    if (device.state == "missing") {
      if (before == nullptr) tell(EventKind::state_changed, device.name, "it is missing: " + device.detail);
      continue;
    }
    if (before != nullptr && before->state == "missing") before = nullptr;
    if (before == nullptr) {
      tell(EventKind::logic_dev_added, device.name,
           "it is " + device.state + " in mode " + device.mode + ", on backing device " + device.backing);
    }
    LogicDevStats none;
    none.state = "running";
    none.mode = device.mode;
    none.size_bytes = device.size_bytes;
    none.space_waits = device.space_waits;
    none.throttled_ms = device.throttled_ms;
    compare_device(before != nullptr ? *before : none, device);
  }
  for (const LogicDevStats& device : before_.logic_devs) {
    if (find_by(now.logic_devs, &LogicDevStats::name, device.name) != nullptr) continue;
    tell(EventKind::logic_dev_removed, device.name, "it is not there any more");
    waiting_.erase(device.name);
  }
  for (const CacheDevStats& cache : before_.cache_devs) {
    if (find_by(now.cache_devs, &CacheDevStats::label, cache.label) != nullptr) continue;
    tell(EventKind::cache_dev_removed, cache.label, "cache device " + cache.path + " is closed");
  }
  before_ = now;
  return std::exchange(events_, {});
}

void EventWatch::compare_cache(const CacheDevStats& before, const CacheDevStats& now) {
  if (now.state != before.state) {
    tell(EventKind::state_changed, now.label, "it is " + now.state + (now.detail.empty() ? "" : ": " + now.detail));
  }
  if (now.damaged_records > before.damaged_records) {
    tell(EventKind::damage_found, now.label, count(now.damaged_records, "records of its log are damaged"));
  }
  if (now.unrepaired_copies > before.unrepaired_copies) {
    tell(EventKind::damage_found, now.label,
         count(now.unrepaired_copies, "copies of its metadata cannot be written again"));
  }
  if (is_full(now) && !is_full(before)) {
    tell(EventKind::cache_full, now.label, "all of it is dirty: writes wait for the backing devices");
  }
  if (!is_full(now) && is_full(before)) tell(EventKind::cache_has_space, now.label, "there is space for writes again");
}

void EventWatch::compare_device(const LogicDevStats& before, const LogicDevStats& now) {
  if (now.state != before.state) {
    tell(EventKind::state_changed, now.name, "it is " + now.state + (now.detail.empty() ? "" : ": " + now.detail));
  }
  if (now.mode != before.mode) tell(EventKind::mode_changed, now.name, "its mode is " + now.mode);
  if (now.size_bytes != before.size_bytes) {
    tell(EventKind::size_changed, now.name, "its size is " + format_size(now.size_bytes));
  }
  if (now.backing_fails && !before.backing_fails) tell(EventKind::backing_failed, now.name, now.detail);
  if (!now.backing_fails && before.backing_fails) {
    tell(EventKind::backing_back, now.name, "backing device " + now.backing + " takes data again");
  }
  if (now.backing_read_errors > before.backing_read_errors) {
    tell(EventKind::backing_read_failed, now.name,
         count(now.backing_read_errors - before.backing_read_errors, "reads of its backing device failed"));
  }
  if (now.checksum_errors > before.checksum_errors) {
    tell(EventKind::damage_found, now.name, count(now.checksum_errors, "cached blocks did not match their checksums"));
  }
  if (now.bad_cells > before.bad_cells) {
    tell(EventKind::damage_found, now.name, count(now.bad_cells, "places of the cache device took no data"));
  }
  if (now.lost_bytes > before.lost_bytes) {
    tell(EventKind::data_lost, now.name, format_size(now.lost_bytes) + " of dirty data cannot be read");
  }
  Waiting& waiting = waiting_[now.name];
  // How long writes have waited is counted when they go on.
  if (now.waiting_writes != 0 || now.space_waits > before.space_waits || now.throttled_ms > before.throttled_ms) {
    waiting.quiet = 0;
    if (!std::exchange(waiting.told, true)) tell(EventKind::writes_wait, now.name, "writes wait for space");
  } else if (waiting.told && ++waiting.quiet == kQuietLooks) {
    waiting.told = false;
    tell(EventKind::writes_go_on, now.name, "writes do not wait any more");
  }
}

void EventWatch::tell(EventKind kind, const std::string& object, std::string message) {
  events_.push_back({kind, object, std::move(message)});
}

}  // namespace pcache
