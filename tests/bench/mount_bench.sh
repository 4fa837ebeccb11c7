#!/usr/bin/env bash
# The mount's own cost: 4 KiB random read and write hits through pcachefs beside a FUSE server that only copies to and from
# memory, with one and with two threads, with the same fio jobs, in turns. One line a metric: medians of the rounds in
# IOPS, and their ratios.
# usage: tests/bench/mount_bench.sh [ROUNDS]   needs root, /dev/fuse and 12 GiB of memory
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-7}
PCACHEFS=${PCACHEFS:-build/release/pcachefs}
NULL_FUSE=${NULL_FUSE:-build/release/tests/bench/null_fuse}
T=$(mktemp -d /tmp/pcachefs-bench-XXXXXX)
SHM=$(mktemp -d /dev/shm/pcachefs-bench-XXXXXX)
export PCACHEFS_RUN_DIR=$T/run PMEM2_FORCE_GRANULARITY=CACHE_LINE
references=(null_fuse_1 null_fuse_2)  # by their number of threads
servers=(pcachefs "${references[@]}")
mkdir "${servers[@]/#/$T/}"
cleanup() {
  "$PCACHEFS" umount "$T/pcachefs" >/dev/null 2>&1 || true
  umount "${references[@]/#/$T/}" 2>/dev/null || true
  wait
  rm -rf "$T" "$SHM"
}
trap cleanup EXIT

size_mib=1024
for server in "${references[@]}"; do "$NULL_FUSE" "$T/$server" $size_mib "${server##*_}" 50 & done
truncate -s ${size_mib}M "$SHM/backing"
"$PCACHEFS" format "$SHM/cache" --size 8G
"$PCACHEFS" mount "$T/pcachefs" --cache "$SHM/cache" -o dirty_max_age=3600000,dirty_high=95%
"$PCACHEFS" add null "$SHM/backing"
for server in "${servers[@]}"; do
  until [ -e "$T/$server/null" ]; do sleep 0.1; done
  dd if=/dev/urandom of="$T/$server/null" bs=1M count=$size_mib conv=notrunc oflag=direct status=none
done
"$PCACHEFS" flush null
# The daemon maps its cache ahead of the first writes; that is over when it stops using its processor.
ticks() { awk '{print $14 + $15}' "/proc/$(pgrep -f "mount $T/pcachefs")/stat"; }
before=-1
until now=$(ticks) && [ "$now" -le $((before + 2)) ]; do
  before=$now
  sleep 1
done

# measure SERVER JOB: appends the IOPS to a file of the two.
measure() {
  local server=$1 job=$2 rw=${2%-*} options
  case $job in
    *-qd1) options=(--ioengine=psync --io_size=320M) ;;
    *-qd32) options=(--ioengine=libaio --iodepth=32 --io_size=640M) ;;
  esac
  fio --name="$job" --filename="$T/$server/null" --rw="$rw" --bs=4k --direct=1 --size=${size_mib}M --norandommap \
      --randrepeat=0 --aux-path="$T" --output-format=json --output="$T/fio.json" "${options[@]}" >/dev/null
  jq '.jobs[0] | .read.iops + .write.iops' "$T/fio.json" >>"$T/$server.$job"
}
median() { sort -n "$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

jobs=(randread-qd1 randwrite-qd1 randread-qd32 randwrite-qd32)
for _ in $(seq "$rounds"); do
  for job in "${jobs[@]}"; do
    for server in "${servers[@]}"; do measure "$server" "$job"; done
  done
  "$PCACHEFS" flush null
done
[ "$("$PCACHEFS" status null --json | jq '.logic_devs[0].read_misses')" -eq 0 ] || echo "some reads missed the cache"
for job in "${jobs[@]}"; do
  ours=$(median "$T/pcachefs.$job")
  echo "${job}_iops $ours"
  for server in "${references[@]}"; do
    awk -v name="${job}_to_${server}" -v a="$ours" -v b="$(median "$T/$server.$job")" \
        'BEGIN {printf "%s_iops %.0f\n%s_ratio %.3f\n", name, b, name, a / b}'
  done
done
