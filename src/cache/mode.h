// The modes of a logical device, and what tells them apart.
#pragma once

#include "pcache/settings.h"

namespace pcache {

// Writes and discards go to the backing at once, and the log only has what the backing has.
inline bool is_direct(Mode mode) {
  return mode == Mode::writethrough || mode == Mode::writearound || mode == Mode::passthrough;
}
// The log may have what the backing does not.
inline bool keeps_dirty(Mode mode) { return !is_direct(mode); }

// A mode as chosen, which a detached device keeps for when it is attached again.
struct ModeChoice {
  Mode mode = Mode::writeback;
  bool detached = false;

  Mode in_force() const { return detached ? Mode::passthrough : mode; }
  bool operator==(const ModeChoice&) const = default;
};

}  // namespace pcache
