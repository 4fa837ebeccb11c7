// Asks the daemon.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/control_client.h"
#include "pcache/result.h"

namespace pcache {

// The reply of the daemon of `mount`, or of the only one where that is empty, to `command`. What waits for nothing has
// `limit_ms` for its answer; before a command that may wait the daemon has to show in that time that it answers at all.
// Errors: its refusal, and those of ControlClient.
Result<nlohmann::json> ask(const std::string& mount, const std::string& command, const nlohmann::json& args,
                           std::uint64_t limit_ms = ControlClient::kAtOnceMs);

// The same, and where that begins a job, its end: the reply has both. Errors also: the job's.
Result<nlohmann::json> ask_and_wait(const std::string& mount, const std::string& command, const nlohmann::json& args);

// Waits for a job, and says on standard error how far it is. Ending this does not end the job. Returns what the job
// looks like at its end. Errors: the job's.
Result<nlohmann::json> wait_for_job(const std::string& mount, std::uint64_t job);

}  // namespace pcache
