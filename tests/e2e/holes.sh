#!/usr/bin/env bash
# SEEK_DATA and SEEK_HOLE say what cache and backing know: what is cached is data, what was discarded is a hole, and of the
# rest a sparse backing file tells. A copy of nothing but the data is a whole copy.
. "$(dirname "$0")/lib.sh"

SIZE=$((64 << 20))
cat >"$T/seek.py" <<'PY'
import errno, os, sys

def data_ranges(path):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    ranges, at = [], 0
    while True:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return fd, size, ranges
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        assert begin < at <= size, (begin, at)
        ranges.append((begin, at))

fd, size, ranges = data_ranges(sys.argv[2])
if sys.argv[1] == "list":
    print(" ".join(f"{begin}-{end}" for begin, end in ranges))
else:  # copies the data to a new file
    to = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(to, size)
    for begin, end in ranges:
        for at in range(begin, end, 1 << 20):
            os.pwrite(to, os.pread(fd, min(1 << 20, end - at), at), at)
PY
K=1024
expect() {  # WHAT RANGES: the data in the mounted file, in KiB
  local got want=""
  for range in $2; do want+="${want:+ }$((${range%-*} * K))-$((${range#*-} * K))"; done
  got=$(python3 "$T/seek.py" list "$MNT/dev")
  [ "$got" = "$want" ] || fail "$1: data at $got, expected at $want"
}
options=(-o dirty_max_age=60000)
truncate -s $SIZE "$T/backing"
[ "$(python3 "$T/seek.py" list "$T/backing")" = "" ] || skip "the filesystem of $T knows no holes"
head -c $((1 << 20)) /dev/urandom >"$T/data"
dd if="$T/data" of="$T/backing" bs=1M seek=8 conv=notrunc status=none
p format "$SHM/cache" --size 64M
p mount "$MNT" --cache "$SHM/cache" "${options[@]}"
p add dev "$T/backing"
cp --sparse=always "$T/backing" "$T/model"
both() {  # the same to the file and to the model
  "$@" "$MNT/dev"
  "$@" "$T/model"
}
written() { dd if="$T/data" bs=4096 count=25 seek="$1" conv=notrunc status=none of="$2"; }

say "a sparse backing"
expect "at first" "8192-9216"

say "written and discarded"
both written 500
both fallocate -p -o $((8500 * K)) -l $((100 * K))
both fallocate -p -o $((2040 * K)) -l $((8 * K))
expect "after writes and discards" "2000-2040 2048-2100 8192-8500 8600-9216"
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache" "${options[@]}"
expect "after a remount" "2000-2040 2048-2100 8192-8500 8600-9216"

say "a copy of the data is a copy"
python3 "$T/seek.py" copy "$MNT/dev" "$T/copy"
cmp "$T/copy" "$T/model"
rm "$T/copy"
cp --sparse=always "$MNT/dev" "$T/copy"
cmp "$T/copy" "$T/model"

say "from the backing alone"
p flush dev
p umount "$MNT"
[ "$(python3 "$T/seek.py" list "$T/backing")" = "$(python3 "$T/seek.py" list "$T/model")" ] ||
  fail "the backing has data at $(python3 "$T/seek.py" list "$T/backing")"
cmp "$T/backing" "$T/model"
