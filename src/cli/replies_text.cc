#include "cli/replies_text.h"

#include <cstdio>
#include <ctime>

#include "cli/json_fields.h"
#include "cli/output.h"
#include "cli/progress.h"

namespace pcache {

using nlohmann::json;

std::string settings_text(const json& reply) {
  std::string out;
  for (const json& setting : list(reply, "settings")) {
    char line[160];
    std::snprintf(line, sizeof line, "%-20s %-14s %s\n", text(setting, "name").c_str(), text(setting, "value").c_str(),
                  text(setting, "origin").c_str());
    out += line;
  }
  return out;
}

std::string jobs_text(const json& reply) {
  std::string out;
  for (const json& job : list(reply, "jobs")) {
    out += std::to_string(number(job, "job")) + "  " + printable(text(job, "command")) + " " +
           printable(text(job, "object")) + "  " + printable(text(job, "state"));
    const auto error = job.find("error");
    if (error != job.end()) {
      out += ": " + printable(text(*error, "message"));
    } else if (number(job, "total_bytes") != 0) {
      out += "  " + progress_text({number(job, "done_bytes"), number(job, "total_bytes"),
                                   number(job, "bytes_per_second"), number(job, "left_ms")});
    }
    out += "\n";
  }
  return out.empty() ? "no job was begun\n" : out;
}

std::string events_text(const json& reply) {
  std::string out;
  for (const json& event : list(reply, "events")) {
    const auto seconds = static_cast<std::time_t>(number(event, "time_ms") / 1000);
    std::tm utc{};
    char time[32] = "";
    if (gmtime_r(&seconds, &utc) != nullptr) std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &utc);
    out += std::string(time) + "  " + printable(text(event, "kind")) + "  " + printable(text(event, "object")) + ": " +
           printable(text(event, "message")) + "\n";
  }
  return out;
}

std::string health_text(const json& reply) {
  const json health = reply.value("health", json::object());
  std::string out = printable(text(health, "level")) + "\n";
  for (const json& reason : list(health, "reasons")) {
    if (reason.is_string()) out += printable(reason.get<std::string>()) + "\n";
  }
  return out;
}

int health_exit_code(const json& reply) {
  const std::string level = text(reply.value("health", json::object()), "level");
  return level == "ok" ? 0 : level == "warning" ? 10 : 11;
}

}  // namespace pcache
