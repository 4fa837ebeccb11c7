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
  return json{{"file", context.mount_point + "/" + args.text("name")}};
}

Result<json> resize(const CommandContext& context, const Args& args) {
  if (Status status = context.manager.resize(args.text("name")); !status.ok()) return status;
  return json{{"file", context.mount_point + "/" + args.text("name")}};
}

Result<json> grow(const CommandContext& context, const Args& args) {
  if (Status status = context.manager.grow_cache(args.text("cache"), args.number("size")); !status.ok()) return status;
  return json::object();
}

Result<json> umount(const CommandContext& context, const Args&) {
  context.on_umount();
  return json::object();
}

}  // namespace pcache
