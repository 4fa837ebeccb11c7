#!/usr/bin/env bash
# Each of the example fio jobs runs on a logical device without an error.
. "$(dirname "$0")/lib.sh"

simple_setup 256M
examples=$(cd "$(dirname "$0")/../../examples/fio" && pwd)
ran=0
for job in "$examples"/*.fio; do
  say "$(basename "$job")"
  # fio has no option to shorten the runtime of a section, so a copy of the job is shortened.
  sed 's/^runtime=.*/runtime=3s/' "$job" >"$T/job.fio"
  FILE=$MNT/dev timeout 300 fio --aux-path="$T" --output-format=json --output="$T/fio.json" "$T/job.fio" \
      >"$T/fio.out" 2>&1 || { cat "$T/fio.json" "$T/fio.out" >&2; fail "fio failed: $job"; }
  jq -e '[.jobs[] | .error == 0 and (.total_err // 0) == 0 and (.read.io_bytes + .write.io_bytes) > 0] | length > 0 and all' \
      "$T/fio.json" >/dev/null || { cat "$T/fio.json" >&2; fail "errors were counted, or nothing was done: $job"; }
  ran=$((ran + 1))
done
[ $ran -ge 4 ] || fail "only $ran jobs were found in $examples"
[ "$(stat_of dev checksum_errors)" -eq 0 ] || fail "checksum errors"
[ "$(stat_of dev lost_bytes)" -eq 0 ] || fail "lost data"
p flush dev
cmp "$MNT/dev" "$T/backing"
