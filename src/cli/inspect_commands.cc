#include "cli/inspect_commands.h"

#include <array>
#include <cstdio>

#include "base/size_text.h"
#include "cli/inspect_json.h"
#include "cli/inspect_text.h"
#include "cli/output.h"
#include "control/version.h"

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

int run_dump(const CliActions& actions, const std::string& cache, bool as_json) {
  JsonStream json;
  static constexpr std::array<const char*, 3> kLists{"devices", "segments", "records"};  // in their order
  std::size_t begun = 0;
  const auto begin_lists = [&](std::size_t count) {
    while (begun < count) json.begin_list(kLists[begun++]);
  };
  const auto print_item = [&](std::size_t list, const auto& item) {
    if (!as_json) {
      std::fputs(dump_text(item).c_str(), stdout);
      return;
    }
    begin_lists(list + 1);
    json.item(to_json(item));
  };
  DumpVisitor visitor;
  visitor.superblock = [&](const DumpedSuperblock& superblock) {
    if (as_json) {
      begin_json(json);
      json.member("superblock", to_json(superblock));
    } else {
      std::fputs(dump_text(superblock).c_str(), stdout);
    }
  };
  visitor.device = [&](const DumpedDevice& device) { print_item(0, device); };
  visitor.segment = [&](const DumpedSegment& segment) { print_item(1, segment); };
  visitor.record = [&](const DumpedRecord& record) { print_item(2, record); };
  if (Status status = actions.dump(cache, visitor); !status.ok()) return report(status);
  if (as_json) {
    begin_lists(kLists.size());
    json.end();
  }
  return print("");
}

int run_salvage(const CliActions& actions, const std::string& cache, const std::string& name,
                const SalvageOptions& options, bool as_json) {
  nlohmann::json damages = nlohmann::json::array();
  const auto found = actions.salvage(cache, name, options, [&](const Damage& damage) {
    if (as_json) {
      damages.push_back(to_json(damage));
    } else {
      std::fputs(damage_text(damage).c_str(), stdout);
    }
  });
  if (!found) return report(found.status());
  const int code = as_json ? print_json({{"schema", schema_json()},
                                         {"image", options.image},
                                         {"logic_dev", name},
                                         {"size_bytes", found->size_bytes},
                                         {"backing", found->backing},
                                         {"backing_detail", found->backing_detail},
                                         {"dirty_bytes", found->dirty_bytes},
                                         {"missing_bytes", found->missing_bytes},
                                         {"damages", found->damages},
                                         {"damage", std::move(damages)}})
                           : print(salvage_text(*found, name, options));
  if (code != 0) return code;
  if (found->damages == 0) return 0;
  return report(Status(Errc::integrity, "image " + options.image + " lacks " + format_size(found->missing_bytes) +
                                            " of logical device " + name + ", or may be older than it should be in " +
                                            std::to_string(found->damages) + " places that are named above"));
}

}  // namespace pcache
