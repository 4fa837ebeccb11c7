#!/usr/bin/env bash
# Modes through the mount: switched, detached, attached and removed while fio writes and verifies.
. "$(dirname "$0")/lib.sh"
command -v fio >/dev/null || skip "no fio"

simple_setup 96M -o dirty_max_age=60000
mode_of() { p status dev --json | jq -r '.logic_devs[0].mode'; }

say "each mode, under load"
p set dev mode=writeonly
fio --name=load --filename="$MNT/dev" --size=64M --rw=randwrite --bsrange=512-64k --ioengine=psync --numjobs=1 \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_backlog=64 --loops=3 --randseed=1 --minimal >"$T/fio" 2>&1 &
load=$!
for mode in writethrough writeback writearound passthrough writeback writeonly writethrough writearound writeback; do
  p set dev mode=$mode
  [ "$(mode_of)" = $mode ] || fail "the mode is $(mode_of) and not $mode"
done
p detach dev
[ "$(mode_of)" = passthrough ] || fail "a detached device is in mode $(mode_of)"
p attach dev
[ "$(mode_of)" = writeback ] || fail "an attached device is in mode $(mode_of)"
wait $load || { cat "$T/fio" >&2; fail "fio found other data than it had written"; }

say "in a direct mode the backing has everything"
p set dev mode=writethrough
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=100000 conv=notrunc status=none
[ "$(stat_of dev dirty_bytes)" -eq 0 ] || fail "something is dirty in writethrough"
cmp -n 3000000 "$T/data" "$T/backing"
cmp -n 3000000 "$T/data" "$MNT/dev"

say "a detached device holds no segment, over a restart too"
p detach dev
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=60000
[ "$(mode_of)" = passthrough ] || fail "a restart attaches"
[ "$(p status --json | jq '.cache_devs[0].segments_used')" -eq 0 ] || fail "it holds segments"
cmp -n 3000000 "$T/data" "$MNT/dev"
p attach dev

say "removed and kept"
p set dev mode=writeback
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=100000 conv=notrunc status=none
p remove dev --no-flush >/dev/null
[ ! -e "$MNT/dev" ] || fail "it is still exposed"
if cmp -s -n 3000000 "$T/data" "$T/backing"; then fail "it was written back"; fi
expect_exit 5 p remove dev
expect_exit 4 p add other "$T/backing"
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=60000
[ "$(p status dev --json | jq -r '.logic_devs[0].state')" = parked ] || fail "a restart exposes it"
[ ! -e "$MNT/dev" ] || fail "a restart exposes it"
p add dev "$T/backing"
cmp -n 3000000 "$T/data" "$MNT/dev"
p drain dev
[ "$(stat_of dev dirty_bytes)" -eq 0 ] || fail "dirty after a drain"
cmp -n 3000000 "$T/data" "$T/backing"

say "dirty data is thrown away only when told"
dd if=/dev/zero of="$MNT/dev" bs=1M count=1 conv=notrunc status=none
p remove dev --discard-dirty
cmp -n 3000000 "$T/data" "$T/backing"
expect_exit 3 p drain dev

say "bad input"
p add dev "$T/backing" --mode writearound
[ "$(mode_of)" = writearound ] || fail "add --mode is not heeded"
expect_exit 2 p set dev mode=writesideways
expect_exit 2 p remove dev --no-flush --discard-dirty
expect_exit 2 p drain
expect_exit 3 p detach other
[ "$(mode_of)" = writearound ] || fail "bad input changed the mode"
