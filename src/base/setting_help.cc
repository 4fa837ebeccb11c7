#include "base/setting_help.h"

#include <array>

namespace pcache {
namespace {

// In the order of their numbers.
constexpr std::array<const char*, kSettingCount> kHelp{
    "Where a write goes before it is acknowledged, and what is kept in the cache. In all but writeback and writeonly "
    "nothing is only in the cache.",
    "Once more than this part of the cache device is dirty, writeback works until no more than dirty_low is.",
    "Where the writeback that dirty_high began ends.",
    "How long a written block may stay only in the cache while space is ample.",
    "Writeback is at least this fast while anything is dirty. 0: it may rest.",
    "Writeback is at most this fast while there is room and time. 0: there is no limit.",
    "epoch: the backing device alone always is a state that its users' flushes allow. none: faster, and it is one only "
    "when nothing is dirty.",
    "What becomes of writes when the cache is full of dirty data: they wait for their turn, go past the cache, or "
    "fail.",
    "How long a write waits for space while the backing device takes nothing at all, before it fails.",
    "Which blocks that were read from the backing device are cached: all of them, or those that are read again.",
    "What a read in order has gone beyond this many bytes is not cached. 0: everything is.",
    "Clean data that makes up this part of the cache device is not taken for other logical devices.",
    "The logical device takes no more than this part of the cache device.",
    "The user whose file in the mount it is.",
    "The group whose file in the mount it is.",
    "What the file lets its owner, its group and others do, as with chmod.",
    "Once the logical device has more than this part of the cache device, its clean data is freed, also while there is "
    "space.",
};

}  // namespace

const char* setting_help(Setting setting) { return kHelp[static_cast<std::size_t>(setting)]; }

}  // namespace pcache
