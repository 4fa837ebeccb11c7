#include "cli/list_text.h"

#include <vector>

#include "cli/json_fields.h"
#include "cli/output.h"

namespace pcache {

using nlohmann::json;

namespace {

// In the order in which they are reported.
std::vector<json> devices_on(const json& status, const std::string& label) {
  std::vector<json> devices;
  for (const json& device : list(status, "logic_devs")) {
    if (text(device, "cache_dev") == label) devices.push_back(device);
  }
  return devices;
}

}  // namespace

std::string list_text(const json& status, const OutputStyle& style) {
  constexpr auto kRight = Table::Align::right;
  Table table(style, {{"NAME"}, {"STATE"}, {"SIZE", kRight}, {"USED", kRight}, {"DIRTY", kRight}, {"MODE"}, {"PATH"}});
  for (const json& cache : list(status, "cache_devs")) {
    const std::string label = text(cache, "label");
    const std::vector<json> devices = devices_on(status, label);
    std::uint64_t dirty = 0;
    for (const json& device : devices) dirty += number(device, "dirty_bytes");
    const bool known = text(cache, "state") != "missing";
    const std::uint64_t used = number(cache, "segments_used") * number(cache, "segment_size_bytes");
    table.add({printable(label), state_text(text(cache, "state"), style),
               known ? size_text(number(cache, "size_bytes"), style) : "", known ? size_text(used, style) : "",
               known ? size_text(dirty, style) : "", "", printable(text(cache, "path"))});
    for (const json& device : devices) {
      const bool last = &device == &devices.back();
      // A name has no slash, so that a script can take the two apart.
      const std::string branch = style.bare ? label + "/" : last ? "└─ " : "├─ ";
      const std::string pending = text(device, "pending_mode");
      const bool there = text(device, "state") != "missing";
      const auto size = [&](const char* key) { return there ? size_text(number(device, key), style) : ""; };
      table.add({printable(branch + text(device, "name")), state_text(text(device, "state"), style), size("size_bytes"),
                 size("used_bytes"), size("dirty_bytes"),
                 printable(text(device, "mode") + (pending.empty() ? "" : " to " + pending)),
                 printable(text(device, "backing"))});
    }
  }
  return table.empty() && !style.bare ? "no cache device\n" : table.text();
}

json list_json(const json& status) {
  json caches = json::array();
  for (json cache : list(status, "cache_devs")) {
    cache["logic_devs"] = devices_on(status, text(cache, "label"));
    caches.push_back(std::move(cache));
  }
  const auto schema = status.find("schema");
  return {{"schema", schema != status.end() ? *schema : json()}, {"cache_devs", std::move(caches)}};
}

}  // namespace pcache
