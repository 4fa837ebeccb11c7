#!/usr/bin/env bash
# Extended attributes of a logical device's file.
. "$(dirname "$0")/lib.sh"

simple_setup 64M -o dirty_max_age=24h
of() { getfattr --only-values -n "user.pcachefs.$1" "$MNT/dev"; }
refused() {  # ERROR COMMAND...
  local error=$1; shift
  "$@" >"$T/out" 2>"$T/err" && fail "it was taken: $*"
  grep -q "$error" "$T/err" || fail "$*: $(cat "$T/err")"
}

say "they say what status says"
dd if=/dev/urandom of="$MNT/dev" bs=64k count=16 conv=notrunc status=none
[ "$(of dirty_bytes)" = 1048576 ] || fail "dirty_bytes $(of dirty_bytes)"
[ "$(of state) $(of mode) $(of path)" = "running writeback $T/backing" ] || fail "$(of state) $(of mode)"
getfattr -d "$MNT/dev" 2>/dev/null >"$T/all"
for key in size_bytes dirty_bytes reads writes read_hits written_back_bytes; do
  grep -qx "user.pcachefs.$key=\"$(stat_of dev $key)\"" "$T/all" || fail "$key: $(cat "$T/all")"
done
of stats | grep -q '^since_ms ' || fail "no statistics: $(of stats)"
grep -Eq '^user.pcachefs.(stats|mode|dirty_high|uid)=' "$T/all" && fail "what can be changed is listed: $(cat "$T/all")"
[ "$(getfattr -d "$MNT/.pcache/version" 2>/dev/null)" = "" ] || fail "the tree has attributes"

say "settings are set by them"
setfattr -n user.pcachefs.dirty_high -v 30% "$MNT/dev"
[ "$(p get dev dirty_high --json | jq -r '.settings[0] | "\(.value) \(.origin)"')" = "30% stored" ] || fail "$(p get dev)"
setfattr -n user.pcachefs.mode -v writethrough "$MNT/dev"
[ "$(of mode) $(of dirty_bytes)" = "writethrough 0" ] || fail "$(of mode) $(of dirty_bytes)"
refused "Invalid argument" setfattr -n user.pcachefs.dirty_high -v lots "$MNT/dev"
grep -q "dirty_high must be" "$MNT/.pcache/last_error" || fail "$(cat "$MNT/.pcache/last_error")"
refused "Permission denied" setfattr -n user.pcachefs.dirty_bytes -v 0 "$MNT/dev"
refused "not supported" setfattr -n user.pcachefs.nonsense -v 1 "$MNT/dev"
refused "not supported" setfattr -n user.other -v 1 "$MNT/dev"
refused "No such attribute" getfattr -n user.pcachefs.nonsense "$MNT/dev"
[ "$(of dirty_high)" = 30% ] || fail "dirty_high $(of dirty_high)"

say "whoever copies a file with its attributes changes no settings"
cp --preserve=xattr "$MNT/dev" "$T/copy" || fail "it cannot be copied with its attributes"
getfattr -d "$T/copy" 2>/dev/null | grep -q '^user.pcachefs.size_bytes=' || fail "no attributes were copied"
p set dev dirty_high=35%
cp --preserve=xattr "$T/copy" "$MNT/dev" 2>"$T/err" || true
[ "$(of dirty_high) $(of mode)" = "35% writethrough" ] || fail "a copy set $(of dirty_high) $(of mode)"
p set dev dirty_high=30%

say "taking the statistics away begins them anew"
[ "$(of stats | grep '^writes ')" != "writes 0" ] || fail "$(of stats)"
setfattr -x user.pcachefs.stats "$MNT/dev"
[ "$(of stats | grep '^writes ')" = "writes 0" ] || fail "$(of stats)"
dd if=/dev/zero of="$MNT/dev" bs=4k count=1 conv=notrunc status=none
rm "$MNT"/.pcache/cache_dev0/backing_dev0/stats
[ "$(of stats | grep '^writes ')" = "writes 0" ] || fail "$(of stats)"
refused "Permission denied" setfattr -x user.pcachefs.mode "$MNT/dev"
[ "$(stat_of dev writes)" -gt 0 ] || fail "status was reset too"
