#include "cli/inspect_commands.h"

#include <cstdio>

#include "cli/inspect_json.h"
#include "cli/inspect_text.h"
#include "cli/output.h"

namespace pcache {

int run_check(const CliActions& actions, const std::string& cache, bool as_json) {
  JsonStream json;
  bool begun = false;
  const auto begin = [&] {
    if (as_json && !begun) {
      begin_json(json);
      json.begin_list("damage");
    }
    begun = true;
  };
  const auto found = actions.check(cache, [&](const Damage& damage) {
    begin();
    if (as_json) {
      json.item(to_json(damage));
    } else {
      std::fputs(damage_text(damage).c_str(), stdout);
    }
  });
  if (!found) return report(found.status());
  begin();
  if (as_json) {
    json.member("path", found->path);
    json.member("uuid", found->uuid);
    json.member("label", found->label);
    json.member("size_bytes", found->size_bytes);
    json.member("closed_in_order", found->closed_in_order);
    json.member("damages", found->damages);
    json.begin_list("logic_devs");
    for (const CheckedLogicDev& device : found->logic_devs) json.item(to_json(device));
    json.end();
  }
  if (const int code = print(as_json ? "" : check_text(*found)); code != 0) return code;
  if (found->damages == 0) return 0;
  return report(Status(Errc::integrity, "cache device " + cache + " is damaged, in " + std::to_string(found->damages) +
                                            (found->damages == 1 ? " place" : " places")));
}

}  // namespace pcache
