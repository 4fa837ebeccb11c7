#!/usr/bin/env bash
# The quickstart works, works a second time, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "not root"

MNT=$T/q
points+=("$MNT")
repo=$(cd "$(dirname "$0")/../.." && pwd)
PCACHEFS_PRESET=$(basename "$(dirname "$PCACHEFS")")  # the tree that is built already
[ "$repo/build/$PCACHEFS_PRESET/pcachefs" -ef "$PCACHEFS" ] || skip "$PCACHEFS was not built from a preset"
export PCACHEFS_PRESET
[ -e /dev/loop-control ] || skip "no loop devices"
losetup --find >/dev/null || skip "no free loop device"

work_of_last_run() { grep -o '/var/tmp/pcachefs-quickstart-[A-Za-z0-9]*' "$T/quickstart.out" | head -1; }
for round in first second; do
  say "$round run"
  "$repo/examples/quickstart.sh" "$MNT" | tee "$T/quickstart.out"
  [ "$(grep -c '^\[[1-9]/9\] ' "$T/quickstart.out")" -eq 9 ] || fail "not all nine steps were taken"
  if grep -q " $MNT" /proc/mounts; then fail "something is left mounted"; fi
  if losetup -nO BACK-FILE | grep -q "$MNT/"; then fail "a loop device is left attached"; fi
  [ -z "$(daemon_pid "$MNT")" ] || fail "a daemon is left running"
  [ ! -e "$MNT" ] || fail "the mount point is left behind"
  work=$(work_of_last_run) || fail "the work directory is not named"
  [ ! -e "$work" ] || fail "the work directory is left behind: $work"
done

say "a mount point in use is refused, and stays as it is"
p format "$SHM/cache" --size 64M
mkdir "$MNT"
p mount "$MNT" --cache "$SHM/cache"
if "$repo/examples/quickstart.sh" "$MNT" >"$T/out" 2>"$T/err"; then fail "it ran over another mount"; fi
grep -q "mounted at $MNT already" "$T/err" || fail "it said: $(cat "$T/err")"
grep -q "umount $MNT" "$T/err" || fail "it does not say how to take the mount down: $(cat "$T/err")"
p status >/dev/null
