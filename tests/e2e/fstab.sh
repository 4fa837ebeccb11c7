#!/usr/bin/env bash
# A line of fstab: mount(8) and umount(8) find the helpers of the package, and their options do what they say.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/package.bash"
make_root

truncate -s 32M "$ROOT/tmp/backing"
mkdir "$ROOT"/mnt/{first,second,third}
for cache in first second more; do in_root pcachefs format /tmp/$cache --size 16M; done
cat >"$ROOT/etc/fstab.test" <<'END'
# source     point         type           options                                                  dump pass
/tmp/first   /mnt/first    pcachefs       defaults,nofail,_netdev,x-systemd.requires=local-fs.target,dirty_high=40%,cache=/tmp/more 0 0
/tmp/second  /mnt/second   fuse.pcachefs  rw,noatime,nodev,nosuid,epoch_max_ms=500,allow_other     0 0
/tmp/third   /mnt/third    pcachefs       noauto                                                   0 0
END

say "mount -a mounts what is not mounted yet"
in_root mount -T /etc/fstab.test -a
for point in first second; do
  grep -q "^/tmp/$point $ROOT/mnt/$point fuse.pcachefs " /proc/self/mounts || fail "$point is not mounted"
done
! grep -q " $ROOT/mnt/third " /proc/self/mounts || fail "what is not to be mounted is"
in_root mount -T /etc/fstab.test -a || fail "a second time it is not content"
[ "$(grep -c " $ROOT/mnt/[^ ]* fuse.pcachefs " /proc/self/mounts)" -eq 2 ] || fail "something is mounted twice"

say "the options of the line count"
[ "$(in_root pcachefs --mount /mnt/first status --json | jq -r '[.cache_devs[].label] | sort | join(" ")')" = \
  "first more" ] || fail "cache= adds no cache device"
in_root pcachefs --mount /mnt/first add dev /tmp/backing --cache first
[ "$(in_root pcachefs --mount /mnt/first get dev dirty_high --json | jq -r '.settings[0].value')" = 40% ] ||
  fail "a setting does not count"
grep -q " $ROOT/mnt/second fuse.pcachefs .*allow_other" /proc/self/mounts || fail "allow_other does not count"

say "umount returns when all is on media"
head -c 3000000 /dev/urandom >"$T/data"
dd if="$T/data" of="$ROOT/mnt/first/dev" bs=64K conv=notrunc status=none
exec 9<"$ROOT/mnt/first/dev"
expect_exit 4 "${IN_ROOT[@]}" umount /mnt/first
exec 9<&-
for point in first second; do
  pid=$(pgrep -f "mount[a-z.]*pcachefs /tmp/$point /mnt/$point " | head -1) && [ -n "$pid" ] ||
    fail "nobody serves $point"
  in_root umount "/mnt/$point"
  # Ended, whether or not somebody has asked what it ended with.
  ! grep -q '^State:.*[^Z] (' "/proc/$pid/status" 2>/dev/null || { head -5 "/proc/$pid/status"; pgrep -fa pcachefs; fail "umount does not wait"; }
done
! grep -q " $ROOT/mnt/[^ ]* fuse" /proc/self/mounts || fail "something is still mounted"
in_root mount -T /etc/fstab.test /mnt/first
cmp -n 3000000 "$T/data" "$ROOT/mnt/first/dev" || fail "what was written is not there any more"
in_root umount /mnt/first

say "what cannot be done is refused"
expect_exit 3 "${IN_ROOT[@]}" mount -T /etc/fstab.test /mnt/third
grep -q /tmp/third "$T/err" || fail "the error does not say what is missing"
expect_exit 2 "${IN_ROOT[@]}" mount -t pcachefs -o ro /tmp/first /mnt/first
expect_exit 2 "${IN_ROOT[@]}" mount -t pcachefs -o dirty_hihg=3 /tmp/first /mnt/first
grep -q dirty_hihg "$T/err" || fail "the error does not name the option"
in_root mount -f -t pcachefs /tmp/first /mnt/first
! grep -q " $ROOT/mnt/[^ ]* fuse" /proc/self/mounts || fail "something is mounted after all"
in_root mount -t pcachefs /tmp/first /mnt/first
expect_exit 2 "${IN_ROOT[@]}" umount -l /mnt/first
