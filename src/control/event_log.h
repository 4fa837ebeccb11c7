// What has happened to the devices of a mount, the last of it: for those who ask, and those who follow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pcache {

enum class EventKind : std::uint8_t {
  cache_dev_added,
  cache_dev_removed,
  logic_dev_added,
  logic_dev_removed,
  state_changed,
  mode_changed,
  size_changed,
  backing_failed,
  backing_back,
  backing_read_failed,
  damage_found,
  data_lost,
  cache_full,
  cache_has_space,
  writes_wait,
  writes_go_on,
};
const char* to_string(EventKind kind);
// "info", "warning", "error".
const char* severity_of(EventKind kind);

struct Event {
  EventKind kind;
  std::string object;  // label of a cache device, or name of a logical device
  std::string message;
};

struct LoggedEvent {
  std::uint64_t number = 0;   // 1 for the first, without gaps
  std::uint64_t time_ms = 0;  // since 1970, UTC
  Event event;
  std::uint64_t instance = 0;  // of the log
};

// {"instance", "number", "time_ms", "kind", "severity": "info" | "warning" | "error", "object", "message"}.
nlohmann::json to_json(const LoggedEvent& event);

// Thread-safe. Keeps the last kKept events.
class EventLog {
 public:
  static constexpr std::size_t kKept = 1024;

  // Tells this daemon's numbers from those of one before or after it: when it began, in milliseconds since 1970.
  std::uint64_t instance() const { return instance_; }

  EventLog();

  void add(Event event);

  // Those with numbers above `number`, oldest first, at most `limit`. The first may have a higher number than the next
  // one: what is older than that was forgotten. `instance`: which `number` is from, 0 if that is not known. A number of
  // another instance, or one that this did not come to, counts as 0.
  std::vector<LoggedEvent> after(std::uint64_t number, std::size_t limit, std::uint64_t instance = 0) const;
  // The number of the newest.
  std::uint64_t last() const;

 private:
  const std::uint64_t instance_;
  mutable std::mutex mutex_;
  std::deque<LoggedEvent> events_;
  std::uint64_t last_ = 0;
};

}  // namespace pcache
