// The control tree: the commands, and what they tell, as directories and files with one value each. docs/control.md
// shows it. Nothing in it is ever stored: every answer comes from a command of the table.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/command.h"
#include "pcache/status.h"

namespace pcache {

struct TreeFile;
struct TreePlace;
struct TreeOrder;

struct TreeNode {
  std::uint64_t inode = 0;
  std::string name;
  bool directory = false;
  bool readable = false;
  bool writable = false;
  bool removable = false;
};

// Thread-safe. What returns something waits for no device; what calls `done` may do so at once or later, on any thread,
// always once.
class ControlTree {
 public:
  static constexpr const char* kName = ".pcache";
  // The tree's own directory. All its inode numbers have this bit; those of logical devices end with a number below it.
  static constexpr std::uint64_t kRoot = std::uint64_t{1} << 31;
  static bool owns(std::uint64_t inode) { return (inode & kRoot) != 0; }
  static constexpr std::size_t kMaxText = 4096;  // bytes that can be written to a file

  // Runs what it is given on another thread, and says false where that cannot be.
  using Run = std::function<bool(std::function<void()>)>;
  // `soon` is for what waits for nothing, `later` for what may wait for I/O; `changed` is called after a command.
  ControlTree(const CommandContext& context, Run soon, Run later, std::function<void()> changed);

  // For whoever asks here: takes what has to be looked up off the calling thread.
  bool run(std::function<void()> what) const { return soon_(std::move(what)); }

  std::optional<TreeNode> find(std::uint64_t inode) const;
  std::optional<TreeNode> lookup(std::uint64_t parent, std::string_view name) const;
  // The directory of the backing device of that logical device, or nothing.
  std::optional<std::uint64_t> directory_of(const std::string& logic_dev) const;
  // What is in a directory; empty where there is none.
  std::vector<TreeNode> list(std::uint64_t directory) const;

  // The value of a file now, with a newline at its end. Errors: not_found, permission (it cannot be read), those of the
  // command.
  Result<std::string> read(std::uint64_t file) const;
  // Gives the command that the text orders; `done` gets what became of it. Errors: invalid (the text), not_found,
  // permission (it cannot be written), those of the command. The last one can be read in last_error.
  using Done = std::function<void(const Status& outcome)>;
  void write(std::uint64_t file, const std::string& text, Done done);
  // The same for the removal of a file, which stays.
  void remove(std::uint64_t parent, std::string_view name, Done done);

 private:
  struct Spot;
  TreePlace look() const;
  bool enter(const Spot& spot, TreePlace& place) const;
  void carry_out(const std::string& what, const Result<TreeOrder>& order, Done done);
  void run_and_tell(const Command& command, const nlohmann::json& args, const Done& done);
  void note(const std::string& error);
  static std::string path_of(const Spot& spot, const std::string& name);

  const CommandContext& context_;
  const Run soon_;
  const Run later_;
  const std::function<void()> changed_;
  mutable std::mutex mutex_;
  std::string last_error_;
};

}  // namespace pcache
