// Whether a request has everything that its operation goes on to read.
#pragma once

#include "mount/request.h"

namespace pcache {

// What becomes of a request that is not for the data path.
enum class RequestForm {
  whole,      // its fields and names are all there
  malformed,  // it is too short for its fields, or a name in it does not end
  unknown,    // there is no such operation here
};

// libfuse looks at neither the length of a request nor the ends of its names.
RequestForm form_of(const Request& request);

// Whether the kernel does not wait for an answer to requests of `opcode`, nor takes one.
bool goes_unanswered(std::uint32_t opcode);

}  // namespace pcache
