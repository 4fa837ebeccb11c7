// Boost.Asio, together with what version 1.74 uses and does not include.
#pragma once

// clang-format off
#include <utility>
#include <boost/asio.hpp>
// clang-format on
