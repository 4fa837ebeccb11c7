#include <utility>

#include "control/handlers.h"
#include "control/jobs.h"

namespace pcache {

using nlohmann::json;

namespace {

// How often a job looks whether it is to go on.
constexpr std::uint64_t kLookMs = 100;

using Wish = JobRun::Wish;
using Progress = DeviceManager::Progress;

Result<json> begin(const CommandContext& context, const char* command, const std::string& object, Jobs::Body body) {
  const auto number = context.jobs.begin(command, object, std::move(body));
  if (!number) return number.status();
  return json{{"job", *number}};
}

// Waits, a little at a time, for what goes on by itself.
template <typename Await>
Status wait_for(JobRun& run, const Await& await) {
  for (;;) {
    const Result<Progress> progress = await();
    if (!progress) return progress.status();
    run.left(progress->left_bytes);
    if (progress->done) return Status();
    if (run.wish() != Wish::go_on) return Jobs::cancelled();
  }
}

// What a cancelled drain has begun to write is written all the same: writeback never stops halfway.
Status write_back(DeviceManager& manager, const std::string& name, JobRun& run) {
  const auto number = manager.begin_drain(name);
  if (!number) return number.status();
  return wait_for(run, [&] { return manager.await_drain(name, *number, kLookMs); });
}

// Waits for a switch of the mode; where that is cancelled, `undo` switches back.
template <typename Undo>
Status await_switch(DeviceManager& manager, const std::string& name, JobRun& run, const Undo& undo) {
  const Status ended = wait_for(run, [&] { return manager.await_switch(name, kLookMs); });
  if (ended.ok() || run.wish() != Wish::cancel) return ended;
  const Status undone = undo();
  return undone.ok() ? ended : undone;
}

}  // namespace

Result<json> flush(const CommandContext& context, const Args& args) {
  return begin(
      context, "flush", args.text("name"),
      [&manager = context.manager, name = args.text("name")](JobRun& run) { return write_back(manager, name, run); });
}

Result<json> drain(const CommandContext& context, const Args& args) {
  return begin(
      context, "drain", args.text("name"),
      [&manager = context.manager, name = args.text("name")](JobRun& run) { return write_back(manager, name, run); });
}

// What is dirty is written back while the device may still be in use, so that little is left when it has to refuse
// writes. Where that fails, remove() says why. A file that was closed just now may still count as open.
Result<json> remove(const CommandContext& context, const Args& args) {
  constexpr std::uint64_t kCloseMs = 2000;
  const bool keep = args.flag("no_flush");
  const bool discard = args.flag("discard_dirty");
  const bool force = args.flag("force");
  if (keep && discard) return Status(Errc::invalid, "dirty data is either kept or thrown away, not both");
  return begin(context, "remove", args.text("name"),
               [&manager = context.manager, name = args.text("name"), keep, discard, force](JobRun& run) {
                 const Status closed = force ? Status() : manager.await_closed(name, kCloseMs);
                 if (closed.code() == Errc::busy) return closed;
                 if (keep || discard) return manager.remove(name, keep ? DirtyData::keep : DirtyData::discard);
                 const Status drained = write_back(manager, name, run);
                 if (run.wish() != Wish::go_on) return drained.ok() ? Jobs::cancelled() : drained;
                 return manager.remove(name, DirtyData::write_back);
               });
}

Result<json> detach(const CommandContext& context, const Args& args) {
  return begin(context, "detach", args.text("name"),
               [&manager = context.manager, name = args.text("name")](JobRun& run) {
                 if (Status begun = manager.detach(name); !begun.ok()) return begun;
                 return await_switch(manager, name, run, [&] { return manager.attach(name); });
               });
}

Result<json> attach(const CommandContext& context, const Args& args) {
  return begin(context, "attach", args.text("name"),
               [&manager = context.manager, name = args.text("name")](JobRun& run) {
                 if (Status begun = manager.attach(name); !begun.ok()) return begun;
                 return await_switch(manager, name, run, [&] { return manager.detach(name); });
               });
}

// Where the daemon ends, the cache device stays as large as it was.
Result<json> shrink(const CommandContext& context, const Args& args) {
  return begin(context, "shrink", args.text("cache"),
               [&manager = context.manager, cache = args.text("cache"), size = args.number("size")](JobRun& run) {
                 if (Status begun = manager.begin_shrink_cache(cache, size); !begun.ok()) return begun;
                 const Status ended = wait_for(run, [&] { return manager.await_shrink_cache(cache, kLookMs); });
                 if (!ended.ok() && run.wish() == Wish::cancel) (void)manager.cancel_shrink_cache(cache);
                 return ended;
               });
}

namespace {

// The mode in force, to go back to.
Settings mode_now(const DeviceManager& manager, const std::string& name) {
  Settings now;
  const auto values = manager.settings(name);
  if (!values) return now;
  for (const SettingValue& value : *values) {
    if (value.setting == Setting::mode) now.set(value.setting, value.value);
  }
  return now;
}

// What is stored now, and counts only until what is configured does again.
json overruled_later(const DeviceManager& manager, const std::string& name, const Settings& changes) {
  json warnings = json::array();
  const auto values = manager.settings(name);
  if (!values) return warnings;
  for (const SettingValue& value : *values) {
    if (!value.configured || !changes.has(value.setting) || changes.get(value.setting) == *value.configured) continue;
    const std::string key = setting_info(value.setting).name;
    warnings.push_back(key + " of logical device " + name + " is configured as " +
                       format_setting(value.setting, *value.configured) +
                       ", which counts again from the next mount on; change it in the configuration too");
  }
  return warnings;
}

}  // namespace

Result<json> set(const CommandContext& context, const Args& args) {
  using Lasting = DeviceManager::Lasting;
  const Lasting lasting = args.flag("temporary") ? Lasting::temporary : Lasting::stored;
  json warnings =
      lasting == Lasting::stored ? overruled_later(context.manager, args.text("name"), args.settings()) : json();
  auto begun = begin(
      context, "set", args.text("name"),
      [&manager = context.manager, name = args.text("name"), changes = args.settings(), lasting](JobRun& run) {
        const Settings before = mode_now(manager, name);
        Status stored = manager.set(name, changes, lasting);
        if (!stored.ok() || !changes.has(Setting::mode)) return stored;
        return await_switch(manager, name, run, [&] { return before.empty() ? Status() : manager.set(name, before); });
      });
  if (begun && !warnings.empty()) (*begun)["warnings"] = std::move(warnings);
  return begun;
}

Result<json> unset(const CommandContext& context, const Args& args) {
  return begin(context, "unset", args.text("name"),
               [&manager = context.manager, name = args.text("name"), keys = args.keys()](JobRun& run) {
                 const Settings before = mode_now(manager, name);
                 Status taken_back = manager.unset(name, keys);
                 if (!taken_back.ok() || !keys.test(static_cast<std::size_t>(Setting::mode))) return taken_back;
                 Status ended = await_switch(manager, name, run,
                                             [&] { return before.empty() ? Status() : manager.set(name, before); });
                 return ended.ok() ? manager.unset(name, keys) : ended;
               });
}

Result<json> jobs(const CommandContext& context, const Args& args) {
  if (!args.has("job")) return json{{"jobs", context.jobs.list()}};
  const auto job = context.jobs.show(args.number("job"));
  if (!job) return job.status();
  return json{{"jobs", json::array({*job})}};
}

Result<json> cancel(const CommandContext& context, const Args& args) {
  const Status asked = context.jobs.cancel(args.number("job"));
  if (!asked.ok()) return asked;
  return json::object();
}

}  // namespace pcache
