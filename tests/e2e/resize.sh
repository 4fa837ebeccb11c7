#!/usr/bin/env bash
# A backing that becomes longer while it is in use: after `resize` so is the file in the mount, a loop device on it and the
# filesystem on that, without a remount. Over the daemon's death and remounts it stays so. A shorter one is refused.
#
# ext4 grows while it is mounted only for who has CAP_SYS_RESOURCE; where we have not, xfs does it.
. "$(dirname "$0")/lib.sh"

OLD=$(((320 << 20) + 1536))  # ends inside a block
NEW=$((448 << 20))
fs=ext4
if [ $((0x$(awk '/CapEff/ {print $2}' /proc/self/status) >> 24 & 1)) -eq 0 ]; then
  fs=xfs
  grep -qw xfs /proc/filesystems || modprobe xfs 2>/dev/null || skip "no CAP_SYS_RESOURCE for ext4, and no xfs"
  command -v mkfs.xfs xfs_growfs xfs_repair >/dev/null || skip "no CAP_SYS_RESOURCE for ext4, and no xfsprogs"
fi
make_fs() { if [ $fs = ext4 ]; then mkfs.ext4 -q -F "$1"; else mkfs.xfs -q -f "$1"; fi; }
grow_fs() { if [ $fs = ext4 ]; then resize2fs "$1"; else xfs_growfs "$2"; fi; }
check_fs() { if [ $fs = ext4 ]; then e2fsck -fn "$1"; else xfs_repair -n "$1"; fi; }
size() { stat -c %s "$MNT/dev"; }
loop_size() { blockdev --getsize64 "$LOOP"; }
intact() { (cd "$T/fs" && sha256sum --quiet -c "$T/sums") || fail "$1"; }

simple_setup $OLD -o dirty_max_age=60000
[ "$(size)" -eq $OLD ] || fail "size $(size)"
say "nothing to do"
expect_exit 0 p resize dev
expect_exit 3 p resize other

say "a filesystem ($fs) grows while it is in use"
attach "$MNT/dev"
make_fs "$LOOP"
mkdir "$T/fs"
mounts+=("$T/fs")
mount "$LOOP" "$T/fs"
head -c $((40 << 20)) /dev/urandom >"$T/fs/before"
before=$(df --output=size "$T/fs" | tail -1)
(cd "$T/fs" && sha256sum before) >"$T/sums"
truncate -s $NEW "$T/backing"
[ "$(size)" -eq $OLD ] || fail "size $(size) before it was asked for"
p resize dev
[ "$(size)" -eq $NEW ] || fail "size $(size), expected $NEW"
[ "$(stat_of dev size_bytes)" -eq $NEW ] || fail "status says $(stat_of dev size_bytes)"
[ "$(loop_size)" -eq $NEW ] || fail "the loop device has $(loop_size) bytes"
grow_fs "$LOOP" "$T/fs" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "$fs does not grow"; }
[ $(($(df --output=size "$T/fs" | tail -1) - before)) -ge $((100 << 10)) ] || fail "$fs is not larger: $(df "$T/fs")"
head -c $((100 << 20)) /dev/urandom >"$T/fs/after"
(cd "$T/fs" && sha256sum after) >>"$T/sums"
sync -f "$T/fs"
intact "after it has grown"
umount "$T/fs"
detach_and_wait "$LOOP"

say "over the daemon's death"
pid=$(daemon_pid "$MNT")
[ -n "$pid" ] || fail "no daemon"
kill -9 "$pid"
gone "$pid"
umount -l "$MNT"
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=60000
[ "$(size)" -eq $NEW ] || fail "size $(size) after the daemon's death"
attach "$MNT/dev"
check_fs "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "$fs is damaged"; }
mount "$LOOP" "$T/fs"
intact "after the daemon's death"
umount "$T/fs"
detach_and_wait "$LOOP"

say "longer while it is not mounted"
p umount "$MNT"
truncate -s $((NEW + 4096)) "$T/backing"
p mount "$MNT" --cache "$SHM/cache"
[ "$(stat_of dev state)" = '"running"' ] || fail "state $(stat_of dev state)"
stat_of dev detail | grep -q $((NEW + 4096)) || fail "detail: $(stat_of dev detail)"
[ "$(size)" -eq $NEW ] || fail "size $(size)"
p resize dev
[ "$(size)" -eq $((NEW + 4096)) ] || fail "size $(size)"
[ "$(stat_of dev detail)" = '""' ] || fail "detail: $(stat_of dev detail)"
p flush dev
dd if="$MNT/dev" bs=1M status=none | cmp - "$T/backing"

say "shorter"
truncate -s $NEW "$T/backing"
expect_exit 1 p resize dev
[ "$(size)" -eq $((NEW + 4096)) ] || fail "size $(size) after a refused resize"
