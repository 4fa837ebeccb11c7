#!/usr/bin/env bash
# What `pcachefs mount` and the commands to a mount refuse: with which exit code, and that nothing is lost by it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"

cache=$SHM/cache
p format "$cache" --size 8M
head -c 1000000 /dev/urandom >"$T/data"
truncate -s 16M "$T/backing"
p mount "$MNT" --cache "$cache" -o dirty_max_age=86400000
p add dev "$T/backing"
dd if="$T/data" of="$MNT/dev" bs=1M conv=notrunc,fsync status=none
p umount "$MNT"
cp "$cache" "$SHM/dirty"  # holds 245 dirty blocks
watched=("$cache" "$T/backing")

# refused CODE PATTERN ARGUMENT...: `pcachefs mount ARGUMENT...` is refused and leaves no mount, daemon or socket.
refused() {
  expect_error "$1" "$2" p mount "${@:3}"
  if grep -q " $T/[^ ]* fuse" /proc/mounts; then wrong "a refused mount is there: mount ${*:3}"; fi
  [ -z "$(pgrep -f "pcachefs mount $T")" ] || wrong "the daemon of a refused mount lives on: mount ${*:3}"
  [ -z "$(ls -A "$T/run" 2>/dev/null)" ] || wrong "a refused mount left in the run directory: $(ls -A "$T/run")"
}

say "mount points"
: >"$T/file"
mkdir "$T/busy"
ln -s "$T/nowhere" "$T/dangling"
refused 2 MNT --cache "$cache"
refused 3 "$T/nowhere" "$T/nowhere" --cache "$cache"
refused 3 "$T/dangling" "$T/dangling" --cache "$cache"
refused 2 "$T/file" "$T/file" --cache "$cache"
refused 1 "$T/file/below" "$T/file/below" --cache "$cache"
refused 2 surplus "$MNT" surplus --cache "$cache"
if [ "$(id -u)" -eq 0 ]; then
  mount -t tmpfs none "$T/busy"
  mounts+=("$T/busy")
  refused 4 "$T/busy" "$T/busy" --cache "$cache"
  umount "$T/busy"
else
  say "left out: another filesystem at the mount point, as this is not root"
fi

say "cache devices"
refused 3 "$SHM/nowhere" "$MNT" --cache "$SHM/nowhere"
refused 2 "$SHM" "$MNT" --cache "$SHM"
refused 2 /dev/null "$MNT" --cache /dev/null
mkfifo "$SHM/pipe"
refused 2 "$SHM/pipe" "$MNT" --cache "$SHM/pipe"
: >"$SHM/empty"
truncate -s 4K "$SHM/small"
truncate -s 8M "$SHM/blank"
head -c $((8 << 20)) /dev/urandom >"$SHM/random"
echo "Dear Sir or Madam" >"$SHM/letter"
for damage in newer damage; do
  cp "$SHM/dirty" "$SHM/$damage"
  superblock $damage "$SHM/$damage"
done
cp "$SHM/dirty" "$SHM/cut"
truncate -s 4M "$SHM/cut"
cp "$SHM/dirty" "$SHM/cut-off-page"
truncate -s 4194305 "$SHM/cut-off-page"
cp "$SHM/dirty" "$SHM/cut-to-superblock"
truncate -s 8K "$SHM/cut-to-superblock"
watched+=("$SHM/empty" "$SHM/small" "$SHM/blank" "$SHM/random" "$SHM/letter" "$SHM/newer" "$SHM/damage" "$SHM/cut"
  "$SHM/cut-off-page" "$SHM/cut-to-superblock")
