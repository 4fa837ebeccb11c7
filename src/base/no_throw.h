// The boundary behind include/pcache, which no exception crosses.
#pragma once

#include <new>
#include <string>
#include <system_error>

#include "pcache/status.h"

namespace pcache {

// What `body` returns, a Status or a Result; where it throws because memory, threads or another resource of the system
// ran out, the Status that says what failed. Whatever `body` set up must undo itself when it is left that way.
template <typename Body>
auto no_throw(const std::string& what, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Status(Errc::failed, what + ": out of memory");
  } catch (const std::system_error& error) {
    return Status(Errc::failed, what + ": " + error.what());
  }
}

}  // namespace pcache
