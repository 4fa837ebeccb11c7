#include "mount/capabilities.h"

#include <cap-ng.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace pcache {
namespace {

constexpr unsigned kToMount = CAP_SYS_ADMIN;

// A process in a container may have been given less.
std::vector<unsigned> held_of(const std::vector<unsigned>& wanted) {
  std::vector<unsigned> held;
  for (const unsigned capability : wanted) {
    if (capng_have_capability(CAPNG_PERMITTED, capability) == 1) held.push_back(capability);
  }
  return held;
}

void set_effective(capng_act_t action) {
  if (geteuid() != 0 || capng_get_caps_process() != 0) return;
  if (capng_have_capability(CAPNG_PERMITTED, kToMount) != 1) return;
  capng_update(action, CAPNG_EFFECTIVE, kToMount);
  capng_apply(CAPNG_SELECT_CAPS);
}

}  // namespace

Status drop_capabilities(bool listen) {
  if (geteuid() != 0) return Status();
  const auto failed = [] { return Status::from_errno(errno, "cannot give up the capabilities that are not needed"); };
  if (capng_get_caps_process() != 0) return failed();
  std::vector<unsigned> wanted = {CAP_DAC_OVERRIDE, CAP_IPC_LOCK, kToMount};
  if (listen) wanted.push_back(CAP_NET_BIND_SERVICE);
  const std::vector<unsigned> kept = held_of(wanted);
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
  capng_clear(CAPNG_SELECT_BOTH);
  for (const unsigned capability : kept) {
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_PERMITTED | CAPNG_BOUNDING_SET), capability);
    if (capability != kToMount) capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, capability);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed();
  return capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) == 0 ? Status() : failed();
}

PrivilegeToMount::PrivilegeToMount() { set_effective(CAPNG_ADD); }
PrivilegeToMount::~PrivilegeToMount() { set_effective(CAPNG_DROP); }

}  // namespace pcache
