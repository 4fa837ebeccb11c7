#!/usr/bin/env bash
# fio with verification, all block sizes, aligned and not, on the file and on a loop device, three times the cache.
. "$(dirname "$0")/lib.sh"

simple_setup 192M
run() {
  local name=$1 file=$2; shift 2
  say "$name"
  fio --name="$name" --filename="$file" --verify=crc32c --verify_fatal=1 --randrepeat=1 --randseed=7 --output="$T/fio" \
      --aux-path="$T" "$@" >"$T/fio.out" 2>&1 || { cat "$T/fio" "$T/fio.out" >&2; fail "$name"; }
}
run mixed-direct "$MNT/dev" --rw=randrw --bsrange=512-1m --blockalign=512 --direct=1 --ioengine=libaio --iodepth=16 --size=192M --io_size=250M
run mixed-unaligned "$MNT/dev" --rw=randrw --bsrange=512-64k --bs_unaligned=1 --ioengine=psync --size=64M --io_size=40M
run small-fsync "$MNT/dev" --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --fsync=32 --size=192M --io_size=48M
attach "$MNT/dev"
run loop-mixed "$LOOP" --rw=randrw --bsrange=512-1m --blockalign=512 --direct=1 --ioengine=libaio --iodepth=16 --size=192M --io_size=250M
run loop-buffered "$LOOP" --rw=randrw --bs=4k --ioengine=psync --fsync=64 --size=64M --io_size=32M
detach "$LOOP"
[ "$(stat_of dev checksum_errors)" -eq 0 ] || fail "checksum errors"
p flush dev
cmp "$MNT/dev" "$T/backing"
