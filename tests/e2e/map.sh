#!/usr/bin/env bash
# Logical devices as block devices: what map makes, what unmap refuses and whom it names, with a filesystem on it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"
[ "$(id -u)" -eq 0 ] && [ -e /dev/loop-control ] || skip "no loop devices"

simple_setup 128M -o dirty_max_age=86400000
mkdir "$T/fs"

say "a loop device past the page cache, with sectors of 512 bytes"
LOOP=$(p map dev)
loops+=("$LOOP")
sys=/sys/block/${LOOP#/dev/}
check "$MNT/dev" "$(cat "$sys/loop/backing_file")" "the file of the loop device"
check 1 "$(cat "$sys/loop/dio")" "direct I/O"
check 0 "$(cat "$sys/ro")" "whether it is read-only"
check 512 "$(cat "$sys/queue/logical_block_size")" "the sector size"
check $((128 << 20)) "$(blockdev --getsize64 "$LOOP")" "the size"
expect_error 4 "$MNT/dev is mapped already, as $LOOP" p map dev
expect_error 3 nosuch p map nosuch
expect_error 3 nosuch p unmap nosuch
expect_error 2 "512, 1024" p map dev --sector-size 513

say "an ext4 on it; who uses it is named"
mkfs.ext4 -qF "$LOOP"
mount "$LOOP" "$T/fs"
mounts+=("$T/fs")
head -c 20M /dev/urandom >"$T/fs/data"
sum=$(cksum <"$T/fs/data")
expect_error 4 "$LOOP is in use: mounted at $T/fs" p unmap dev
expect_error 4 "mounted at $T/fs" p unmap dev --json
grep -q '"code":"busy"' "$T/err" || wrong "no JSON of the error: $(cat "$T/err")"
expect_error 4 "$MNT is busy: it is used by $LOOP \(mounted at $T/fs\)" p umount "$MNT"
umount "$T/fs"
sleep 60 7<"$LOOP" &
holder=$!
expect_error 4 "process $holder \(sleep\)" p unmap "$LOOP"
kill "$holder"
wait "$holder" || true
p unmap dev
[ ! -e "$sys/loop/backing_file" ] || wrong "it is mapped still"
loops=()
expect_error 3 "dev is not mapped" p unmap dev

say "JSON, read-only, other sectors, partitions"
p map dev --read-only --json >"$T/map.json"
LOOP=$(jq -re .device "$T/map.json")
loops+=("$LOOP")
sys=/sys/block/${LOOP#/dev/}
check "$MNT/dev" "$(jq -r .file "$T/map.json")" "the file in JSON"
check 1 "$(cat "$sys/ro")" "whether it is read-only"
mount -o ro,noload "$LOOP" "$T/fs"
[ "$(cksum <"$T/fs/data")" = "$sum" ] || wrong "the file has other data"
umount "$T/fs"
p unmap "$LOOP" --json | jq -e ".device == \"$LOOP\" and .file == \"$MNT/dev\"" >/dev/null || wrong "no JSON of unmap"
LOOP=$(p map dev --sector-size 4K --partscan)
loops=("$LOOP")
sys=/sys/block/${LOOP#/dev/}
check 4096 "$(cat "$sys/queue/logical_block_size")" "the sector size"
check 1 "$(cat "$sys/loop/partscan")" "whether partitions are looked for"
p unmap "$LOOP"
loops=()

say "a backing device of 4 KiB sectors: what is made of it fits both"
truncate -s 64M "$T/disk"
DISK=$(losetup --find --show --sector-size 4096 "$T/disk")
loops+=("$DISK")
p add big "$DISK"
LOOP=$(p map big)
loops+=("$LOOP")
check 4096 "$(cat "/sys/block/${LOOP#/dev/}/queue/logical_block_size")" "the sector size"
mkfs.ext4 -qF "$LOOP"
p unmap big
p remove big
loops=("$DISK")
mount "$DISK" "$T/fs" || wrong "the backing device alone cannot be mounted"
umount "$T/fs"
expect_error 2 "$DISK is not the loop device of a logical device" p unmap "$DISK"
detach "$DISK"

say "two that map at the same time: one gets it"
p map dev >"$T/one" 2>"$T/one.err" &
one=$!
p map dev >"$T/two" 2>"$T/two.err" &
two=$!
codes=
wait "$one" && codes+=0 || codes+=$?
wait "$two" && codes+=0 || codes+=$?
[ "$codes" = 04 ] || [ "$codes" = 40 ] || wrong "they end with $codes: $(cat "$T/one.err" "$T/two.err")"
loops=("$(cat "$T/one" "$T/two")")
p unmap dev
loops=()

say "a process with an open file, or in the mount, is named"
sleep 60 7<"$MNT/dev" &
holder=$!
expect_error 4 "process $holder \(sleep\)" p umount "$MNT"
kill "$holder"
wait "$holder" || true
if prepare_nobody; then expect_error 9 . "${NOBODY[@]}" map dev; fi
p umount "$MNT"
expect_error 8 . p map dev
finish
