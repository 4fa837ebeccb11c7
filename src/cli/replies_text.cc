#include "cli/replies_text.h"

#include <cstdio>

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

}  // namespace pcache
