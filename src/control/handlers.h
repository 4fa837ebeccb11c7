// What the commands of the table do; command_table.cc says what each takes.
#pragma once

#include <nlohmann/json.hpp>

#include "control/command.h"

namespace pcache {

// status_handlers.cc: what there is and what it did. None of them but segments() waits.
Result<nlohmann::json> ping(const CommandContext& context, const Args& args);
Result<nlohmann::json> version(const CommandContext& context, const Args& args);
Result<nlohmann::json> describe(const CommandContext& context, const Args& args);
Result<nlohmann::json> status(const CommandContext& context, const Args& args);
Result<nlohmann::json> stats(const CommandContext& context, const Args& args);
Result<nlohmann::json> reset_stats(const CommandContext& context, const Args& args);
Result<nlohmann::json> events(const CommandContext& context, const Args& args);
Result<nlohmann::json> metrics(const CommandContext& context, const Args& args);
Result<nlohmann::json> segments(const CommandContext& context, const Args& args);
Result<nlohmann::json> get(const CommandContext& context, const Args& args);

// device_handlers.cc: what there is changes.
Result<nlohmann::json> add(const CommandContext& context, const Args& args);
Result<nlohmann::json> resize(const CommandContext& context, const Args& args);
Result<nlohmann::json> grow(const CommandContext& context, const Args& args);
Result<nlohmann::json> register_cache_dev(const CommandContext& context, const Args& args);
Result<nlohmann::json> unregister_cache_dev(const CommandContext& context, const Args& args);
Result<nlohmann::json> umount(const CommandContext& context, const Args& args);

// job_handlers.cc: what takes as long as the backing does.
Result<nlohmann::json> flush(const CommandContext& context, const Args& args);
Result<nlohmann::json> drain(const CommandContext& context, const Args& args);
Result<nlohmann::json> remove(const CommandContext& context, const Args& args);
Result<nlohmann::json> detach(const CommandContext& context, const Args& args);
Result<nlohmann::json> attach(const CommandContext& context, const Args& args);
Result<nlohmann::json> set(const CommandContext& context, const Args& args);
Result<nlohmann::json> unset(const CommandContext& context, const Args& args);
Result<nlohmann::json> shrink(const CommandContext& context, const Args& args);
Result<nlohmann::json> jobs(const CommandContext& context, const Args& args);
Result<nlohmann::json> cancel(const CommandContext& context, const Args& args);

}  // namespace pcache
