#!/usr/bin/env bash
# Builds the fuzz targets with libFuzzer (clang) and runs all of them, two at a time.
#
# usage: tests/fuzz/run.sh [SECONDS | RUNSx] [TARGET[=RUNS]...]
#   SECONDS (60) or, as in 1000x, RUNS for each target that has no RUNS of its own. They begin in the order given.
#
# Each begins with its corpus; what it finds beyond that stays in build/fuzz/found/TARGET and is where the next run goes
# on. Prints the executions of each target and of all. Exit status 1 if any of them crashed, hung, or took more than
# 2 GiB; the input that did it is then in build/fuzz/failed, with the command that runs it again.
#
# tests/fuzz/run.sh --merge writes the smallest part of corpus and found inputs that covers the same back to the corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$PWD/build/fuzz

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
mkdir -p "$build/failed" "$build/logs"

all_targets() { find "$build/tests/fuzz" -maxdepth 1 -type f -name "fuzz_*" -printf "%f\n" | sed "s/^fuzz_//" | sort; }

if [ "${1:-}" = --merge ]; then
  shift
  for target in ${*:-$(all_targets)}; do
    merged=$(mktemp -d)
    mkdir -p "$build/found/$target"
    "$build/tests/fuzz/fuzz_$target" -merge=1 -max_len=4096 -close_fd_mask=3 "$merged" "tests/fuzz/corpus/$target" \
      "$build/found/$target" >"$build/logs/$target.merge" 2>&1
    rm -rf "tests/fuzz/corpus/$target"
    mv "$merged" "tests/fuzz/corpus/$target"
    chmod -R a+rX "tests/fuzz/corpus/$target"
    echo "$target: $(find "tests/fuzz/corpus/$target" -type f | wc -l) inputs," \
      "$(du -sb "tests/fuzz/corpus/$target" | cut -f1) bytes"
  done
  exit 0
fi

limit=${1:-60}
shift || true
case $limit in
  *x) limit=-runs=${limit%x} ;;
  *) limit=-max_total_time=$limit ;;
esac
[ $# -gt 0 ] || set -- $(all_targets)

run_target() {
  local target=${1%=*}
  case $1 in
    *=*) limit=-runs=${1#*=} ;;
  esac
  mkdir -p "$build/found/$target"
  "$build/tests/fuzz/fuzz_$target" "$limit" -max_len=4096 -timeout=120 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=1 -artifact_prefix="$build/failed/$target-" \
    "$build/found/$target" "tests/fuzz/corpus/$target" >"$build/logs/$target" 2>&1
}
export -f run_target
export build limit

status=0
printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'run_target {}' || status=1

total=0
for target in "${@%=*}"; do
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/logs/$target")
  coverage=$(grep -o 'cov: [0-9]*' "$build/logs/$target" | tail -1 || true)
  echo "$target: ${runs:-?} executions, ${coverage:-no coverage}"
  total=$((total + ${runs:-0}))
  failed=$(sed -n 's/.*Test unit written to //p' "$build/logs/$target")
  if [ -n "$failed" ]; then
    echo "FAILED: $target at commit $(git rev-parse --short HEAD); $build/logs/$target says how"
    echo "  again: $build/tests/fuzz/fuzz_$target $failed"
  fi
done
echo "all: $total executions"
[ $status -eq 0 ] || echo "FAILED"
exit $status
