// What the kernel's pcache driver calls things, said of what `status` and `get` reply.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "pcache/result.h"

namespace pcache {

// The first of pcache0, pcache1, ... that no logical device is called.
std::string free_driver_name(const nlohmann::json& status);

// A status without what is missing, of which the driver knows nothing: it has no number.
nlohmann::json without_missing(nlohmann::json status);

// "0x...".
std::string driver_magic(const nlohmann::json& cache);

// The setting gc_high, as a text, in percent of the cache device. Errors: invalid.
Result<std::uint64_t> driver_gc_percent(const nlohmann::json& cache, const std::string& gc_high);

// Of the logical device: cache_segs, what it may take, and cache_used_segs, what it has.
std::uint64_t driver_segments(const nlohmann::json& cache, const nlohmann::json& device);
std::uint64_t driver_used_segments(const nlohmann::json& cache, const nlohmann::json& device);

}  // namespace pcache
