#!/usr/bin/env bash
# A device ten times the cache is written end to end: no stall, no error, nothing lost, memory bounded.
. "$(dirname "$0")/lib.sh"

CACHE_SIZE=32M simple_setup 320M
pid=$(daemon_pid "$MNT")
rss() { awk '/VmRSS/ {print $2}' "/proc/$pid/status"; }
before=$(rss)
fio --name=fill --filename="$MNT/dev" --rw=write --bs=128k --direct=1 --ioengine=libaio --iodepth=8 --size=320M \
    --verify=crc32c --do_verify=0 --output="$T/fio" --aux-path="$T" || { cat "$T/fio"; fail "writing"; }
fio --name=random --filename="$MNT/dev" --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=32 --size=320M \
    --io_size=160M --verify=crc32c --do_verify=1 --output="$T/fio" --aux-path="$T" || { cat "$T/fio"; fail "random writing"; }
after=$(rss)
[ $((after - before)) -lt 65536 ] || fail "memory grew from $before to $after KiB"
[ "$(stat_of dev written_back_bytes)" -ge $((290 << 20)) ] || fail "written back only $(stat_of dev written_back_bytes)"
p flush dev
cmp "$MNT/dev" "$T/backing"
