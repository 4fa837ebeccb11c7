#!/usr/bin/env bash
# The power goes at every step of every sequence of one, two and three operations: a million states and more.
#
# usage: tests/crash/long.sh [CRASH]    the test program; build/release/tests/crash by default
#
# PCACHE_CRASH_SEED    of the first process; the ones after it take the numbers that follow (1)
# PCACHE_CRASH_JOBS    processes at a time (2)
#
# In a sequence of two or three the moments of the last operation are cut: those of the operations before it are those
# of the shorter sequences. Two processes never have the same medium and the same seed, so that no state counts twice.
# A failure prints the variables that run its sequence again. Exit status 1: something failed, or less was done than
# the totals at the end have to be.
set -euo pipefail
cd "$(dirname "$0")/../.."
crash=${1:-build/release/tests/crash}
seed=${PCACHE_CRASH_SEED:-1}
jobs=${PCACHE_CRASH_JOBS:-2}
shards=8
[ -x "$crash" ] || { echo "$crash is not there; build it with: cmake --build --preset release --target crash" >&2; exit 1; }
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PCACHE_CRASH_SEQUENCE
echo "commit $commit, PCACHE_CRASH_SEED=$seed to $((seed + shards)), $jobs processes at a time"

run_one() {  # SEED FILTER SHARD
  local out=$work/$3.${2//[^A-Za-z_]/}
  if PCACHE_CRASH_SEED=$1 PCACHE_CRASH_TRIPLES=999999999 PCACHE_CRASH_SHARD=$3 PCACHE_CRASH_SHARDS=$shards \
    "$crash" --gtest_brief=1 --gtest_filter="$2" >"$out" 2>&1; then
    grep -h '^AtEveryStep' "$out" | sed "s/^/seed $1 shard $3: /"
  else
    echo "FAILED at commit $commit, seed $1, $2:"
    cat "$out"
    touch "$work/failed"
  fi
}

begin=$SECONDS
start() {
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  run_one "$@" &
}
for ((shard = 0; shard < shards; shard++)); do
  for medium in cache_line page page_durable; do
    start $((seed + shard)) "*CrashTest.AtEveryStepOfThreeOperations/$medium" "$shard"
  done
done
for medium in cache_line page page_durable; do  # with a seed that no shard has
  start $((seed + shards)) "*CrashTest.AtEveryStepOfOneAndOfTwoOperations/$medium" 0
done
start "$seed" '*MetadataCut*' 0
wait
status=0
[ ! -e "$work/failed" ] || status=1

total() {  # NAME LEAST
  local sum
  sum=$(cat "$work"/* | awk -v name="$1" '/^AtEveryStep/ { for (i = 1; i < NF; i++) if ($i == name) n += $(i + 1) }
                                          END { printf "%d", n }')
  echo "total $1: $sum, at least $2"
  [ "$sum" -ge "$2" ] || { echo "FAILED: too few of $1"; status=1; }
}
total sequences 100000
total moments 500000
total distinct 1000000
total work_cuts 100000
total second_cuts 10000
total third_cuts 10000
echo "$((SECONDS - begin)) s, commit $commit, PCACHE_CRASH_SEED=$seed"
exit "$status"
