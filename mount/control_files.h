// The control tree in the mount: the kernel's requests for it, and their answers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "control/control_tree.h"
#include "mount/request.h"

namespace pcache {

// Nothing is looked up or done on the thread that read the request: a mount serves its data whatever happens here.
// Values are taken when a file is opened and kept by its handle; a handle that is not known, as after the daemon was
// replaced, reads what there is. Fields of a request are checked, as if anybody could have written it.
class ControlFiles {
 public:
  // `tree` outlives all requests.
  explicit ControlFiles(ControlTree& tree) : tree_(tree) {}

  // Whether this answers the request.
  static bool takes(const Request& request);
  // Takes it over: it is answered later, on another thread, and then given back to its pool.
  void serve(std::unique_ptr<Request> request);

 private:
  struct Operation;
  static const Operation* find_operation(std::uint32_t opcode);

  void answer(std::unique_ptr<Request> request);
  void lookup(std::unique_ptr<Request> request);
  void get_attributes(std::unique_ptr<Request> request);
  void set_attributes(std::unique_ptr<Request> request);
  void open(std::unique_ptr<Request> request);
  void open_directory(std::unique_ptr<Request> request);
  void read(std::unique_ptr<Request> request);
  void write(std::unique_ptr<Request> request);
  void list(std::unique_ptr<Request> request);
  void release(std::unique_ptr<Request> request);
  void unlink(std::unique_ptr<Request> request);

  ControlTree& tree_;
  // Of the tree's thread.
  std::map<std::uint64_t, std::string> opened_;
  std::uint64_t last_handle_ = 0;
};

}  // namespace pcache
