#!/usr/bin/env bash
# From format to remove, over remounts, and every way to take a mount down.
. "$(dirname "$0")/lib.sh"

say "a logical device appears as a file of the backing's size"
simple_setup 96M
[ "$(stat -c %s "$MNT/dev")" -eq $((96 << 20)) ] || fail "size is $(stat -c %s "$MNT/dev")"
[ "$(ls "$MNT")" = dev ] || fail "the mount shows: $(ls "$MNT")"
inode=$(stat -c %i "$MNT/dev")

say "it behaves like a block device"
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc status=none
dd if="$T/data" of="$MNT/dev" bs=1M status=none            # opens with O_TRUNC
[ "$(stat -c %s "$MNT/dev")" -eq $((96 << 20)) ] || fail "O_TRUNC changed the size"
cmp -n 3000000 "$T/data" "$MNT/dev"
if truncate -s 1M "$MNT/dev" 2>/dev/null; then fail "truncate to another size succeeded"; fi
if dd if=/dev/zero of="$MNT/dev" bs=4096 seek=$((96 << 8)) count=1 conv=notrunc status=none 2>"$T/err"; then
  fail "a write past the end succeeded"
fi
grep -q "No space left" "$T/err" || fail "a write past the end said: $(cat "$T/err")"
[ "$(dd if="$MNT/dev" bs=4096 skip=$((96 << 8)) count=1 status=none | wc -c)" -eq 0 ] || fail "a read past the end gave data"
if rm "$MNT/dev" 2>/dev/null; then fail "rm succeeded"; fi
if touch "$MNT/new" 2>/dev/null; then fail "creating a file succeeded"; fi
printf 'abc' | dd of="$MNT/dev" bs=1 seek=4095 conv=notrunc status=none
[ "$(dd if="$MNT/dev" bs=1 skip=4095 count=3 status=none)" = abc ] || fail "an unaligned write was not read back"
sha=$(sha256sum <"$MNT/dev")

take_down() {
  local pid; pid=$(daemon_pid "$MNT")
  [ -n "$pid" ] || fail "no daemon"
  "$@"
  for _ in $(seq 1200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  if kill -0 "$pid" 2>/dev/null; then fail "the daemon lives on after: $*"; fi
  if grep -q " $MNT fuse" /proc/mounts; then fail "the mount is still there after: $*"; fi
}

for way in "p umount $MNT" "fusermount3 -u $MNT" "umount $MNT" "kill_daemon TERM" "kill_daemon INT"; do
  say "taken down by: $way"
  kill_daemon() { kill -"$1" "$(daemon_pid "$MNT")"; }
  # shellcheck disable=SC2086
  take_down $way
  p mount "$MNT" --cache "$SHM/cache"
  [ "$(sha256sum <"$MNT/dev")" = "$sha" ] || fail "the content changed"
  [ "$(stat -c %i "$MNT/dev")" = "$inode" ] || fail "the inode number changed"
done

say "umount refuses while a file is open"
exec 7<"$MNT/dev"
expect_exit 4 p umount "$MNT"
exec 7<&-

say "what is in use is not removed"
exec 7<"$MNT/dev"
expect_exit 4 p remove dev
grep -q "logical device dev is in use: its file is open" "$T/err" || fail "it says: $(cat "$T/err")"
expect_exit 4 p remove dev --discard-dirty --yes
[ -e "$MNT/dev" ] || fail "it was removed all the same"
exec 7<&-

say "remove leaves the backing with everything"
p remove dev
[ -z "$(ls "$MNT")" ] || fail "the mount still shows: $(ls "$MNT")"
[ "$(sha256sum <"$T/backing")" = "$sha" ] || fail "the backing lacks something"
[ "$(p status --json | jq '.cache_devs[0].segments_used')" -eq 0 ] || fail "segments are still used"

say "one that comes back under its name is opened at once, though the kernel knows the old one"
for _ in 1 2 3; do
  p add dev "$T/backing"
  head -c 4096 "$MNT/dev" >"$T/out" || fail "it cannot be opened"
  p remove dev
done
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache"
[ -z "$(ls "$MNT")" ] || fail "it came back: $(ls "$MNT")"
p umount "$MNT"
