#!/usr/bin/env bash
# The Debian package: installed where nothing is but what it depends on, it gives a working pcachefs; removed, it leaves
# nothing.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/package.bash"

say "it is installed"
make_root
dpkg-deb -c "$DEB" >"$T/contents"
for file in usr/sbin/pcachefs 'usr/sbin/mount.pcachefs -> pcachefs' 'usr/sbin/mount.fuse.pcachefs -> pcachefs' \
  'usr/sbin/umount.fuse.pcachefs -> pcachefs' lib/systemd/system/pcachefs@.service \
  usr/share/man/man5/pcachefs.toml.5 usr/share/man/man8/pcachefs.8 usr/share/doc/pcachefs/copyright; do
  grep -q "$file\$" "$T/contents" || { cat "$T/contents"; fail "the package lacks $file"; }
done
! grep -v ' root/root ' "$T/contents" || fail "not everything is root's"
! grep -q '/usr/local\|/tests/' "$T/contents" || fail "it has what it should not have"
[ "$(in_root pcachefs version)" = "$(p version)" ] || fail "it is another version"
grep -q '^ExecStart=/usr/sbin/pcachefs ' "$ROOT/usr/lib/systemd/system/pcachefs@.service" ||
  fail "the unit starts something else"

say "it works"
truncate -s 32M "$ROOT/tmp/backing"
mkdir "$ROOT/mnt/pcache"
in_root pcachefs format /tmp/cache --size 16M
in_root pcachefs mount /mnt/pcache --cache /tmp/cache
in_root pcachefs add dev /tmp/backing
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$ROOT/mnt/pcache/dev" bs=64K conv=notrunc,fsync status=none
cmp -n 3000000 "$T/data" "$ROOT/mnt/pcache/dev" || fail "it reads something else"
in_root pcachefs flush dev
in_root pcachefs umount /mnt/pcache
cmp -n 3000000 "$T/data" "$ROOT/tmp/backing" || fail "the backing device has something else"

say "it is not removed while it is mounted, and an upgrade leaves the mount alone"
in_root pcachefs mount /mnt/pcache --cache /tmp/cache
if dpkg --root="$ROOT" -r pcachefs >"$T/out" 2>&1; then cat "$T/out"; fail "it is removed under a mount"; fi
grep -q 'pcachefs umount /mnt/pcache' "$T/out" || { cat "$T/out"; fail "it does not say what to do"; }
cmp -n 3000000 "$T/data" "$ROOT/mnt/pcache/dev" || fail "the mount does not work any more"
dpkg --root="$ROOT" -i "$DEB" >"$T/out" 2>&1 || { cat "$T/out"; fail "it cannot be upgraded"; }
grep -q '^/mnt/pcache goes on with pcachefs ' "$T/out" || { cat "$T/out"; fail "it does not say that the mount is of before"; }
cmp -n 3000000 "$T/data" "$ROOT/mnt/pcache/dev" || fail "the mount did not survive the upgrade"
in_root pcachefs umount /mnt/pcache

say "it is removed"
find "$ROOT" -xdev -path "$ROOT/var" -prune -o \( -type f -o -type l \) -printf '%P\n' | grep pcachefs >"$T/there"
dpkg --root="$ROOT" -r pcachefs >"$T/out" 2>&1 || { cat "$T/out"; fail "it cannot be removed"; }
[ "$(wc -l <"$T/there")" -ge 6 ] || fail "there was nothing to remove"
while read -r file; do [ ! -e "$ROOT/$file" ] && [ ! -L "$ROOT/$file" ] || fail "$file is left"; done <"$T/there"
mkdir -p "$ROOT/etc/systemd/system/multi-user.target.wants"
ln -s /lib/systemd/system/pcachefs@.service "$ROOT/etc/systemd/system/multi-user.target.wants/pcachefs@mnt-pcache.service"
dpkg --root="$ROOT" -P pcachefs >"$T/out" 2>&1 || { cat "$T/out"; fail "it cannot be purged"; }
[ -z "$(ls "$ROOT/etc/systemd/system/multi-user.target.wants")" ] || fail "a mount is still to be started"
