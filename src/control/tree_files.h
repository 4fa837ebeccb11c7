// The files of the control tree: what each tells and what writing to it does. One table for each kind of directory, by
// which the tree `.pcache/` and the extended attributes of logical devices are made.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/command.h"
#include "pcache/result.h"

namespace pcache {

// Where a file is: in the tree itself, in the directory of a cache device, or in that of a backing device.
struct TreePlace {
  const CommandContext& context;
  nlohmann::json status;                   // as of the command
  const nlohmann::json* cache = nullptr;   // inside `status`, in the second and third case
  const nlohmann::json* device = nullptr;  // the logical device of the backing device; in the third case
};

// A command of the table and what it is given.
struct TreeOrder {
  const char* command;
  nlohmann::json args;
};

struct TreeFile {
  using Read = std::function<Result<std::string>(const TreePlace& place)>;
  using Write = std::function<Result<TreeOrder>(const TreePlace& place, const std::string& text)>;
  using Remove = std::function<TreeOrder(const TreePlace& place)>;

  std::string name;
  Read read;      // without a newline at the end; null: it cannot be read
  Write write;    // what the text orders; null: it cannot be written. Errors: invalid, naming what is wrong with it
  Remove remove;  // what its removal orders, which leaves it there; null: it cannot be removed
};

// Each in the order of the names.
const std::vector<TreeFile>& tree_root_files();
const std::vector<TreeFile>& tree_cache_files();
const std::vector<TreeFile>& tree_backing_files();

}  // namespace pcache
