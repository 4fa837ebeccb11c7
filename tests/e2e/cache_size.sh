#!/usr/bin/env bash
# A cache device becomes larger and smaller while fio writes and verifies, over the daemon's death, on a filesystem that is
# full, and with a backing that is missing. What cannot be is refused and changes nothing.
. "$(dirname "$0")/lib.sh"
command -v fio >/dev/null || skip "no fio"

CACHE=$SHM/cache
truncate -s 96M "$T/backing"
truncate -s 32M "$T/other"
p format "$CACHE" --size 64M --label fast
p mount "$MNT" --cache "$CACHE" -o dirty_max_age=600000
p add dev "$T/backing"
p add other "$T/other"
cache() { p status --json | jq -e ".cache_devs[0].$1"; }
has_size() {
  [ "$(cache size_bytes)" -eq "$1" ] || fail "the cache device has $(cache size_bytes) bytes and not $1"
  [ "$(stat -c %s "$CACHE")" -eq "$1" ] || fail "its file has $(stat -c %s "$CACHE") bytes and not $1"
}
head -c $((8 << 20)) /dev/urandom >"$T/data"
keep_data() { dd if="$T/data" of="$MNT/other" bs=1M conv=notrunc,fsync status=none; }
has_data() { cmp -n $((8 << 20)) "$T/data" "$MNT/other" || fail "other has changed: $1"; }
keep_data

say "under load"
fio --name=load --filename="$MNT/dev" --size=64M --rw=randwrite --bsrange=4k-64k --ioengine=psync --numjobs=1 \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_backlog=64 --loops=1 --randseed=1 --verify_state_save=0 --minimal >"$T/fio" 2>&1 &
load=$!
for _ in 1 2; do
  p grow fast 160M
  has_size $((160 << 20))
  p shrink "$CACHE" 48M >"$T/out"
  has_size $((48 << 20))
done
truncate -s 96M "$CACHE"  # by somebody else
p grow fast
has_size $((96 << 20))
wait $load || { cat "$T/fio" >&2; fail "fio found other data than it had written"; }
has_data "grown and shrunk"

say "what is refused"
expect_exit 3 p grow slow
expect_exit 3 p shrink slow 48M
expect_exit 2 p grow fast 64M
expect_exit 2 p grow fast 1000T
expect_exit 2 p grow fast $(((96 << 20) + 4096 + 512))
expect_exit 2 p shrink fast 128M
expect_exit 2 p shrink fast $(((48 << 20) + 512))
expect_exit 2 p shrink fast 1M
expect_exit 2 p shrink fast
has_size $((96 << 20))

say "the daemon's death"
p shrink fast 64M
pid=$(daemon_pid "$MNT")
kill -9 "$pid"
gone "$pid"
umount -l "$MNT"
truncate -s 128M "$CACHE"
p mount "$MNT" --cache "$CACHE" -o dirty_max_age=600000
[ "$(cache size_bytes)" -eq $((64 << 20)) ] || fail "the cache device has $(cache size_bytes) bytes by itself"
has_data "after the daemon's death"
p grow fast 96M
[ "$(cache size_bytes)" -eq $((96 << 20)) ] || fail "the cache device has $(cache size_bytes) bytes"
[ "$(stat -c %s "$CACHE")" -eq $((128 << 20)) ] || fail "its file was truncated"

say "something dirty cannot be written back"
p grow fast 128M
dd if=/dev/urandom of="$MNT/dev" bs=1M count=70 conv=notrunc status=none
p umount "$MNT"
mv "$T/backing" "$T/away"
p mount "$MNT" --cache "$CACHE" -o dirty_max_age=600000
expect_exit 5 p shrink fast 32M
grep -q "logical device dev " "$T/err" || fail "$(cat "$T/err")"
has_size $((128 << 20))
has_data "beside one without a backing"
mv "$T/away" "$T/backing"
p attach dev
p shrink fast 32M
has_size $((32 << 20))
has_data "in a quarter of it"
p remove dev
p remove other
cmp -n $((8 << 20)) "$T/data" "$T/other" || fail "the backing is not what was written"
p umount "$MNT"

say "a full filesystem"
mkdir "$T/full"
if mount -t tmpfs -o size=48M none "$T/full" 2>/dev/null; then
  mounts+=("$T/full")
  CACHE=$T/full/cache
  p format "$CACHE" --size 32M --label fast
  p mount "$MNT" --cache "$CACHE"
  p add other "$T/other"
  keep_data
  expect_exit 1 p grow fast 128M
  grep -q "No space left" "$T/err" || fail "$(cat "$T/err")"
  has_size $((32 << 20))
  has_data "on a full filesystem"
  p grow fast 40M
  has_size $((40 << 20))
  has_data "grown as far as there is room"
  p umount "$MNT"
else
  say "no right to mount a tmpfs: that was left out"
fi
