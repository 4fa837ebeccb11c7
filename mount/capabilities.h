// What the daemon may do beyond what any process of its user may.
#pragma once

#include "pcache/status.h"

namespace pcache {

// Gives up all capabilities but those that serving needs: to open backing devices whosever they are, to lock memory,
// and, if it is to `listen`, to take any port.
// What mounting needs is kept back, for PrivilegeToMount. Nothing that is executed gets any back. For the calling
// thread and those that it starts; does nothing for who is not root. Errors: failed.
Status drop_capabilities(bool listen);

// While it lives the calling thread may mount and unmount, if it was allowed to before drop_capabilities().
class PrivilegeToMount {
 public:
  PrivilegeToMount();
  ~PrivilegeToMount();
  PrivilegeToMount(const PrivilegeToMount&) = delete;
  PrivilegeToMount& operator=(const PrivilegeToMount&) = delete;
};

}  // namespace pcache
