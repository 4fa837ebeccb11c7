#include "base/stable_name.h"
#include "control/handlers.h"

namespace pcache {

using nlohmann::json;

Result<json> add(const CommandContext& context, const Args& args) {
  AddOptions options;
  options.cache_label = args.text("cache");
  if (args.has("size")) options.size_bytes = args.number("size");
  options.settings = args.settings();
  const Status added = context.manager.add(args.text("name"), args.text("backing"), options);
  if (!added.ok()) return added;
  json reply = {{"file", context.mount_point + "/" + args.text("name")}};
  const std::string advice = stable_name_advice(args.text("backing"));
  if (!advice.empty()) reply["warnings"] = json::array({"backing device " + advice});
  return reply;
}

Result<json> resize(const CommandContext& context, const Args& args) {
  if (Status status = context.manager.resize(args.text("name")); !status.ok()) return status;
  return json{{"file", context.mount_point + "/" + args.text("name")}};
}

Result<json> grow(const CommandContext& context, const Args& args) {
  if (Status status = context.manager.grow_cache(args.text("cache"), args.number("size")); !status.ok()) return status;
  return json::object();
}

// What is formatted and cannot be opened then stays formatted, and can be registered once what keeps it from that is
// gone.
Result<json> register_cache_dev(const CommandContext& context, const Args& args) {
  const std::string path = args.text("path");
  FormatOptions format;
  if (args.has("size")) format.size_bytes = args.number("size");
  format.label = args.text("label");
  format.force = args.flag("force");
  if (!args.flag("format") && (args.has("size") || args.has("label") || format.force)) {
    return Status(Errc::invalid,
                  "'register' takes size, label and force only with format: nothing is formatted unasked");
  }
  if (args.flag("format")) {
    if (Status made = context.manager.format_cache_dev(path, format); !made.ok()) return made;
  }
  const Status opened =
      context.open_cache_dev ? context.open_cache_dev(path) : context.manager.open_cache_dev(path, {});
  if (!opened.ok()) return opened;
  for (const CacheDevStats& cache : context.manager.status().cache_devs) {
    if (cache.path == path) return json{{"cache_dev_id", cache.cache_dev_id}, {"label", cache.label}};
  }
  return Status(Errc::failed, "cache device " + path + " was closed again at once");
}

Result<json> unregister_cache_dev(const CommandContext& context, const Args& args) {
  const Status closed = context.manager.close_cache_dev(args.text("cache"), args.flag("no_flush"));
  if (!closed.ok()) return closed;
  return json::object();
}

Result<json> umount(const CommandContext& context, const Args&) {
  context.on_umount();
  return json::object();
}

}  // namespace pcache
