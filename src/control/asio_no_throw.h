// no_throw() for what uses Boost.Asio, whose exceptions are none of the standard's.
#pragma once

#include <string>

#include "base/no_throw.h"
#include "control/asio.h"

namespace pcache {

template <typename Body>
auto asio_no_throw(const std::string& what, const Body& body) -> decltype(body()) {
  return no_throw(what, [&]() -> decltype(body()) {
    try {
      return body();
    } catch (const boost::system::system_error& error) {
      return Status::from_errno(error.code().value(), what);
    }
  });
}

}  // namespace pcache
