#!/usr/bin/env bash
# What is discarded, through the file, a loop device or fstrim, reads as zeroes from then on, over remounts and the
# daemon's death, and neighbours keep what they hold; the backing's space is released.
. "$(dirname "$0")/lib.sh"

SIZE=$((96 << 20))
blocks() { echo $(($(stat -c '%b * %B' "$1") >> 20)); }  # MiB that are allocated

# The same range of the file and of the model, which holds what the file must.
model_zero() {  # OFFSET LENGTH
  fallocate -p -o "$1" -l "$2" "$T/model"
}
same() { dd if="$MNT/dev" bs=1M status=none | cmp - "$T/model" || fail "$1"; }  # cmp alone reads small blocks

killed() {
  local pid; pid=$(daemon_pid "$MNT")
  [ -n "$pid" ] || fail "no daemon"
  kill -9 "$pid"
  gone "$pid"
  umount -l "$MNT"
}
mounted() {
  p mount "$MNT" --cache "$SHM/cache" "${options[@]}"
  [ "$(stat_of "${1:-dev}" state)" = '"running"' ] || fail "state $(stat_of "${1:-dev}" state)"
}
options=(-o dirty_max_age=60000)
simple_setup $SIZE "${options[@]}"
head -c $SIZE /dev/urandom >"$T/model"
dd if="$T/model" of="$MNT/dev" bs=1M conv=notrunc status=none
p flush dev
cmp "$T/model" "$T/backing"
[ "$(blocks "$T/backing")" -ge 96 ] || fail "the backing has only $(blocks "$T/backing") MiB"

# Ranges in one key or over many, aligned to nothing, and twice the same; some overwritten by others.
ranges=("0 4096" "8192 512" "20000 100" "65536 65536" "1000001 3000017" "8388608 16777216" "33554431 2"
        "33554432 4194304" "$((SIZE - 5000)) 5000" "40960000 12288" "40960000 12288")

say "fallocate -p"
for range in "${ranges[@]}"; do
  read -r offset length <<<"$range"
  fallocate -p -o "$offset" -l "$length" "$MNT/dev"
  model_zero "$offset" "$length"
  same "fallocate -p at $offset, $length bytes"
done
[ "$(stat -c %s "$MNT/dev")" -eq $SIZE ] || fail "the size changed"
[ "$(stat_of dev discards)" -ge ${#ranges[@]} ] || fail "only $(stat_of dev discards) discards"

say "fallocate -z"
for range in "50000000 6000000" "60000001 1" "61440000 4096" "61450000 12345"; do
  read -r offset length <<<"$range"
  fallocate -z -n -o "$offset" -l "$length" "$MNT/dev"
  model_zero "$offset" "$length"
  same "fallocate -z at $offset, $length bytes"
done

say "over a remount"
p umount "$MNT"
mounted
same "after a remount"

say "what is written into it stays, and discarded dirty data is gone"
head -c 300000 /dev/urandom >"$T/data"
for offset in 9000000 12345678; do
  dd if="$T/data" of="$MNT/dev" bs=1M seek=$offset oflag=seek_bytes conv=notrunc status=none
  dd if="$T/data" of="$T/model" bs=1M seek=$offset oflag=seek_bytes conv=notrunc status=none
done
fallocate -p -o 12400000 -l 100000 "$MNT/dev"
model_zero 12400000 100000
same "written after a discard and discarded after a write"

say "over the daemon's death"
killed
mounted
same "after the daemon's death"

say "blkdiscard on a loop device"
attach "$MNT/dev"
if [ "$(cat "/sys/block/${LOOP#/dev/}/queue/discard_max_bytes")" -gt 0 ]; then
  for range in "70000128 512" "70005248 3584" "70009344 8192" "71303168 9437184" "83886592 4096" "83890688 1024"; do
    read -r offset length <<<"$range"
    blkdiscard -f -o "$offset" -l "$length" "$LOOP" 2>"$T/err" || fail "blkdiscard: $(cat "$T/err")"
    model_zero "$offset" "$length"
    cmp "$LOOP" "$T/model" || fail "blkdiscard at $offset, $length bytes, seen through the loop device"
    same "blkdiscard at $offset, $length bytes"
  done
  blkdiscard -f -z -o 84000256 -l 1000448 "$LOOP" 2>"$T/err" || fail "blkdiscard -z: $(cat "$T/err")"
  model_zero 84000256 1000448
  same "blkdiscard -z"
else
  fail "the loop device takes no discard"
fi
detach_and_wait "$LOOP"

say "over the daemon's death, at once after the last discard"
fallocate -p -o 90000000 -l 5000000 "$MNT/dev"
killed
model_zero 90000000 5000000
mounted
same "after the daemon's death"

say "after flush the backing alone has zeroes and less space"
p flush dev
cmp "$T/backing" "$T/model"
same "after flush"
[ "$(blocks "$T/backing")" -le 62 ] || fail "of 96 MiB, some 40 of them discarded, $(blocks "$T/backing") are allocated"
p umount "$MNT"
mounted
same "after flush and a remount"
p remove dev
cmp "$T/backing" "$T/model"

say "fstrim of an ext4"
rm "$T/backing"
truncate -s 256M "$T/backing"
p add ext4 "$T/backing"
attach "$MNT/ext4"
mkfs.ext4 -q -F "$LOOP"
mkdir "$T/fs"
mounts+=("$T/fs")
mount "$LOOP" "$T/fs"
head -c $((20 << 20)) /dev/urandom >"$T/fs/stays"
head -c $((80 << 20)) /dev/urandom >"$T/fs/goes"
sum=$(sha256sum <"$T/fs/stays")
sync -f "$T/fs"
p flush ext4
before=$(blocks "$T/backing")
[ "$before" -ge 100 ] || fail "the backing has only $before MiB"
rm "$T/fs/goes"
sync -f "$T/fs"
fstrim "$T/fs"
p flush ext4
after=$(blocks "$T/backing")
[ $((before - after)) -ge 75 ] || fail "fstrim released only $((before - after)) MiB of 80"
umount "$T/fs"
detach_and_wait "$LOOP" ext4
killed
mounted ext4
attach "$MNT/ext4"
e2fsck -fn "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "ext4 is damaged"; }
mount "$LOOP" "$T/fs"
[ "$(sha256sum <"$T/fs/stays")" = "$sum" ] || fail "a file changed"
umount "$T/fs"
detach_and_wait "$LOOP" ext4
p flush ext4
cmp "$MNT/ext4" "$T/backing"
