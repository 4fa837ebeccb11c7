#!/usr/bin/env bash
# The commands for a cache device that is not mounted: what they find and print, and that they change nothing.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"

# damage OFFSET...: flips a bit of the cache device at each; doing it again undoes it.
damage() {
  python3 - "$SHM/cache" "$@" <<'PY'
import sys
with open(sys.argv[1], "r+b") as cache:
    for offset in map(int, sys.argv[2:]):
        cache.seek(offset)
        byte = cache.read(1)[0]
        cache.seek(offset)
        cache.write(bytes([byte ^ 0x10]))
PY
}

# place BLOCK: the offsets of the newest record of a block, and of its cell, read from the format alone.
place() {
  python3 - "$SHM/cache" "$1" <<'PY'
import struct, sys
cache = open(sys.argv[1], "rb").read()
block = int(sys.argv[2])
tag, = struct.unpack_from("<I", cache, 8)
segment_size, count, slots, first = struct.unpack_from("<QIIQ", cache, 128)
best = None
for segment in range(count):
    base = first + segment * segment_size
    for slot in range(slots):
        at = base + slot * 64
        _, record_tag, lsn, _, found = struct.unpack_from("<IIQQQ", cache, at)
        if record_tag == tag and found == block and (best is None or lsn > best[0]):
            best = (lsn, at, base + segment_size - 4096 * (slots - slot))
print(best[1], best[2])
PY
}

# Nothing here may change them.
unchanged() {
  local now
  now=$(sha256sum "$SHM/cache" "$T/backing")
  [ -z "${media:-}" ] || [ "$media" = "$now" ] || fail "a medium was changed"
  media=$now
}
damaged() { damage "$@"; media=; unchanged; }

# check_json CODE FILTER: `check --json` ends with the code, and the filter is true of what it printed.
check_json() {
  unchanged
  expect_exit "$1" p check "$SHM/cache" --json
  jq -e "$2" "$T/out" >/dev/null || fail "not so: $2: $(cat "$T/out")"
  unchanged
}

head -c 8M /dev/urandom >"$T/backing"
p format "$SHM/cache" --size 32M
p mount "$MNT" --cache "$SHM/cache" -o dirty_max_age=3600000,dirty_high=95%
p add dev "$T/backing"
write() { head -c $(($2 * 4096)) /dev/urandom | dd of="$MNT/dev" bs=4096 seek="$1" iflag=fullblock conv=notrunc status=none; }
write 0 40
p flush dev
for block in 300 301 302 303; do write $block 1; done
fallocate -p -o $((1800 * 4096)) -l $((100 * 4096)) "$MNT/dev"
cp "$MNT/dev" "$T/expected"

say "a cache device in use is busy"
expect_exit 4 p check "$SHM/cache"
expect_exit 4 p dump "$SHM/cache"
expect_exit 4 p salvage "$SHM/cache" dev -o "$T/image"
[ ! -e "$T/image" ] || fail "a refused command left an image"
p umount "$MNT"

say "a sound one has no damage"
expect_exit 0 p check "$SHM/cache"
grep -q "no damage" "$T/out" || fail "it does not say so: $(cat "$T/out")"
check_json 0 '.schema.major == 1 and .damage == [] and .closed_in_order and .logic_devs[0].dirty_bytes == 4 * 4096'

say "a damaged block of clean data is harmless"
read -r _ cell < <(place 7)
damaged "$cell"
check_json 6 '.damage == [.damage[0]] and (.damage[0] |
  .kind == "clean_data" and .harmless and .logic_dev == "dev" and .offset == 7 * 4096 and .length == 4096)'
damaged "$cell"

say "a damaged block of dirty data is not"
read -r _ dirty_cell < <(place 301)
damaged "$dirty_cell"
check_json 6 '.damage == [.damage[0]] and (.damage[0] |
  .kind == "dirty_data" and .dirty and (.harmless | not) and .offset == 301 * 4096 and .length == 4096)'
expect_exit 6 p check "$SHM/cache"
grep -q "4096 bytes from $((301 * 4096))" "$T/out" || fail "the range is not named: $(cat "$T/out")"
damaged "$dirty_cell"

