#include "cli/replies_text.h"

#include <ctime>
#include <map>

#include "cli/json_fields.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "control/setting_json.h"

namespace pcache {

using nlohmann::json;

std::string settings_text(const json& reply, const OutputStyle& style) {
  Table table(style, {{"SETTING"}, {"VALUE"}, {"ORIGIN"}});
  for (const json& setting : list(reply, "settings")) {
    table.add({printable(text(setting, "name")),
               printable(setting_text(text(setting, "name"), setting.value("value", json()))),
               printable(text(setting, "origin"))});
  }
  return table.text();
}

namespace {

std::string what_became_of(const json& job, const OutputStyle& style) {
  const auto error = job.find("error");
  if (error != job.end()) return printable(text(*error, "message"));
  if (number(job, "total_bytes") == 0) return "";
  if (style.exact) {
    return std::to_string(number(job, "done_bytes")) + " of " + std::to_string(number(job, "total_bytes"));
  }
  return progress_text(
      {number(job, "done_bytes"), number(job, "total_bytes"), number(job, "bytes_per_second"), number(job, "left_ms")});
}

std::string time_text(std::uint64_t ms, const OutputStyle& style) {
  if (style.exact) return std::to_string(ms);
  const auto seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  char time[32] = "";
  if (gmtime_r(&seconds, &utc) != nullptr) std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return time;
}

}  // namespace

std::string jobs_text(const json& reply, const OutputStyle& style) {
  Table table(style, {{"JOB", Table::Align::right}, {"COMMAND"}, {"OBJECT"}, {"STATE"}, {"PROGRESS"}});
  for (const json& job : list(reply, "jobs")) {
    table.add({std::to_string(number(job, "job")), printable(text(job, "command")), printable(text(job, "object")),
               state_text(text(job, "state"), style), what_became_of(job, style)});
  }
  return table.empty() && !style.bare ? "no job was begun\n" : table.text();
}

std::string segments_text(const json& reply) {
  constexpr std::size_t kLine = 64;
  std::string out;
  for (const json& cache : list(reply, "cache_devs")) {
    const std::string states = printable(text(cache, "states"));
    out += "cache device " + printable(text(cache, "label")) + ", a character for each of " +
           std::to_string(states.size()) + " segments: d dirty, c clean, . free, x damaged\n";
    for (std::size_t first = 0; first < states.size(); first += kLine) out += "  " + states.substr(first, kLine) + "\n";
    std::map<std::int64_t, std::size_t> count;
    for (const json& owner : list(cache, "owners")) {
      if (owner.is_number_integer()) ++count[owner.get<std::int64_t>()];
    }
    std::int64_t place = 0;
    for (const json& name : list(cache, "logic_devs")) {
      if (name.is_string())
        out += "  " + std::to_string(count[place]) + " of " + printable(name.get<std::string>()) + "\n";
      ++place;
    }
  }
  return out.empty() ? "there is no cache device\n" : out;
}

std::string events_text(const json& reply, const OutputStyle& style) {
  Table table(style, {{"NUMBER", Table::Align::right}, {"TIME"}, {"SEVERITY"}, {"KIND"}, {"OBJECT"}, {"MESSAGE"}});
  for (const json& event : list(reply, "events")) {
    table.add({std::to_string(number(event, "number")), time_text(number(event, "time_ms"), style),
               printable(text(event, "severity")), printable(text(event, "kind")), printable(text(event, "object")),
               printable(text(event, "message"))});
  }
  return table.empty() && !style.bare ? "nothing has happened\n" : table.text();
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
