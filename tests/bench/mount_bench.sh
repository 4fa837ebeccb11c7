#!/usr/bin/env bash
# The mount's own cost: 4 KiB random read and write hits through pcachefs beside a FUSE server that only copies to and from
# memory, with the same fio jobs, in turns. One line a metric: medians of the rounds in IOPS, and their ratios.
# usage: tests/bench/mount_bench.sh [ROUNDS]   needs root, /dev/fuse and 11 GiB of memory
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-7}
PCACHEFS=${PCACHEFS:-build/release/pcachefs}
NULL_FUSE=${NULL_FUSE:-build/release/tests/bench/null_fuse}
T=$(mktemp -d /tmp/pcachefs-bench-XXXXXX)
SHM=$(mktemp -d /dev/shm/pcachefs-bench-XXXXXX)
export PCACHEFS_RUN_DIR=$T/run PMEM2_FORCE_GRANULARITY=CACHE_LINE
mkdir "$T/pcachefs" "$T/null_fuse"
cleanup() {
  "$PCACHEFS" umount "$T/pcachefs" >/dev/null 2>&1 || true
  umount "$T/null_fuse" 2>/dev/null || true
  wait
  rm -rf "$T" "$SHM"
}
trap cleanup EXIT

size_mib=1024
"$NULL_FUSE" "$T/null_fuse" $size_mib 2 50 &
truncate -s ${size_mib}M "$SHM/backing"
"$PCACHEFS" format "$SHM/cache" --size 8G
"$PCACHEFS" mount "$T/pcachefs" --cache "$SHM/cache" -o writeback_delay_ms=3600000,dirty_high=95
"$PCACHEFS" add null "$SHM/backing"
until [ -e "$T/null_fuse/null" ]; do sleep 0.1; done
for server in pcachefs null_fuse; do
  dd if=/dev/urandom of="$T/$server/null" bs=1M count=$size_mib conv=notrunc oflag=direct status=none
done
"$PCACHEFS" flush null

# measure SERVER JOB: appends the IOPS to a file of the two.
measure() {
  local server=$1 job=$2 rw=${2%-*} options
  case $job in
    *-qd1) options=(--ioengine=psync --io_size=160M) ;;
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
    measure null_fuse "$job"
    measure pcachefs "$job"
  done
  "$PCACHEFS" flush null
done
[ "$("$PCACHEFS" status null --json | jq '.logic_devs[0].read_misses')" -eq 0 ] || echo "some reads missed the cache"
for job in "${jobs[@]}"; do
  ours=$(median "$T/pcachefs.$job") reference=$(median "$T/null_fuse.$job")
  awk -v job="$job" -v a="$ours" -v b="$reference" \
      'BEGIN {printf "%s_iops %.0f\n%s_reference_iops %.0f\n%s_ratio %.3f\n", job, a, job, b, job, a / b}'
done