say "a damaged record is told, and what it seems to be of"
read -r record _ < <(place 302)
damaged $((record + 52))
check_json 6 '(.damage[0] | .kind == "key_record" and .dirty and (.certain | not) and .offset == 302 * 4096)
  and .logic_devs[0].failed'
damaged $((record + 52))

say "one damaged copy of the superblock is harmless"
damaged 4136
check_json 6 '.damage == [.damage[0]] and (.damage[0] | .kind == "superblock" and .harmless and .cache_offset == 4096)'
damaged 4136

say "dump shows what is stored, damaged or not"
damaged 4136 $((record + 52))
expect_exit 0 p dump "$SHM/cache" --json
jq -e '.schema.major == 1 and .superblock.copies == ["good", "damaged"] and .devices[0].name == "dev"
  and ([.records[] | select(.valid and .type == "write" and .block == 300)] | length) == 1
  and ([.records[] | select(.valid | not)] | length == 1 and .[0].block == 302)' "$T/out" >/dev/null ||
  fail "the dump is wrong: $(head -c 2000 "$T/out")"
expect_exit 0 p dump "$SHM/cache"
grep -q "write block 300 " "$T/out" && grep -q "DAMAGED.*block 302 " "$T/out" || fail "the dump is wrong: $(cat "$T/out")"
unchanged
damaged 4136 $((record + 52))

# salvage CODE [ARGUMENT...]: salvage of dev ends with the code; the image is $T/image.
salvage() {
  local code=$1
  shift
  rm -f "$T/image"
  unchanged
  expect_exit "$code" p salvage "$SHM/cache" dev -o "$T/image" "$@"
  unchanged
}
range() { dd if="$1" bs=4096 skip="$2" count="$3" status=none | sha256sum; }

say "salvage makes an image of what the mount read"
salvage 0
cmp "$T/image" "$T/expected"
expect_exit 4 p salvage "$SHM/cache" dev -o "$T/image"
cmp "$T/image" "$T/expected"
expect_exit 3 p salvage "$SHM/cache" nodev -o "$T/image2"
[ ! -e "$T/image2" ] || fail "a refused command left an image"

say "it says what it could not get"
damaged "$dirty_cell" $((record + 52))
salvage 6
grep -q "4096 bytes from $((301 * 4096)), dirty" "$T/out" || fail "the damaged block is not named: $(cat "$T/out")"
grep -q "probably 4096 bytes from $((302 * 4096))" "$T/out" || fail "the damaged record is not named: $(cat "$T/out")"
[ "$(range "$T/image" 301 1)" = "$(range /dev/zero 0 1)" ] || fail "the damaged block is not zeroes"
cp "$T/image" "$T/patched"
for block in 301 302; do
  dd if="$T/expected" of="$T/patched" bs=4096 skip=$block seek=$block count=1 conv=notrunc status=none
done
cmp "$T/patched" "$T/expected"
damaged "$dirty_cell" $((record + 52))

say "without its backing the image has what is cached, and with --backing all"
read -r _ cell < <(place 1000)
damaged "$cell"
mv "$T/backing" "$T/moved"
rm -f "$T/image"
expect_exit 6 p salvage "$SHM/cache" dev -o "$T/image"
grep -q "without its backing device" "$T/out" || fail "it does not say so: $(cat "$T/out")"
grep -q "4096 bytes from $((1000 * 4096)), clean" "$T/out" || fail "what is missing is not named: $(cat "$T/out")"
dd if="$T/expected" of="$T/image" bs=4096 skip=1000 seek=1000 count=1 conv=notrunc status=none
cmp "$T/image" "$T/expected"
rm -f "$T/image"
expect_exit 0 p salvage "$SHM/cache" dev -o "$T/image" --backing "$T/moved"
cmp "$T/image" "$T/expected"
mv "$T/moved" "$T/backing"
damaged "$cell"

say "what is no cache device is refused"
expect_exit 2 p dump "$T/backing"
expect_exit 3 p check "$T/none"
expect_exit 2 p check "$T/backing"
check_json 0 '.damages == 0'
