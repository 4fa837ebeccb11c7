// Boost.Asio, together with what version 1.74 uses and does not include.
#pragma once

// clang-format off
#include <utility>
#include <boost/asio.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
// clang-format on
