#include "cache/share.h"

#include <algorithm>
#include <numeric>

#include "base/size_text.h"
#include "base/units.h"

namespace pcache {

Share share_of(std::uint64_t share_min, std::uint64_t share_max, std::uint32_t segments, std::uint64_t segment_size) {
  const std::uint64_t total = segments * segment_size;
  return {static_cast<std::uint32_t>(div_ceil(amount_bytes(share_min, total), segment_size)),
          static_cast<std::uint32_t>(amount_bytes(share_max, total) / segment_size)};
}

Status check_shares(std::span<const std::uint32_t> mins, std::uint32_t segments, std::uint32_t kept_free,
                    std::uint64_t segment_size, const std::string& cache_label) {
  const std::uint64_t wanted = std::accumulate(mins.begin(), mins.end(), std::uint64_t{0});
  const std::uint64_t most = segments - std::min(segments, kept_free);
  if (wanted == 0 || wanted <= most) return Status();
  return Status(Errc::invalid, "the share_min of all logical devices on cache device " + cache_label + " would be " +
                                   format_size(wanted * segment_size) + "; at most " +
                                   format_size(most * segment_size) + " can be promised, the rest is kept free");
}

}  // namespace pcache
