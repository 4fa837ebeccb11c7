// Short replies of the daemon for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace pcache {

// Of `get`: a line for each setting.
std::string settings_text(const nlohmann::json& reply, const OutputStyle& style);

// Of `jobs`: a line for each job.
std::string jobs_text(const nlohmann::json& reply, const OutputStyle& style);

// Of `status`: how all of it is, in one word, and why; and the exit code for that.
std::string health_text(const nlohmann::json& reply);
int health_exit_code(const nlohmann::json& reply);

// Of `segments`: what each character means and a line of them for every 64 segments, for each cache device.
std::string segments_text(const nlohmann::json& reply);

// Of `events`: a line for each event; with -p its time is in milliseconds since 1970.
std::string events_text(const nlohmann::json& reply, const OutputStyle& style);

}  // namespace pcache
