// The words for the enumerations of the public headers.

#include "pcache/options.h"
#include "pcache/pmem_space.h"

namespace pcache {

const char* to_string(Granularity granularity) {
  switch (granularity) {
    case Granularity::byte:
      return "byte";
    case Granularity::cache_line:
      return "cache_line";
    case Granularity::page:
      return "page";
  }
  return "unknown";
}

const char* to_string(Ack ack) { return ack == Ack::durable ? "durable" : "flush"; }

}  // namespace pcache
