#include "control/event_log.h"

#include <chrono>

namespace pcache {

using nlohmann::json;

namespace {

struct KindInfo {
  const char* name;
  const char* severity;
};

KindInfo info(EventKind kind) {
  switch (kind) {
    case EventKind::cache_dev_added:
      return {"cache_dev_added", "info"};
    case EventKind::cache_dev_removed:
      return {"cache_dev_removed", "info"};
    case EventKind::logic_dev_added:
      return {"logic_dev_added", "info"};
    case EventKind::logic_dev_removed:
      return {"logic_dev_removed", "info"};
    case EventKind::state_changed:
      return {"state_changed", "warning"};
    case EventKind::mode_changed:
      return {"mode_changed", "info"};
    case EventKind::size_changed:
      return {"size_changed", "info"};
    case EventKind::backing_failed:
      return {"backing_failed", "error"};
    case EventKind::backing_back:
      return {"backing_back", "info"};
    case EventKind::backing_read_failed:
      return {"backing_read_failed", "error"};
    case EventKind::damage_found:
      return {"damage_found", "error"};
    case EventKind::data_lost:
      return {"data_lost", "error"};
    case EventKind::cache_full:
      return {"cache_full", "warning"};
    case EventKind::cache_has_space:
      return {"cache_has_space", "info"};
    case EventKind::writes_wait:
      return {"writes_wait", "warning"};
    case EventKind::writes_go_on:
      return {"writes_go_on", "info"};
  }
  return {"", ""};
}

std::uint64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

}  // namespace

const char* to_string(EventKind kind) { return info(kind).name; }

const char* severity_of(EventKind kind) { return info(kind).severity; }

json to_json(const LoggedEvent& event) {
  return {{"instance", event.instance},
          {"number", event.number},
          {"time_ms", event.time_ms},
          {"kind", info(event.event.kind).name},
          {"severity", severity_of(event.event.kind)},
          {"object", event.event.object},
          {"message", event.event.message}};
}

EventLog::EventLog() : instance_(now_ms()) {}

void EventLog::add(Event event) {
  const std::uint64_t ms = now_ms();
  const std::lock_guard lock(mutex_);
  events_.push_back({last_ + 1, ms, std::move(event), instance_});
  ++last_;
  if (events_.size() > kKept) events_.pop_front();
}

std::vector<LoggedEvent> EventLog::after(std::uint64_t number, std::size_t limit, std::uint64_t instance) const {
  const std::lock_guard lock(mutex_);
  if (number > last_ || (instance != 0 && instance != instance_)) number = 0;
  std::vector<LoggedEvent> found;
  for (const LoggedEvent& event : events_) {
    if (event.number <= number) continue;
    if (found.size() == limit) break;
    found.push_back(event);
  }
  return found;
}

std::uint64_t EventLog::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

}  // namespace pcache