refused 2 "$SHM/empty.* not a pcachefs" "$MNT" --cache "$SHM/empty"
refused 2 "$SHM/small.* not a pcachefs" "$MNT" --cache "$SHM/small"
refused 2 "$SHM/blank.* not a pcachefs" "$MNT" --cache "$SHM/blank"
refused 2 "$SHM/random.* not a pcachefs" "$MNT" --cache "$SHM/random"
refused 2 "$SHM/letter.* not a pcachefs" "$MNT" --cache "$SHM/letter"
refused 2 "$SHM/newer.* version 4.* newer" "$MNT" --cache "$SHM/newer"
refused 6 "$SHM/damage.* damaged" "$MNT" --cache "$SHM/damage"
refused 6 "$SHM/cut.* truncated" "$MNT" --cache "$SHM/cut"
refused 6 "$SHM/cut-off-page.* truncated" "$MNT" --cache "$SHM/cut-off-page"
refused 6 "$SHM/cut-to-superblock.* truncated" "$MNT" --cache "$SHM/cut-to-superblock"
locked "$cache" refused 4 "$cache.*in use" "$MNT" --cache "$cache"

say "options"
refused 2 --frobnicate "$MNT" --cache "$cache" --frobnicate
refused 2 --cache "$MNT" --cache
for option in frobnicate=1 frobnicate ack ack= ack=maybe ack=durable,frobnicate allow_other=1 \
  dirty_max_age dirty_max_age= dirty_max_age=-1 dirty_max_age=1d dirty_max_age=1.5 \
  dirty_max_age=99999999999 dirty_max_age=86400001 dirty_high=96% dirty_high=-1% dirty_high=half \
  dirty_high=50 dirty_high=0.5% dirty_low=60%,dirty_high=50% mode=writeback \
  epoch_max_ms=9 epoch_max_ms=0 epoch_max_ms=60001 epoch_max_ms=x; do
  key=${option##*,}
  refused 2 "${key%%=*}" "$MNT" --cache "$cache" -o "$option"
  refused 2 "${key%%=*}" "$MNT" -o "$option"  # no cache device is no reason to let it pass
  mountpoint -q "$MNT" && p umount "$MNT"
done
refused 2 frobnicate "$MNT" --cache "$cache" -o $'frob\enicate=frobnicate'

say "one cache device that cannot be opened, and one that can"
watched=("$SHM/random" "$T/backing")
refused 2 "$SHM/random" "$MNT" --cache "$cache" --cache "$SHM/random"
refused 2 "$SHM/random" "$MNT" --cache "$SHM/random" --cache "$cache"
refused 4 "$cache.*in use" "$MNT" --cache "$cache" --cache "$cache"
ln "$cache" "$SHM/link"
refused 4 "$SHM/link.*in use" "$MNT" --cache "$cache" --cache "$SHM/link"

say "no daemon"
refused_by_none() {
  watched=("$cache" "$T/backing")
  expect_error 8 pcachefs p status
  expect_error 8 pcachefs p status dev --json
  expect_error 8 pcachefs p add dev2 "$T/file"
  expect_error 8 pcachefs p flush dev
  expect_error 8 pcachefs p remove dev
  expect_error 8 "$T/nowhere" p status --mount "$T/nowhere"
  expect_error 8 "$T/nowhere" p --mount "$T/nowhere" flush dev
  expect_error 3 "$T/nowhere" p umount "$T/nowhere"
  expect_error 3 "$T/file" p umount "$T/file"
}
refused_by_none
expect_error 3 "$MNT" p umount "$MNT"
[ ! -e "$T/run" ] || rmdir "$T/run"  # and where there never was one
refused_by_none

say "one copy of the superblock is enough, and all that was written is there"
superblock damage-first "$cache"
p mount "$MNT" --cache "$cache" -o dirty_max_age=86400000
check $((245 * 4096)) "$(stat_of dev dirty_bytes)" "what is dirty"
cmp -n 1000000 "$T/data" "$MNT/dev" || wrong "what was written has changed"

say "commands to a running mount"
watched=("$T/backing")
watched_mount=$MNT
expect_error 3 nosuch p status nosuch
expect_error 3 nosuch p status nosuch --json
expect_error 3 nosuch p flush nosuch
expect_error 3 nosuch p remove nosuch
expect_error 3 "dev/" p flush dev/
expect_error 3 DEV p flush DEV
expect_error 3 "logical device" p flush ''
expect_error 3 'x.*31mx' p flush x$'\e'31mx
expect_error 2 NAME p flush
expect_error 2 NAME p remove
expect_error 2 surplus p flush dev surplus
expect_error 2 --frobnicate p flush dev --frobnicate
expect_error 8 "$T/nowhere" p status --mount "$T/nowhere"
expect_error 8 "$T/busy" p flush dev --mount "$T/busy"
expect_error 8 "$MNT/dev" p remove dev --mount "$MNT/dev"
expect_error 3 "$T/busy" p umount "$T/busy"

say "a mount point and a cache device in use by it"
mkdir "$T/second"
expect_error 4 "$MNT" p mount "$MNT"
expect_error 4 "$MNT" p mount "$MNT" --cache "$cache"
expect_error 4 "$T/second/../mnt" p mount "$T/second/../mnt" --cache "$cache"
ln -s "$MNT" "$T/alias"
expect_error 4 "$T/alias" p mount "$T/alias"
expect_error 4 "$cache.*in use" p mount "$T/second" --cache "$cache"
expect_error 4 "$SHM/link.*in use" p mount "$T/second" --cache "$SHM/link"
expect_error 2 "$MNT/dev" p mount "$MNT/dev" --cache "$cache"

say "another user"
if prepare_nobody; then
  chmod 777 "$T/second"
  expect_error 9 . "${NOBODY[@]}" status
  expect_error 9 "$MNT|run/" "${NOBODY[@]}" status --mount "$MNT"
  expect_error 9 . "${NOBODY[@]}" flush dev
  expect_error 9 . "${NOBODY[@]}" remove dev
  expect_error 9 . "${NOBODY[@]}" add dev2 "$T/file"
  expect_error 9 "$MNT|run/" "${NOBODY[@]}" umount "$MNT"
  if grep -q dead "$T/err"; then wrong "a daemon that lives was called dead: $(cat "$T/err")"; fi
  chmod 600 "$cache"
  expect_error 9 "$cache" "${NOBODY[@]}" mount "$T/second" --cache "$cache"
  expect_error 9 . "${NOBODY[@]}" mount "$T/second"  # its socket cannot be made
  mkdir -m 700 "$T/private"
  mkdir "$T/private/mnt"
  expect_error 9 "$T/private/mnt" "${NOBODY[@]}" mount "$T/private/mnt"
fi

say "a daemon that another run directory hides is not dead"
exec 7<"$MNT/dev"
before=$(daemon_pid "$MNT")
(export PCACHEFS_RUN_DIR=$T/other-run; timeout 300 "$PCACHEFS" umount "$MNT" >"$T/out" 2>"$T/err") &&
  wrong "a mount with an open file was taken down because its socket was not found"
grep -q " $MNT fuse" /proc/mounts || wrong "a mount in use was detached from its mount point"
exec 7<&-
if ! grep -q " $MNT fuse" /proc/mounts; then  # after that, so that the rest can be looked at
  for _ in $(seq 1200); do kill -0 "$before" 2>/dev/null || break; sleep 0.1; done
  p mount "$MNT" --cache "$cache" -o dirty_max_age=86400000
fi

say "a dead mount"
pid=$(daemon_pid "$MNT")
kill -KILL "$pid"
for _ in $(seq 1200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
watched_mount=
watched=("$cache" "$T/backing")
expect_error 8 . p status
expect_error 8 "$MNT" p status --mount "$MNT"
expect_error 8 . p flush dev
expect_error 8 . p add dev2 "$T/file"
expect_error 4 "$MNT.*dead.*umount" p mount "$MNT" --cache "$cache"
expect_error 4 "$MNT.*dead.*umount" p mount "$MNT"
grep -q " $MNT fuse" /proc/mounts || wrong "a refused command detached the dead mount"
p umount "$MNT"
if grep -q " $MNT fuse" /proc/mounts; then wrong "the dead mount is still there"; fi
p mount "$MNT" --cache "$cache" -o dirty_max_age=86400000
check $((245 * 4096)) "$(stat_of dev dirty_bytes)" "what is dirty"
p flush dev
cmp -n 1000000 "$T/data" "$T/backing" || wrong "the backing does not have what was written"
p umount "$MNT"
finish
