#!/usr/bin/env bash
# A cache full of dirty data over a backing that takes nothing: what each policy does with writes, that reads and what
# was acknowledged do not suffer, and that all goes on once the backing does. The backing lies on a filesystem that is
# frozen meanwhile.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/frozen_backing.bash"

p format "$SHM/cache" --size 32M
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=24h
p add dev "$T/fs/backing"
head -c 96M /dev/urandom >"$T/data"
put() { timeout 300 dd if="$T/data" of="$MNT/dev" bs=1M oflag=direct conv=notrunc "$@"; }
same() { timeout 300 dd if="$MNT/dev" bs=1M count="$1" iflag=direct status=none | cmp -n $(($1 << 20)) - "$T/data"; }
cache_stat() { p status --json | jq -e ".cache_devs[0].$1"; }

say "three times the cache is written, and the backing keeps up"
put count=96 status=none
p flush dev
[ "$(cache_stat segments_dirty)" -le 4 ] || fail "$(cache_stat segments_dirty) segments are dirty after a flush"
cmp "$T/fs/backing" "$T/data"

say "error: writes fail once nothing clean is left"
freeze
p set dev full_policy=error
head -c 96M /dev/urandom >"$T/data"
if put count=96 2>"$T/err"; then fail "96M were written into a cache of 32M"; fi
grep -q "No space left on device" "$T/err" || { cat "$T/err"; fail "another error was expected"; }
acknowledged=$(sed -n 's/^\([0-9]*\)+.* records out$/\1/p' "$T/err")
[ "$acknowledged" -ge 8 ] || fail "only $acknowledged MiB went into the cache"
same "$acknowledged"
[ "$(stat_of dev dirty_bytes)" -ge $((acknowledged << 20)) ] || fail "dirty are only $(stat_of dev dirty_bytes) bytes"
[ "$(stat_of dev clean_epoch)" -lt "$(stat_of dev epoch)" ]

say "throttle: a write waits, and fails when no space comes free for full_max_wait"
p set dev full_policy=throttle full_max_wait=100
if put count=32 seek=60 skip=60 2>"$T/err"; then fail "32M more were written into a full cache"; fi
grep -q "No space left on device" "$T/err" || { cat "$T/err"; fail "another error was expected"; }
[ "$(stat_of dev throttled_ms)" -ge 100 ] || fail "it waited $(stat_of dev throttled_ms) ms"
same "$acknowledged"

say "a write that waits longer stops no read, and is there in the end"
p set dev full_max_wait=24h
waits=$(stat_of dev space_waits)
put count=96 status=none &
writer=$!
for _ in $(seq 1200); do [ "$(stat_of dev space_waits)" -gt "$waits" ] && break; sleep 0.1; done
[ "$(stat_of dev space_waits)" -gt "$waits" ] || fail "no write waits"
same "$acknowledged"
kill -0 "$writer" || fail "the write that waits for space has ended"
[ "$(stat_of dev oldest_dirty_ms)" -gt 0 ]
thaw
wait "$writer" || fail "the write did not go on with the backing"
same 96
p flush dev
[ "$(stat_of dev dirty_bytes)" -eq 0 ]
[ "$(stat_of dev oldest_dirty_ms)" -eq 0 ]
cmp "$T/fs/backing" "$T/data"
p umount "$MNT"
